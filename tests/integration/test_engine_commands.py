"""Handlers that are programs: arguments, output, exit, and that nothing of them is left."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import trio
from engine_kit import add_command, engine, wait_for

from jobctl.engine import commands
from jobctl.engine.registry import Registry

PRINT_ARGV = "import json, sys; print(json.dumps(sys.argv[1:]))"


def shell(registry: Registry, script: str, **settings: Any) -> None:
    add_command(registry, "sh", "/bin/sh", "-c", script.replace("{", "{{").replace("}", "}}"), **settings)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_a_command_that_exits_with_0_is_completed(tmp_path: Path) -> None:
    registry = Registry()
    shell(registry, "echo out; echo err >&2")
    async with engine(tmp_path, registry) as e:
        job = await e.run("sh")
        lines = (await e.store.logs(job.id, owner=None)).value.lines
    assert job.status == "completed"
    assert msgspec.json.decode(bytes(job.result)) == {"exitCode": 0}
    assert sorted((line.stream, line.text) for line in lines) == [("stderr", "err"), ("stdout", "out")]


async def test_spaces_quotes_and_newlines_stay_one_argument(tmp_path: Path) -> None:
    registry = Registry()
    add_command(registry, "argv", sys.executable, "-c", PRINT_ARGV, "{a}", "--b={b}", "{{x}}")
    data = {"a": "a b\n'c' \"d\" $(touch /tmp/never) ; ä", "b": 7}
    async with engine(tmp_path, registry) as e:
        job = await e.run("argv", data)
        (line,) = await e.log(job.id)
    assert msgspec.json.decode(line) == [data["a"], "--b=7", "{x}"]


async def test_the_exit_code_and_the_last_lines_of_stderr_are_the_error(tmp_path: Path) -> None:
    registry = Registry()
    shell(registry, "for i in $(seq 50); do echo line $i >&2; done; echo noise; exit 3")
    async with engine(tmp_path, registry) as e:
        job = await e.run("sh")
    assert job.status == "failed"
    assert job.error == "exit code 3\n" + "\n".join(f"line {i}" for i in range(31, 51))


async def test_a_signal_that_killed_it_is_named(tmp_path: Path) -> None:
    registry = Registry()
    shell(registry, "kill -SEGV $$")
    async with engine(tmp_path, registry) as e:
        job = await e.run("sh")
    assert job.error == "killed by SIGSEGV"


async def test_progress_lines_become_progress_and_not_log(tmp_path: Path) -> None:
    registry = Registry()
    shell(registry, "echo ::progress 0.4 resizing; echo ::progress; echo ::progress x; echo ::progress 7")
    async with engine(tmp_path, registry) as e:
        job = await e.run("sh")
        assert await e.log(job.id) == ["::progress", "::progress x"]
        assert job.progress is not None
        assert job.progress.value == 1.0
        shown = await e.progress(job.id)
    assert set(shown) <= {0.4, 1.0}


async def test_the_environment_is_small_and_carries_the_jobs_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JOBCTL_SECRET", "JOBCTL_TOKEN", "OTHER_SECRET"):
        monkeypatch.setenv(name, "hidden")
    registry = Registry()
    shell(registry, "env; pwd; cat", cwd=tmp_path, env={"MINE": "yes"})
    async with engine(tmp_path, registry) as e:
        job = await e.run("sh", max_attempts=2)
        lines = await e.log(job.id)
    assert not [line for line in lines if "hidden" in line]
    assert {f"JOBCTL_JOB_ID={job.id}", "JOBCTL_RUN=1", "JOBCTL_ATTEMPT=1", "MINE=yes", str(tmp_path)} <= set(lines)


async def test_output_without_line_breaks_or_utf_8_is_bounded_and_replaced(tmp_path: Path) -> None:
    registry = Registry()
    shell(registry, r"head -c 100000 /dev/zero | tr '\0' x; printf '\377\n'")
    async with engine(tmp_path, registry) as e:
        job = await e.run("sh")
        lines = await e.log(job.id)
    assert "".join(lines) == "x" * 100_000 + "\ufffd"
    assert max(map(len, lines)) <= 8192


async def test_a_command_that_writes_fast_loses_no_line(tmp_path: Path) -> None:
    registry = Registry()
    shell(registry, "seq 50000; seq 20000 >&2")
    async with engine(tmp_path, registry) as e:
        job = await e.run("sh")
        assert job.status == "completed"
        lines = []
        after = 0
        while page := (await e.store.logs(job.id, owner=None, after=after, limit=10_000)).value.lines:
            lines += page
            after = page[-1].n
    assert [line.text for line in lines if line.stream == "stdout"] == [str(i) for i in range(1, 50_001)]
    assert [line.text for line in lines if line.stream == "stderr"] == [str(i) for i in range(1, 20_001)]


async def test_a_cancelled_command_gets_sigterm_with_its_whole_group(tmp_path: Path) -> None:
    registry = Registry()
    shell(registry, "trap 'echo bye; exit 0' TERM; sleep 60 & echo $!; wait")
    async with engine(tmp_path, registry, cancel_grace=5) as e:
        job_id = await e.enqueue("sh")
        with trio.fail_after(10):
            while not await e.log(job_id):
                await trio.sleep(0.01)
        await e.store.cancel(job_id, owner=None)
        job = await e.until(job_id)
        lines = await e.log(job_id)
    assert job.status == "cancelled"
    assert job.attempts == 1
    assert lines[-1] == "bye"
    await wait_for(lambda: not alive(int(lines[0])))


async def test_a_command_that_ignores_sigterm_is_killed_after_the_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "TIMEOUT_KILL_S", 60.0)  # that is for time-outs
    registry = Registry()
    shell(registry, "trap '' TERM; echo $$; sleep 60; sleep 60")
    async with engine(tmp_path, registry, cancel_grace=0.2) as e:
        job_id = await e.enqueue("sh")
        with trio.fail_after(10):
            while not (lines := await e.log(job_id)):
                await trio.sleep(0.01)
        began = trio.current_time()
        await e.store.cancel(job_id, owner=None)
        job = await e.until(job_id)
    assert job.status == "cancelled"
    assert trio.current_time() - began >= 0.2
    await wait_for(lambda: not alive(int(lines[0])))


async def test_a_command_that_takes_too_long_fails_and_is_tried_again(tmp_path: Path) -> None:
    registry = Registry()
    shell(registry, "echo $$; exec sleep 60")
    async with engine(tmp_path, registry) as e:
        job = await e.until(await e.enqueue("sh", timeout=1.5, max_attempts=2), "retrying")
        lines = await e.log(job.id)
    assert job.error == "timed out after 1.5 s"
    assert job.attempts == 1
    await wait_for(lambda: not alive(int(lines[0])))


async def test_a_daemon_that_keeps_the_pipes_open_does_not_keep_the_run(tmp_path: Path) -> None:
    registry = Registry()
    shell(registry, "setsid sleep 60 & echo $!; sleep 60 & echo $!; sleep 0.2; exit 0")
    async with engine(tmp_path, registry) as e:
        job = await e.run("sh")
        lines = await e.log(job.id)
    daemon, child = map(int, lines)
    os.kill(daemon, signal.SIGKILL)
    assert job.status == "completed"
    await wait_for(lambda: not alive(child))


async def test_a_daemon_of_the_book_outlives_its_command_and_keeps_nothing_of_it(tmp_path: Path) -> None:
    """Forked twice, in a session of its own, with no file of its parent's: it is not ours to end."""
    registry = Registry()
    fork = "(setsid sh -c 'sleep 60 & echo $! >&3' </dev/null >/dev/null 2>&1) 3>daemon"
    shell(registry, f"{fork}; echo started", cwd=tmp_path)
    before = open_files()
    async with engine(tmp_path, registry) as e:
        job = await e.run("sh")
        lines = await e.log(job.id)
        daemon = int((tmp_path / "daemon").read_text())
    try:
        assert (job.status, lines) == ("completed", ["started"])
        assert alive(daemon)
        assert open_files() <= before
    finally:
        os.kill(daemon, signal.SIGKILL)


