"""``jobctl.client.enqueue``: one HTTP request, from programs without an event loop."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from jobctl import auth
from jobctl.client import enqueue
from jobctl.engine.registry import Registry
from jobctl.errors import ApiError, InvalidInput, SignInFailed, Unreachable
from tests.kit import Running, StartServer


async def call(*arguments: Any, **more: Any) -> str:
    return await trio.to_thread.run_sync(partial(enqueue, *arguments, **more))


async def test_a_job_is_made_with_everything_that_was_said_and_its_id_returned(server: Running) -> None:
    job_id = await call(
        "noop", {"n": 1}, url=server.service.url, token=server.token("ann", "user"), queue="q", priority=3, delay=60,
        max_attempts=2, timeout=9.5, unique_key="u", tags=("a", "b"),
    )  # fmt: skip
    job = (await server.store.job(job_id, owner="ann")).value
    assert (job.queue, job.priority, job.max_attempts, job.timeout, job.unique_key) == ("q", 3, 2, 9.5, "u")
    assert (bytes(job.data), job.tags) == (b'{"n":1}', ("a", "b"))
    assert job.scheduled_for is not None
    assert (
        await call("noop", url=server.service.url, token=lambda: server.token("ann", "user"), unique_key="u") == job_id
    )


async def test_where_and_who_come_from_the_environment(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCTL_URL", server.service.url)
    with pytest.raises(SignInFailed, match=r"give enqueue\(token=...\) one, or set JOBCTL_TOKEN"):
        await call("noop")
    monkeypatch.setenv("JOBCTL_TOKEN", f" {server.token()}\n")
    assert await call("noop")


async def test_refusals_are_errors(start_server: StartServer) -> None:
    registry = Registry()
    registry.job("noop")(lambda ctx: None)
    running = await start_server(registry)
    with pytest.raises(ApiError, match="no handler named 'nope'") as caught:
        await call("nope", url=running.service.url, token=running.token())
    assert (caught.value.status, caught.value.problem_code) == (422, "unknown_handler")
    with pytest.raises(SignInFailed, match="refuses the token"):
        await call("nope", url=running.service.url, token="x.y.z")
    with pytest.raises(InvalidInput, match="cannot be sent as JSON"):
        await call("noop", {"x": object()}, url=running.service.url, token=running.token())


class Flaky:
    """Passes connections on to a server; after the first requests it loses the answers."""

    def __init__(self, port: int, losses: int) -> None:
        self.target, self.losses, self.keys = port, losses, list[bytes]()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer, socket.create_connection(("127.0.0.1", self.target)) as server:
                request = peer.recv(65536)
                while b"\r\n\r\n{" not in request:
                    request += peer.recv(65536)
                self.keys += [line for line in request.split(b"\r\n") if line.lower().startswith(b"idempotency-key")]
                server.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
                answer = b""
                while chunk := server.recv(65536):
                    answer += chunk
                if self.losses:
                    self.losses -= 1
                else:
                    peer.sendall(answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.fixture
def flaky(server: Running) -> Iterator[Callable[[int], Flaky]]:
    made: list[Flaky] = []

    def make(losses: int) -> Flaky:
        made.append(Flaky(server.port, losses))
        return made[-1]

    yield make
    for each in made:
        each.close()


async def test_a_lost_answer_is_asked_for_again_and_the_job_made_once(
    server: Running, flaky: Callable[[int], Flaky]
) -> None:
    proxy = flaky(2)
    job_id = await call("noop", url=proxy.url, token=server.token())
    assert (await server.store.stats(owner=None)).value.total == 1
    assert (await server.store.job(job_id, owner=None)).value.id == job_id
    assert len(proxy.keys) == 3
    assert len(set(proxy.keys)) == 1


async def test_a_server_that_is_not_there_is_waited_for_as_long_as_the_caller_is_patient() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unreachable, match="connection refused"):
            await call("noop", url=url, token="t", patience=0.3)


async def test_a_server_that_comes_up_meanwhile_gets_the_job(
    start_server: StartServer, unused_port: int, tmp_path: Path
) -> None:
    ids: list[str] = []
    asked = trio.Event()
    secret = auth.ensure_secret(tmp_path / "state")

    def token() -> str:
        trio.from_thread.run_sync(asked.set)
        return auth.mint(secret, subject="ann", role="user", ttl=60)

    async def early() -> None:
        ids.append(await call("noop", url=f"http://127.0.0.1:{unused_port}", token=token, patience=10.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(early)
        await asked.wait()
        running = await start_server(port=unused_port)
    assert (await running.store.job(ids[0], owner=None)).value.name == "noop"


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_it_imports_no_event_loop() -> None:
    code = (
        "import sys; from jobctl.client import enqueue; print(*{'trio', 'asyncio', 'httpx2', 'quart'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
