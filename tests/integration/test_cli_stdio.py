"""What commands do where their standard streams are closed, full, or nobody reads them."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import warm
from cli_kit import Cli, Result, cli  # noqa: F401

from jobctl.engine.registry import Registry
from tests.kit import Running, StartServer, until

NO_FULL = not Path("/dev/full").exists()
FULL = pytest.param(">/dev/full", "No space left on device", marks=pytest.mark.skipif(NO_FULL, reason="no /dev/full"))


@pytest.fixture
async def server(start_server: StartServer, cli: Cli) -> Running:
    registry = Registry(accept_unknown=False)
    registry.job("ok")(lambda ctx: ctx.log("hello"))
    running = await start_server(registry, cancel_grace=0.1)
    cli.url = running.service.url
    return running


async def shell(cli: Cli, redirection: str, *arguments: str, stdin: bytes = b"", **env: str) -> Result:
    """``jobctl ARGUMENTS REDIRECTION`` in bash; the exit code is jobctl's own, also in a pipe."""
    command = f"{shlex.join(cli.arguments(*arguments))} {redirection}; exit ${{PIPESTATUS[0]}}"
    with trio.fail_after(60):
        done = await trio.run_process(
            ["bash", "-c", command], stdin=stdin, capture_stdout=True, capture_stderr=True, check=False,
            env=cli.env(env), cwd=cli.folder,
        )  # fmt: skip
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