@pytest.mark.parametrize(("code", "status"), [(0, "completed"), (3, "failed")])
async def test_a_command_that_closes_its_output_is_waited_for(tmp_path: Path, code: int, status: str) -> None:
    """The end of its output is not its end: what it does next, and how it ends, count."""
    registry = Registry()
    shell(registry, f"echo before; exec >&- 2>&-; sleep 0.3; touch done; exit {code}", cwd=tmp_path)
    async with engine(tmp_path, registry) as e:
        job = await e.run("sh")
        assert (tmp_path / "done").exists()
        assert await e.log(job.id) == ["before"]
    assert job.status == status
    assert code == 0 or (job.error or "").startswith("exit code 3")


async def test_a_command_that_closes_its_output_is_ended_when_its_time_is_up(tmp_path: Path) -> None:
    registry = Registry()
    shell(registry, "echo $$; exec >&- 2>&-; trap '' TERM; sleep 60; sleep 60")
    async with engine(tmp_path, registry, cancel_grace=0.2) as e:
        job_id = await e.enqueue("sh")
        with trio.fail_after(10):
            while not (lines := await e.log(job_id)):
                await trio.sleep(0.01)
        await e.store.cancel(job_id, owner=None)
        job = await e.until(job_id)
    assert job.status == "cancelled"
    assert not alive(int(lines[0]))


