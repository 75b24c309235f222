"""Ctrl-C, SIGTERM and SIGHUP, from the first moment on."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib

import pytest
import trio
from cli_kit import ROOT, Cli, Terminal, cli  # noqa: F401

from tests.kit import StartServer

INTERRUPTED = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)\n"
"""A module that takes the place of a real one, and is interrupted while it is imported."""


async def interrupted_while_importing(cli: Cli, module: str, *arguments: str) -> tuple[int, str]:
    shadow = cli.folder / "shadow"
    shadow.mkdir()
    (shadow / f"{module}.py").write_text(INTERRUPTED)
    env = cli.env({"PYTHONPATH": f"{shadow}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"})
    with trio.fail_after(20):
        done = await trio.run_process(
            cli.arguments(*arguments), capture_stdout=True, capture_stderr=True, check=False, env=env, cwd=cli.folder
        )
    assert done.stdout == b""
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("inspect", ("--help",)),  # of typer's own imports
        ("typer", ("--help",)),
        ("msgspec", ("enqueue", "ok")),
        ("httpx2", ("watch",)),
        ("structlog", ("serve",)),
        ("quart", ("serve",)),
    ],
)
async def test_ctrl_c_during_an_import_is_quiet(cli: Cli, module: str, arguments: tuple[str, ...]) -> None:
    if "watch" in arguments or "enqueue" in arguments:
        (cli.folder / "token").write_text("x")
        arguments = (*arguments, "--token-file", "token")
    assert await interrupted_while_importing(cli, module, *arguments) == (130, "")


async def test_nothing_is_imported_before_ctrl_c_is_quiet() -> None:
    code = "import sys; before = {*sys.modules, 'signal'}; import signal; before |= {*sys.modules}; "
    code += "import jobctl.cli.start; print(*({*sys.modules} - before))"
    done = await trio.run_process([sys.executable, "-c", code], capture_stdout=True, cwd=ROOT)
    assert sorted(done.stdout.decode().split()) == ["jobctl", "jobctl.cli", "jobctl.cli.start"]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert scripts == {"jobctl": "jobctl.cli.start:run"}


async def test_ctrl_c_that_was_ignored_from_the_start_stays_so(cli: Cli) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    code = "from os import getpid, kill; from jobctl.cli import start; start.leave_at_once(); kill(getpid(), 2); "
    code += "start.leave_in_order(); kill(getpid(), 2); print('went on')"
    done = await trio.to_thread.run_sync(
        lambda: subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, preexec_fn=ignore, env=cli.env()
        )
    )
    assert done.stdout == b"went on\n"


async def test_sigterm_and_sighup_detach_as_ctrl_c_does_and_leave_the_terminal_as_it_was(
    start_server: StartServer, cli: Cli
) -> None:
    server = await start_server()
    cli.url = server.service.url
    for number in (signal.SIGTERM, signal.SIGHUP):
        terminal = Terminal(cli, "watch")
        await terminal.shows("live")
        assert await terminal.interrupt(number) == 128 + number
        assert b"left, nothing was cancelled" in terminal.text
        assert terminal.text.rindex(b"\x1b[?25h") > terminal.text.rindex(b"\x1b[?25l")  # the cursor is back
    waiting = Terminal(cli, "enqueue", "noop", "--wait")
    await waiting.shows("pending")
    assert await waiting.interrupt(signal.SIGTERM) == 143
    assert b"detached, nothing was cancelled" in waiting.text
