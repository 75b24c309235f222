"""Text from outside on a real pseudo-terminal: no byte of it moves the cursor, sets a title or turns text around."""


import contextlib
import fcntl
import json
import os
import pty
import struct
import termios
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import warm
from cli_kit import Cli, cli

from jobctl.engine.registry import Registry
from tests.abuse.hostile import EVIL, MARKS, found_in, hostile
from tests.kit import LOOPBACK, Running, StartServer, until

__all__ = ["cli"]

pytestmark = pytest.mark.slow

ID = "01890000-0000-7000-8000-000000000000"
COMMANDS = [
    "jobs list", "jobs list --json", f"jobs show {ID}", f"jobs show {ID} --json",
    f"jobs logs {ID}", f"jobs logs {ID} --json", f"jobs retry {ID}", f"jobs cancel {ID}", f"jobs delete {ID}",
    "jobs retry --status failed --yes", "jobs delete --status failed --dry-run", "jobs prune --older-than 1d --dry-run",
    "queues list", "queues pause default", "queues resume default --json", "schedules list", "schedules show nightly",
    "schedules trigger nightly", "schedules enable nightly", "schedules remove nightly", "token list",
    "token create --name ci", "token revoke ci", "token list --json", "open --print", "enqueue noop a=b",
    "enqueue noop --json", "enqueue noop order=4711", "doctor", "db backup /tmp/none.db", "workers", "workers --json",
]  # fmt: skip


async def on_terminal(cli: Cli, *arguments: str, rows: int = 50, columns: int = 200, **env: str) -> tuple[int, bytes]:
    """Run a command on a terminal of its own; its exit code and all that reached the terminal."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.set_blocking(main, False)
    shown = bytearray()

    async def read() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while True:
                await trio.lowlevel.wait_readable(main)
                shown.extend(os.read(main, 65536))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            try:
                code = await warm.run(
                    [*arguments], stdin=other, stdout=other, stderr=other, cwd=cli.folder,
                    env=cli.env({"TERM": "xterm-256color", **env}),
                )  # fmt: skip
            finally:
                os.close(other)
    os.close(main)
    return code, bytes(shown)


@pytest.fixture(scope="module", params=[False, True], ids=["answers", "refuses"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with hostile(refuse=request.param) as found:
        yield found


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_server_that_means_ill_does_not_get_the_terminal(cli: Cli, url: str, command: str) -> None:
    cli.url = url
    _, shown = await on_terminal(cli, *command.split(), JOBCTL_TOKEN="a.b.c")
    assert shown, "it says something"
    assert found_in(shown) == []
    assert b"Traceback" not in shown
    assert b"is a bug" not in shown


def test_the_marks_are_found_where_nothing_hides_them() -> None:
    assert found_in(EVIL.encode()) == list(MARKS)
    assert found_in(b"\x1b[32mgreen\x1b[0m \x1b[?25l\x1b[2K\x1b[1A\r\n") == []


@pytest.fixture
async def server(start_server: StartServer, cli: Cli) -> Running:
    """A server with handlers that say what they are told to."""
    registry = Registry(accept_unknown=True)

    @registry.job("evil", max_attempts=1)
    async def evil(ctx: Any, **_: object) -> dict[str, str]:
        ctx.progress(0.5, EVIL)
        ctx.log(EVIL)
        return {EVIL.replace("\0", ""): EVIL}

    @registry.job("fails", max_attempts=1)
    async def fails(ctx: Any, **_: object) -> None:
        ctx.progress(0.5, EVIL)
        ctx.log(EVIL)
        raise ValueError(EVIL)

    running = await start_server(registry)
    cli.url = f"http://{LOOPBACK}:{running.port}"
    return running


TAG = "\x9b31m\u202eesrever\u2066\u200b\u2028"
"""What a tag or a key may be made of: no C0, which the API refuses."""


@pytest.mark.parametrize("name", ["evil", "fails"])
async def test_jobs_whose_every_field_is_hostile_are_watched_safely(server: Running, cli: Cli, name: str) -> None:
    data = json.dumps({"k": EVIL}).encode()
    (job_id,) = await server.enqueue(1, name=name, tags=(TAG,), unique_key=TAG, data=data, max_attempts=1)

    async def ended() -> bool:
        return (await server.store.job(job_id, owner=None)).value.status.value in {"completed", "failed"}

    await until(ended)
    since = f"{server.store.epoch}:0"
    for command in (
        ["watch", "--since", since, "--until-done"],
        ["watch", job_id, "--since", since, "--until-done", "--plain"],
        ["watch", job_id, "--since", since, "--until-done", "--json", "--stats"],
        ["watch", job_id, "--since", since, "--until-done", "--table"],
        ["jobs", "list"],
        ["jobs", "show", job_id],
        ["jobs", "logs", job_id],
        ["jobs", "logs", job_id, "--follow"],
        ["enqueue", name, "--tag", "ok", "--wait"],
    ):
        _, shown = await on_terminal(cli, *command)
        assert (command, found_in(shown)) == (command, [])
        assert len(shown) > 20, command


async def test_what_a_command_line_holds_is_not_said_back_raw(server: Running, cli: Cli) -> None:
    """Errors quote what they were given; a script may have taken that from elsewhere."""
    given = EVIL.replace("\0", "")
    for command in (
        ["enqueue", given],
        ["enqueue", "evil", given],
        ["enqueue", "evil", f"{given}=1", f"{given}=2"],
        ["enqueue", "evil", "--queue", given],
        ["enqueue", "evil", "--data", given],
        ["enqueue", "evil", "--file", given],
        ["enqueue", "evil", "--at", given],
        ["enqueue", "evil", "--url", given],
        ["enqueue", "evil", "--token-file", given],
        ["jobs", "show", given],
        ["jobs", "list", "--status", given],
        ["jobs", "list", "--cursor", given],
        ["watch", given, "--until-done"],
        ["watch", "--since", given],
        ["token", "--sub", given],
        ["schedules", "show", given],
        ["serve", "--config", given],
        ["serve", "--app", given],
        [given],
        ["jobs", given],
        ["jobs", "list", f"--{given}"],
    ):
        _, shown = await on_terminal(cli, *command)
        assert shown, command
        assert (command, found_in(shown)) == (command, [])
        assert b"Traceback" not in shown