async def test_a_child_that_goes_on_writing_does_not_keep_the_run(tmp_path: Path) -> None:
    registry = Registry()
    shell(registry, "(while :; do echo more; sleep 0.01; done) & echo $!; exit 0")
    async with engine(tmp_path, registry) as e:
        job = await e.run("sh")
        lines = await e.log(job.id)
    assert job.status == "completed"
    await wait_for(lambda: not alive(int(next(line for line in lines if line.isdigit()))))


async def test_the_process_is_recorded_before_its_output_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()
    shell(registry, "echo $$; cut -d' ' -f22 /proc/$$/stat")
    async with engine(tmp_path, registry) as e:
        recorded: list[tuple[int, int]] = []
        logged: list[str] = []
        real_record, real_append = e.store.record_process, e.store.append_logs

        async def record(job_id: str, run: int, pid: int, started: int) -> bool:
            assert not logged
            recorded.append((pid, started))
            return await real_record(job_id, run, pid, started)

        async def append(job_id: str, run: int, lines: Any) -> bool:
            logged.extend(line.text for line in lines)
            return await real_append(job_id, run, lines)

        monkeypatch.setattr(e.store, "record_process", record)
        monkeypatch.setattr(e.store, "append_logs", append)
        await e.run("sh")
    assert recorded == [(int(logged[0]), int(logged[1]))]


async def test_a_program_that_is_gone_fails_with_the_reason(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    registry = Registry()
    add_command(registry, "tool", str(program))
    program.unlink()
    async with engine(tmp_path, registry) as e:
        job = await e.run("tool")
    assert job.error == f"cannot start {program}: No such file or directory"


async def test_data_that_the_command_no_longer_fits_fails_for_good(tmp_path: Path) -> None:
    registry = Registry()
    add_command(registry, "echo", "echo", "{text}")
    async with engine(tmp_path, registry) as e:
        dash = await e.run("echo", {"text": "-n"}, max_attempts=3)
        missing = await e.run("echo", {}, max_attempts=3)
    assert (dash.status, dash.attempts) == ("failed", 1)
    assert "could be taken for an option" in (dash.error or "")
    assert missing.error == "echo needs data.text"


async def test_file_descriptors_and_children_return_to_where_they_were(tmp_path: Path) -> None:
    registry = Registry()
    shell(registry, "echo hello")
    me = psutil.Process()
    async with engine(tmp_path, registry) as e:
        await e.run("sh")
        before, children = open_files(), me.children()
        for _ in range(10):
            await e.run("sh")
        await wait_for(lambda: not e.runner.live)
        assert open_files() <= before + 1
        assert me.children() == children  # what has ended and was not waited for would stand here as well


async def test_a_runner_that_is_cancelled_from_outside_kills_its_commands(tmp_path: Path) -> None:
    registry = Registry()
    shell(registry, "echo $$; exec sleep 60")
    async with engine(tmp_path, registry) as e:
        job_id = await e.enqueue("sh")
        with trio.fail_after(10):
            while not (lines := await e.log(job_id)):
                await trio.sleep(0.01)
        assert e.runner._nursery is not None
        e.runner._nursery.cancel_scope.cancel()
        await wait_for(lambda: not alive(int(lines[0])))
