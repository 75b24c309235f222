"""What tests share: a running server, a stream client that hides nothing, and one that reads only when told to."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import trio
import trio_websocket
import wsproto
from wsproto import events as ws

from jobctl import auth
from jobctl.model import NewJob
from jobctl.protocol import messages
from jobctl.service import Service
from jobctl.settings import Settings

LOOPBACK = "127.0.0.1"


class Peer:
    """A stream client that hides nothing: one JSON message at a time."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self.socket = socket
        self.subscribed: dict[str, Any] = {}
        """The last ``jobs_subscribed``, where somebody keeps it."""

    async def say(self, **message: Any) -> None:
        await self.socket.send_message(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        with trio.fail_after(30):
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

    def __init__(self, service: Service, settings: Settings, ended: trio.Event) -> None:
        self.service = service
        self._ended = ended
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

    async def stop(self) -> None:
        """Stop it in order. Another may start on its database and its port afterwards."""
        self.service.stop()
        with trio.fail_after(30):
            await self._ended.wait()

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


async def until(condition: Callable[[], Any] | Callable[[], Awaitable[Any]], seconds: float = 30.0) -> None:
    """Wait, in small steps, until ``condition`` holds."""
    with trio.fail_after(seconds):
        while True:
            held = condition()
            if isinstance(held, Awaitable):
                held = await held
            if held:
                return
            await trio.sleep(0.005)


class RawPeer:
    """A signed-in stream client on a bare socket with a small receive buffer, which reads only when told to."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.parser = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._text = ""

    @classmethod
    async def open(cls, port: int, token: str, *, buffer: int = 4096) -> RawPeer:
        raw = trio.socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await raw.connect((LOOPBACK, port))
        peer = cls(trio.SocketStream(raw))
        await peer.stream.send_all(
            peer.parser.send(ws.Request(host=LOOPBACK, target="/api/notifications/ws"))
        )
        assert (await peer.hear())["type"] == "auth_required"
        await peer.say(messages.Auth(token=token))
        assert (await peer.hear())["type"] == "connected"
        return peer

    async def say(self, message: messages.Message) -> None:
        await self.stream.send_all(self.parser.send(ws.TextMessage(messages.encode(message).decode())))

    async def hear(self) -> dict[str, Any]:
        with trio.fail_after(30):
            while True:
                for event in self.parser.events():
                    if isinstance(event, ws.TextMessage):
                        self._text += event.data
                        if event.message_finished:
                            text, self._text = self._text, ""
                            message: dict[str, Any] = json.loads(text)
                            return message
                    elif isinstance(event, ws.Ping):
                        await self.stream.send_all(self.parser.send(event.response()))
                    elif isinstance(event, ws.CloseConnection):
                        raise ClosedError(event.code)
                data = await self.stream.receive_some(65536)
                if not data:
                    raise ClosedError(1006)
                self.parser.receive_data(data)


class ClosedError(Exception):
    """The server has closed; ``args[0]`` is the code."""


StartServer = Callable[..., Awaitable[Running]]
