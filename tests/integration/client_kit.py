"""A peer that says what a script tells it to, where the wire is to be wrong. Import the fixtures by name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Pong, Request, TextMessage

from jobctl.client import live as live_module
from tests.kit import LOOPBACK
from tests.unit.test_subscriber import job

EPOCH = "epoch-1"
GREETING = {"type": "auth_required"}
CONNECTED = {"type": "connected", "connectionId": "c", "timestamp": "t", "tokenExpiresAt": "t"}


class Hung(Exception):
    """The client has gone."""


class Socket:
    """The server's end of one scripted stream connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.ws = WSConnection(ConnectionType.SERVER)
        self.heard: list[dict[str, Any]] = []
        self.pongs = 0

    async def say(self, *messages: dict[str, Any]) -> None:
        data = b"".join(self.ws.send(TextMessage(data=json.dumps(message))) for message in messages)
        await self.stream.send_all(data)

    async def hear(self) -> dict[str, Any]:
        while not self.heard:
            data = await self.stream.receive_some()
            if not data:
                raise Hung
            self.ws.receive_data(bytes(data))
            for event in self.ws.events():
                if isinstance(event, TextMessage):
                    self.heard.append(json.loads(event.data))
                elif isinstance(event, Pong):
                    self.pongs += 1
                elif isinstance(event, CloseConnection):
                    raise Hung
        return self.heard.pop(0)

    async def close(self, code: int, *messages: dict[str, Any]) -> None:
        data = b"".join(self.ws.send(TextMessage(data=json.dumps(message))) for message in messages)
        await self.stream.send_all(data + self.ws.send(CloseConnection(code=code)))
        await self.stream.send_eof()

    async def subscribed(self, seq: int = 0, *, head: int | None = None, recovered: bool = True) -> dict[str, Any]:
        """Greet, sign in, subscribe; returns what the client asked for (and with which token)."""
        await self.say(GREETING)
        signed = await self.hear()
        await self.say(CONNECTED)
        asked = await self.hear()
        fields = {"seq": seq, "head": head or seq, "epoch": EPOCH, "recovered": recovered}
        await self.say({"type": "jobs_subscribed", **fields})
        return {**asked, "token": signed["token"]}


Script = Callable[[Socket], Awaitable[None]]
Http = Callable[[str, str, dict[str, str]], tuple[int, dict[str, str], Any]]


class Peer:
    """A server that follows a script a stream connection, and answers HTTP from a function."""

    def __init__(self, port: int) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self.scripts: list[Script] = []
        self.http: Http = lambda *_: (404, {}, {})
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.streams = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            async with stream:
                while await self._request(stream):
                    pass
        except (Hung, trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _request(self, stream: trio.SocketStream) -> bool:
        raw = b""
        while b"\r\n\r\n" not in raw:
            chunk = await stream.receive_some()
            if not chunk:
                return False
            raw += chunk
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        if headers.get("upgrade", "").lower() == "websocket":
            await self._stream(stream, raw)
            return False
        while len(body) < int(headers.get("content-length", 0)):
            body += await stream.receive_some()
        self.requests.append((method, path, headers))
        status, more, data = self.http(method, path, headers)
        if status == 0:  # hang up instead of an answer
            return False
        content = json.dumps(data).encode()
        fields = {"content-length": str(len(content)), **more}
        text = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await stream.send_all(f"HTTP/1.1 {status} X\r\n{text}\r\n".encode() + content)
        return True

    async def _stream(self, stream: trio.SocketStream, raw: bytes) -> None:
        script = self.scripts[min(self.streams, len(self.scripts) - 1)]
        self.streams += 1
        socket = Socket(stream)
        socket.ws.receive_data(raw)
        assert any(isinstance(event, Request) for event in socket.ws.events())
        await stream.send_all(socket.ws.send(AcceptConnection()))
        await script(socket)


@pytest.fixture
async def peer(nursery: trio.Nursery) -> AsyncIterator[Peer]:
    listeners = await trio.open_tcp_listeners(0, host=LOOPBACK)
    made = Peer(listeners[0].socket.getsockname()[1])
    nursery.start_soon(trio.serve_listeners, made.serve, listeners)
    yield made
    nursery.cancel_scope.cancel()


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect at once."""
    monkeypatch.setattr(live_module.random, "random", lambda: 0.0)


def an_update(seq: int, status: str = "pending", job_id: str = "a") -> dict[str, Any]:
    return {"type": "job_update", "job": job(job_id, seq, status), "seq": seq, "timestamp": "t"}


@asynccontextmanager
async def reading(updates: Any) -> AsyncIterator[None]:
    """Somebody waits for the next update meanwhile, and is cancelled in the end."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(updates.__anext__)
        yield
        nursery.cancel_scope.cancel()


async def seqs(updates: Any, count: int) -> list[int]:
    found = []
    with trio.fail_after(20):
        while len(found) < count:
            found.append((await anext(updates)).seq)
    return found


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