async def onto(cli: Cli, stdout: int | None, *arguments: str, stderr: int | None = None) -> Result:
    """The same without bash, and without the start-up, onto descriptors."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with trio.fail_after(60):
            code = await warm.run(
                [*arguments], stdin=given.fileno(), stdout=out.fileno() if stdout is None else stdout,
                stderr=err.fileno() if stderr is None else stderr, env=cli.env(), cwd=cli.folder,
            )  # fmt: skip
        told = [each.read().decode() for each in (out, err) if each.seek(0) == 0]
    return Result(code, *told)


@pytest.fixture
def gone() -> Iterator[int]:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture
def full() -> Iterator[int]:
    if NO_FULL:
        pytest.skip("no /dev/full")
    with Path("/dev/full").open("wb") as device:
        yield device.fileno()


@pytest.mark.parametrize(
    ("redirection", "why"), [(">&-", "Bad file descriptor"), ("| head -c0", "Broken pipe"), FULL]
)
async def test_a_job_whose_id_cannot_be_printed_is_enqueued_and_named(
    server: Running, cli: Cli, redirection: str, why: str
) -> None:
    for more in ((), ("--wait", "--json")):
        done = await shell(cli, redirection, "enqueue", "ok", *more)
        assert done.code == 74
        [job, *_] = (await cli("jobs", "list", "--json")).json[0]["jobs"]
        assert done.err.startswith(f"jobctl: cannot write to standard output: {why}; the job is enqueued: {job['id']}")
        assert done.err.count("\n") == 1


async def test_what_cannot_be_shown_is_one_line_and_exit_code_74(server: Running, cli: Cli, full: int) -> None:
    [job_id] = (await cli("enqueue", "ok", "--wait")).lines
    commands: tuple[tuple[str, ...], ...] = (
        ("jobs", "list"), ("jobs", "show", job_id), ("jobs", "logs", job_id, "--json"), ("token",), ("doctor",),
        ("watch", job_id, "--until-done"), ("enqueue", "--help"), ("--version",), ("--help",), ("open", "--print"),
        ("jobs", "list", "--all", "--json"), ("jobs", "logs", job_id, "--follow"), ("queues", "list"),
        ("token", "list"), ("schedules", "list"), ("config", "show"), ("watch", job_id, "--until-done", "--json"),
    )  # fmt: skip
    told = "jobctl: cannot write to standard output: No space left on device\n"
    for command in commands:
        done = await onto(cli, full, *command)
        assert (done.code, done.err) == (74, told), command


async def test_a_closed_stdout_is_named_by_commands_that_only_show_too(server: Running, cli: Cli) -> None:
    for command in (("--version",), ("queues", "list")):
        done = await shell(cli, ">&-", *command)
        assert (done.code, done.err) == (74, "jobctl: cannot write to standard output: Bad file descriptor\n")


async def test_what_a_command_has_done_is_told_on_stderr_where_stdout_takes_nothing(
    server: Running, cli: Cli, gone: int
) -> None:
    first, second = [(await cli("enqueue", "ok", "--wait")).out.strip() for _ in range(2)]
    told: dict[tuple[str, ...], str] = {
        ("jobs", "retry", first, "--json"): f"until here, the last one: {first} pending",
        ("jobs", "delete", second): f"until here, the last one: {second} deleted",
        ("enqueue", "ok", "--wait"): "the job is enqueued: ",
        ("queues", "pause", "default"): "default paused",
        ("token", "create", "--name", "ci"): "the token is issued, and lost: `jobctl token revoke ci`",
        ("schedules", "add", "s", "--cron", "0 0 1 1 *", "--job", "ok"): "it is done: s: next run in",
        ("db", "backup", "b.db"): f"the backup is written: {cli.folder}/b.db",
    }
    for command, words in told.items():
        done = await onto(cli, gone, *command)
        assert done.code == 74, command
        assert done.err.startswith(f"jobctl: cannot write to standard output: Broken pipe; {words}"), command
        assert done.err.count("\n") == 1
    pruned = await onto(cli, gone, "jobs", "prune", "--older-than", "0s", "--yes")
    assert pruned.code == 74
    assert re.search(r"; [23] jobs \([23] completed\) removed\n$", pruned.err)  # the one that was retried may wait yet


async def test_a_reader_that_has_left_a_command_that_only_shows_is_nothing_to_tell(
    server: Running, cli: Cli, gone: int
) -> None:
    await cli("enqueue", "ok")
    for command in (("jobs", "list"), ("jobs", "list", "--json"), ("--help",), ("queues", "list")):
        done = await onto(cli, gone, *command)
        assert (done.code, done.err) == (0, ""), command


async def test_a_full_stderr_or_one_that_nobody_reads_changes_no_exit_code(
    server: Running, cli: Cli, gone: int, full: int
) -> None:
    for stderr in (gone, full):
        for command, code in ((("enqueue", "nope"), 2), (("enqueue", "ok", "--wait"), 0), (("jobs",), 2)):
            assert (await onto(cli, full if code else None, *command, stderr=stderr)).code == code, command


async def test_a_closed_stderr_changes_no_exit_code(server: Running, cli: Cli) -> None:
    assert (await shell(cli, "2>&-", "enqueue", "nope")).code == 2
    assert (await shell(cli, ">&- 2>&- <&-", "enqueue", "ok")).code == 74


async def test_a_closed_stdin_is_one_line(server: Running, cli: Cli) -> None:
    done = await shell(cli, "<&-", "enqueue", "--file", "-")
    assert (done.code, done.err) == (2, "jobctl: cannot read standard input: Bad file descriptor\n")
    asked = await shell(cli, "<&-", "jobs", "retry", "--status", "completed")
    assert asked.code == 0
    assert (await shell(cli, "<&-", "enqueue", "ok", "--wait")).code == 0


async def test_a_server_outlives_a_full_stderr(cli: Cli) -> None:
    if NO_FULL:
        pytest.skip("no /dev/full")
    command = f"{shlex.join(cli.arguments('serve', '--port', '0', '--db', 'x.db'))} >&- 2>/dev/full <&- & echo $!"
    started = await trio.run_process(["bash", "-c", command], capture_stdout=True, env=cli.env(), cwd=cli.folder)
    process = int(started.stdout)
    try:
        await until((cli.folder / "x.db").exists, 20)
        os.kill(process, 0)
    finally:
        os.kill(process, 15)


async def test_an_output_that_does_not_block_is_waited_for(server: Running, cli: Cli) -> None:
    """A pipe that somebody who shares it has made non-blocking, as ssh and node do."""
    lines = b'{"name":"ok","delay":60,"tags":["%s"]}\n' % (b"x" * 60) * 1000
    assert (await cli("enqueue", "--file", "-", stdin=lines)).code == 0
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = cli.start("jobs", "list", "--all", "--json", stdout=writer, stderr=2)
    os.close(writer)
    text = b""
    async with trio.lowlevel.FdStream(reader) as pipe:
        with trio.fail_after(30):
            await trio.sleep(0.5)  # it fills the pipe
            async for chunk in pipe:
                text += chunk
            assert await process.ended() == 0
    assert len([json.loads(line) for line in text.splitlines()]) == 1000


async def test_what_an_encoding_lacks_is_escaped_and_json_stays_json(server: Running, cli: Cli) -> None:
    [job_id] = (await cli("enqueue", "ok", "--tag", "é✔", "--delay", "60")).lines
    shown = await shell(cli, "", "jobs", "show", job_id, "--json", PYTHONIOENCODING="ascii")
    assert json.loads(shown.out)["tags"] == ["é✔"]
    watched = await shell(cli, "", "watch", job_id, "--timeout", "0.2", PYTHONIOENCODING="ascii")
    assert watched.code == 4
    assert "\\xb7 pending" in watched.out
