"""``jobctl jobs retry|cancel|delete`` on all that match, the export, completion, and the examples of every help."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import os
import pty
import re
import shlex
from typing import Any

import pytest
import trio
import typer
from cli_kit import Cli, cli  # noqa: F401
from typer.main import get_command

from jobctl.cli import examples, jobs, main
from jobctl.engine.registry import Registry
from jobctl.web import bulk
from tests.kit import Running, StartServer


@pytest.fixture
async def server(start_server: StartServer, cli: Cli) -> Running:
    registry = Registry(accept_unknown=True)

    @registry.job("hold")
    async def hold(ctx: Any) -> None:
        await trio.sleep_forever()

    running = await start_server(registry)
    cli.url = running.service.url
    return running


async def counts(server: Running) -> dict[str, int]:
    stats = (await server.store.stats(owner=None)).value
    names = ("pending", "running", "cancelled", "total")
    return {name: n for name in names if (n := getattr(stats, name))}


async def test_all_that_match_are_acted_on_with_yes(server: Running, cli: Cli) -> None:
    await server.enqueue(4, queue="q", tags=("t",))
    await server.enqueue(1, queue="q")
    done = await cli("jobs", "cancel", "--queue", "q", "--tag", "t", "--yes")
    assert (done.code, done.out, done.err) == (0, "4 jobs cancelled, or asked to stop\n", "")
    done = await cli("jobs", "retry", "--queue", "q", "--yes")
    skipped = "1 skipped, their status does not allow it or a live job has their unique key"
    assert done.out == f"4 jobs put back in the queue; {skipped}\n"
    done = await cli("jobs", "delete", "--status", "pending", "--name", "noop", "--yes", "--json")
    assert done.json == [{"matched": 5, "changed": 5, "skipped": 0, "byStatus": {"pending": 5}, "cursor": None}]
    assert await counts(server) == {}


async def test_without_yes_a_script_is_told_the_count_and_what_to_do(server: Running, cli: Cli) -> None:
    await server.enqueue(4)
    await server.hold()
    done = await cli("jobs", "delete", "--search", "o")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "jobctl: this would delete 4 jobs (4 pending, 1 running; 1 of them are skipped); nothing was done. "
        "Give --yes to do it without being asked\n"
    )
    assert await counts(server) == {"pending": 4, "running": 1, "total": 5}
    assert (await cli("jobs", "delete", "--queue", "none")).out == "0 jobs deleted\n"


@pytest.mark.parametrize(
    ("said", "left"),
    [("y\n", {}), ("yes\n", {}), ("\n", {"pending": 3, "total": 3}), ("no\n", {"pending": 3, "total": 3})],
)
async def test_on_a_terminal_it_asks_with_the_count(server: Running, cli: Cli, said: str, left: dict[str, int]) -> None:
    await server.enqueue(3)
    ours, theirs = pty.openpty()
    with trio.fail_after(30):
        process = cli.start("jobs", "delete", "--status", "pending", stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        while b"[y/N] " not in shown:
            await trio.lowlevel.wait_readable(ours)
            shown += os.read(ours, 1000)
        assert b"delete 3 jobs (3 pending)? " in shown
        os.write(ours, said.encode())
        assert await process.ended() == 0
    os.close(ours)
    assert await counts(server) == left


@pytest.mark.parametrize(
    "arguments", [("retry",), ("retry", "01890000-0000-7000-8000-000000000000", "--queue", "q"), ("delete", "--yes")]
)
async def test_jobs_are_named_or_described_and_not_both(cli: Cli, arguments: tuple[str, ...]) -> None:
    cli.url = "http://127.0.0.1:1"
    done = await cli("jobs", *arguments)
    assert (done.code, done.out) == (2, "")
    assert "name jobs, or say which with --status" in done.err


async def test_many_are_done_in_several_requests(server: Running, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MAX_JOBS", 4)
    monkeypatch.setattr(bulk, "PAGE", 2)
    await server.enqueue(11)
    done = await cli("jobs", "delete", "--status", "pending", "--yes")
    assert done.out == "11 jobs deleted\n"
    from jobctl.client import Client

    await server.enqueue(11)
    async with Client(server.service.url, server.token()) as client:
        assert (await client.bulk("delete", statuses=["pending"], dry_run=True)).matched == 11
        done_all = await client.bulk("delete", statuses=["pending"])
        assert (done_all.changed, done_all.cursor, done_all.by_status) == (11, None, {"pending": 11})
    assert await counts(server) == {}


async def test_an_export_has_every_job_once_a_line_as_the_api_shows_it(server: Running, cli: Cli) -> None:
    ids = await server.enqueue(jobs.MAX_PAGE * 2 + 5, queue="q", data=b'{"text":"\xc3\xa4 ]}"}')
    await server.enqueue(3)
    done = await cli("jobs", "list", "--all", "--json", "--queue", "q")
    assert (done.code, done.err) == (0, "")
    assert [each["id"] for each in done.json] == list(reversed(ids))
    [shown] = (await cli("jobs", "show", ids[0], "--json")).json
    assert done.json[-1] == shown
    plain = await cli("jobs", "list", "--all", "--queue", "q")
    assert [each.split("\t")[0] for each in plain.lines] == list(reversed(ids))
    one_page = await cli("jobs", "list", "--json", "--queue", "q")
    assert [len(page["jobs"]) for page in one_page.json] == [50]


async def test_the_shell_completes_commands_and_options(cli: Cli) -> None:
    for words, n, expected in (("jobctl jobs ", "2", "retry"), ("jobctl jobs list --st", "3", "--status")):
        done = await cli(env={"_JOBCTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": n})
        assert expected in done.lines
    shown = await cli("--show-completion", env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": ""})
    assert "--install-completion" in (await cli("--help")).out
    assert shown.code in (0, 1)  # depends on the shell that runs the tests


def test_every_command_has_examples_that_name_it() -> None:
    found = dict(examples.commands(main.app))
    for path, command in found.items():
        assert f"jobctl {path}" in (command.epilog or "").replace("$(jobctl token)", "jobctl token"), path
    groups = {group.name for group in main.app.registered_groups}
    assert examples.EXAMPLES.keys() <= found.keys() | groups


async def test_examples_stand_in_the_help_as_they_are_written(cli: Cli) -> None:
    done = await cli("jobs", "retry", "--help")
    assert (
        "  Examples:\n    jobctl jobs retry ID ID\n    jobctl jobs retry --status failed --queue mail --yes\n"
        in done.out
    )


def test_every_example_is_understood_by_its_command() -> None:
    """Options are real, and arguments fit; nothing is run."""
    for path, shown in examples.EXAMPLES.items():
        for example in shown:
            plain = re.sub(r'"[^"]*\$\(date.*?\)[^"]*"', "x", example)
            words = shlex.split(re.split(r" [|>] ", re.sub(r".*\$\((.*?)\).*", r"\1", plain))[0])[1:]
            command: Any = get_command(main.app)
            context = typer.Context(command, info_name="jobctl")
            while words and (inner := getattr(command, "commands", {}).get(words[0])):
                command = inner
                words.pop(0)
                context = typer.Context(command, parent=context)
            if words or not hasattr(command, "commands"):
                command.parse_args(context, words)
            assert command.name in path
