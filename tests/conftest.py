"""A real server in the test's own process: real store, real sockets, port chosen by the system."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket

from jobctl import auth
from jobctl.engine.registry import Registry
from jobctl.model import NewJob
from jobctl.service import Service, serve
from jobctl.settings import Settings, load

LOOPBACK = "127.0.0.1"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the developer's own reaches a test, and no test touches the developer's state folder."""
    import os

    for name in list(os.environ):
        if name.startswith("JOBCTL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("JOBCTL_STATE_DIR", str(tmp_path / "state"))


class Peer:
    """A stream client that hides nothing: one JSON message at a time."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self.socket = socket

    async def say(self, **message: Any) -> None:
        await self.socket.send_message(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        with trio.fail_after(10):
            message: dict[str, Any] = json.loads(await self.socket.get_message())
        return message

    async def hear_until(self, kind: str) -> dict[str, Any]:
        while True:
            message = await self.hear()
            if message["type"] == kind:
                return message

    async def closed(self) -> tuple[int, str | None]:
        """Read to the end; the close code and reason."""
        try:
            while True:
                await self.hear()
        except trio_websocket.ConnectionClosed as error:
            assert error.reason is not None
            return error.reason.code, error.reason.reason


class Running:
    """A server under test."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self.service = service
        self.settings = settings
        self.store = service.store
        self.secret = auth.ensure_secret(settings.state_dir)
        self.port: int = service.door.addresses[0][1]

    def token(self, subject: str = "root", role: str = "admin", ttl: float = 900.0) -> str:
        return auth.mint(self.secret, subject=subject, role=role, ttl=ttl)

    async def enqueue(self, n: int = 1, owner: str = "root", name: str = "noop", **fields: Any) -> tuple[str, ...]:
        done = await self.store.enqueue([NewJob(name=name, **fields) for _ in range(n)], owner=owner)
        return done.ids

    async def hold(self, n: int = 1) -> tuple[str, ...]:
        """Jobs that are running, each in its first run."""
        ids = await self.enqueue(n, name="hold")
        await until(lambda: {*ids} <= {*self.service.runner.live})
        return ids

    @contextlib.asynccontextmanager
    async def connect(self, headers: Sequence[tuple[str, str]] = ()) -> AsyncIterator[Peer]:
        """An open stream connection. The TCP stream is ours: trio-websocket does not close it when the server does."""
        stream = await trio.open_tcp_stream(LOOPBACK, self.port)
        async with stream, trio.open_nursery() as nursery:
            socket = await trio_websocket.wrap_client_stream(
                nursery, stream, f"{LOOPBACK}:{self.port}", "/api/notifications/ws", extra_headers=list(headers)
            )
            try:
                yield Peer(socket)
            finally:
                with trio.move_on_after(2, shield=True):
                    await socket.aclose()
                nursery.cancel_scope.cancel()

    @contextlib.asynccontextmanager
    async def peer(self, subject: str = "root", role: str = "admin", ttl: float = 900.0) -> AsyncIterator[Peer]:
        """A peer that has signed in."""
        async with self.connect() as peer:
            assert (await peer.hear()) == {"type": "auth_required"}
            await peer.say(type="auth", token=self.token(subject, role, ttl))
            assert (await peer.hear())["type"] == "connected"
            yield peer


async def until(condition: Callable[[], Any] | Callable[[], Awaitable[Any]], seconds: float = 10.0) -> None:
    """Wait, in small steps, until ``condition`` holds."""
    with trio.fail_after(seconds):
        while True:
            held = condition()
            if isinstance(held, Awaitable):
                held = await held
            if held:
                return
            await trio.sleep(0.005)


StartServer = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start_server(nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StartServer:
    """Starts servers; they end with the test. Settings are given by name; ``registry`` replaces the handlers."""

    async def start(registry: Registry | None = None, **settings: Any) -> Running:
        chosen = load(
            None,
            **{"port": 0, "db": tmp_path / "jobs.db", "state_dir": tmp_path / "state", "accept_unknown": True} | settings,
        )
        handlers = registry or Registry(accept_unknown=True)
        with monkeypatch.context() as patch:
            patch.setattr("jobctl.engine.registry.load", lambda _: handlers)
            began = time.monotonic()
            service: Service = await nursery.start(_serve, chosen)
            assert time.monotonic() - began < 30
        return Running(service, chosen)

    return start


async def _serve(settings: Settings, *, task_status: trio.TaskStatus[Service]) -> None:
    await serve(settings, signals=False, task_status=task_status)


@pytest.fixture
async def server(start_server: StartServer) -> Running:
    """A server that takes every name. ``noop`` has no handler here: it stays pending; ``hold`` runs for ever."""
    registry = Registry(accept_unknown=True)

    @registry.job("hold")
    async def hold(ctx: object) -> None:
        await trio.sleep_forever()

    return await start_server(registry)
