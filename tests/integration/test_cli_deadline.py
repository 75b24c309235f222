"""``--wait-timeout`` and ``watch --timeout`` hold for the whole command, whatever the server does."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from cli_kit import Cli, cli  # noqa: F401

from jobctl import auth
from tests.kit import StartServer

MUTE_S = 45.0
"""Far beyond every deadline here, and below a test's own."""
LATE_S = 4.0


@pytest.fixture
async def mute(cli: Cli, tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[None]:
    """A server that takes every connection and never says anything."""
    auth.ensure_secret(tmp_path / "state")
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def say_nothing(stream: trio.SocketStream) -> None:
        await trio.sleep(MUTE_S)

    nursery.start_soon(trio.serve_listeners, say_nothing, [listener])
    cli.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    yield


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("enqueue", "ok", "--wait", "--wait-timeout", "0.5"), "no answer from URL"),
        (("enqueue", "ok", "--wait", "--wait-timeout", "0.5", "--wait-server", "30"), "no answer from URL"),
        (("watch", "--timeout", "0.5"), "no answer from URL"),
    ],
)
async def test_a_server_that_does_not_answer_is_exit_code_4(
    mute: None, cli: Cli, arguments: tuple[str, ...], told: str
) -> None:
    started = time.monotonic()
    done = await cli(*arguments)
    assert time.monotonic() - started < MUTE_S / 2
    assert (done.code, done.err) == (4, f"jobctl: timed out after 0.5 s; {told.replace('URL', str(cli.url))}\n")


@pytest.fixture
async def late(cli: Cli, tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[None]:
    """A server that is ready after a while, answers one call, and then says nothing more."""
    auth.ensure_secret(tmp_path / "state")
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    opened = trio.current_time()

    async def answer(stream: trio.SocketStream) -> None:
        while head := await stream.receive_some():
            ready = trio.current_time() - opened > LATE_S
            if ready and not head.startswith((b"GET /readyz ", b"GET /api/jobs/stats ")):
                await trio.sleep(MUTE_S)
            status = b"200 OK" if ready else b"503 Service Unavailable"
            await stream.send_all(b"HTTP/1.1 %s\r\nContent-Length: 11\r\n\r\n" % status + b'{"data":{}}')

    nursery.start_soon(trio.serve_listeners, answer, [listener])
    cli.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    yield


async def test_what_it_waited_for_the_server_is_part_of_the_time(late: None, cli: Cli) -> None:
    started = time.monotonic()
    done = await cli("watch", "--timeout", "6", "--wait-server", "30")
    assert time.monotonic() - started < LATE_S + 6, "it began to count when the server was ready"
    assert (done.code, done.err) == (4, "jobctl: timed out after 6 s\n")


async def test_a_server_that_is_not_there_in_time_is_exit_code_4(cli: Cli, tmp_path: Path) -> None:
    auth.ensure_secret(tmp_path / "state")
    cli.url = "http://127.0.0.1:1"
    done = await cli("enqueue", "ok", "--wait", "--wait-timeout", "2", "--wait-server", "30")
    assert (done.code, done.err) == (4, "jobctl: timed out after 2 s; http://127.0.0.1:1 was not ready\n")
    at_once = await cli("enqueue", "ok", "--wait", "--wait-timeout", "30")
    assert at_once.code == 3


async def test_a_job_that_outlives_the_wait_is_told_with_the_way_back(start_server: StartServer, cli: Cli) -> None:
    server = await start_server()
    done = await cli("enqueue", "noop", "--wait", "--wait-timeout", "4", "--url", server.service.url)
    assert done.code == 4
    again = f"jobctl watch {done.out.strip()} --until-done --url {server.service.url}"
    assert done.err == f"jobctl: timed out after 4 s; nothing was cancelled; come back with: {again}\n"
