"""What the door's tests share: an app, a server that runs it behind a door, and a peer that can misbehave.

Import the fixtures by name. Whatever a test did to ``server``, it must afterwards answer somebody new, and neither
Hypercorn's HTTP/2 nor its WebSocket code may have run.
"""

import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import h11
import hypercorn.protocol.h2
import hypercorn.protocol.ws_stream
import pytest
import trio
import trustme

from jobctl.door import Door, Upgrade, bind

STREAM = "/api/notifications/ws"
HELLO = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    b"GET /api/notifications/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATIENCE_S = 20.0
"""Longer than anything here takes; what reaches it has failed."""


class App:
    """An ASGI app of a few paths, and a stream that says what it was handed and echoes the rest."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.peers: list[trio.socket.SocketType] = []
        self.upgrades: list[dict[str, Any]] = []
        self.gate = trio.Event()
        self.entered = trio.Event()
        self.disconnected = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                event = (await receive())["type"]
                self.happened.append(event)
                await send({"type": event + ".complete"})
                if event == "lifespan.shutdown":
                    return
        assert scope["type"] == "http"
        answer = partial(_answer, send)
        name = scope["path"].lstrip("/")
        self.happened.append(f"{scope['method']} {scope['path']}")
        match name:
            case "hello":
                await answer(b"hello")
            case "scope":
                shown = {"client": scope["client"], "scheme": scope["scheme"], "path": scope["path"]}
                await answer(json.dumps(shown).encode())
            case "count":
                size, more = 0, True
                while more:
                    event = await receive()
                    size, more = size + len(event["body"]), event["more_body"]
                await answer(str(size).encode())
            case "gated":
                self.entered.set()
                await self.gate.wait()
                await answer(b"gated")
            case "deaf":  # Answers at once, whatever is being sent.
                await answer(b"too much", status=413)
            case "lazy":  # Reads nothing.
                self.entered.set()
                await self.gate.wait()
            case "listen":
                self.entered.set()
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.disconnected.set()
            case "big":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                self.entered.set()
                for _ in range(1000):
                    await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            case "impatient":  # Gives up on the first half, and goes on with the second.
                headers = [(b"content-length", b"20000000")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                with trio.move_on_after(0.05):
                    await send({"type": "http.response.body", "body": bytes(10_000_000), "more_body": True})
                self.entered.set()
                await send({"type": "http.response.body", "body": bytes(10_000_000)})
            case "raise":
                raise ValueError("of the app")
            case "raise-late":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"some", "more_body": True})
                raise ValueError("of the app")
            case "lie":  # More than was announced: h11 refuses, and then refuses everything.
                headers = [(b"content-length", b"1")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": b"more than one"})
            case "linger":  # Goes on after its response.
                await answer(b"linger")
                await self.gate.wait()
                self.happened.append("lingered")
            case _:
                await answer(b"no such page", status=404)

    async def on_upgrade(self, upgrade: Upgrade) -> None:
        shown = {"target": upgrade.target.decode(), "peer": upgrade.peer, "tls": upgrade.tls}
        self.upgrades.append(shown)
        if upgrade.target.endswith(b"raise"):
            raise ValueError("of the stream")
        async with contextlib.aclosing(_pieces(upgrade)) as pieces:
            async for data in pieces:
                await upgrade.stream.send_all(b"<" + data + b">")


async def _pieces(upgrade: Upgrade) -> AsyncIterator[bytes]:
    yield upgrade.leftover
    with contextlib.suppress(trio.BrokenResourceError):
        while data := await upgrade.stream.receive_some():
            yield bytes(data)


async def _answer(send: Any, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Peer:
    """A client that can misbehave: it sends bytes, and reads responses one by one."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.unread = b""
        self.closed = False

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def response(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, headers and body of the next response. ``EOFError`` when there is none, or no whole one."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        parser.send(h11.EndOfMessage())
        if self.unread:  # To h11, nothing is the end.
            parser.receive_data(self.unread)
        head: h11.Response | None = None
        body = b""
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                raise EOFError from error
            if event is h11.NEED_DATA:
                parser.receive_data(await self._read())
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.ConnectionClosed):
                raise EOFError
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                self.unread = parser.trailing_data[0]
                return head.status_code, dict(head.headers), body

    async def _read(self) -> bytes:
        with trio.fail_after(PATIENCE_S):
            try:
                return bytes(await self.stream.receive_some())
            except trio.BrokenResourceError:
                return b""

    async def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        while len(self.unread) < size:
            data = await self._read()
            assert data, f"closed after {self.unread!r}"
            self.unread += data
        data, self.unread = self.unread[:size], self.unread[size:]
        return data

    async def rest(self) -> bytes:
        """All bytes until the other side closes."""
        while data := await self._read():
            self.unread += data
        data, self.unread = self.unread, b""
        return data


class Server:
    """A running door."""

    def __init__(self, door: Door, app: App, client_tls: ssl.SSLContext | None = None) -> None:
        self.door = door
        self.app = app
        self.client_tls = client_tls

    async def connect(self, *, alpn: list[str] | None = None, buffer: int | None = None) -> Peer:
        sock = trio.socket.socket()
        self.app.peers.append(sock)
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await sock.connect(self.door.addresses[0])
        stream: trio.abc.Stream = trio.SocketStream(sock)
        if self.client_tls is not None:
            if alpn is not None:
                self.client_tls.set_alpn_protocols(alpn)
            stream = trio.SSLStream(stream, self.client_tls, server_hostname="localhost", https_compatible=True)
            await stream.do_handshake()
        return Peer(stream)

    async def answers(self) -> bool:
        peer = await self.connect()
        await peer.send(HELLO)
        status, _, body = await peer.response()
        await peer.stream.aclose()
        return (status, body) == (200, b"hello")


@pytest.fixture
def never_http2_nor_hypercorns_websockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made: list[str] = []
    for kind in (hypercorn.protocol.h2.H2Protocol, hypercorn.protocol.ws_stream.WSStream):
        monkeypatch.setattr(kind, "__init__", lambda self, *_, **__: made.append(type(self).__name__))
    yield
    assert made == []


@pytest.fixture
async def app() -> AsyncIterator[App]:
    app = App()
    yield app
    for sock in app.peers:
        sock.close()


Start = Callable[..., Awaitable[Server]]


@pytest.fixture
async def start(app: App, nursery: trio.Nursery, never_http2_nor_hypercorns_websockets: None) -> AsyncIterator[Start]:
    async def start(*, client_tls: ssl.SSLContext | None = None, **options: Any) -> Server:
        on_upgrade = options.pop("on_upgrade", app.on_upgrade)
        door = Door(app, bind("127.0.0.1", 0), stream_path=STREAM, on_upgrade=on_upgrade, **options)
        await nursery.start(door.run)
        return Server(door, app, client_tls)

    yield start


@pytest.fixture
async def server(start: Start) -> AsyncIterator[Server]:
    server = await start()
    yield server
    assert await server.answers()


@pytest.fixture(params=["first request", "later request"])
async def peer(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[Peer]:
    """A connection on which the test's request is the first one, and one on which it is the third."""
    peer = await server.connect()
    if request.param == "later request":
        for _ in range(2):
            await peer.send(HELLO)
            assert (await peer.response())[0] == 200
    yield peer


@pytest.fixture(scope="module")
def certificates() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def with_headers(
    *headers: bytes, method: bytes = b"GET", target: bytes = STREAM.encode(), version: bytes = b"1.1"
) -> bytes:
    return b"\r\n".join([method + b" " + target + b" HTTP/" + version, b"Host: x", *headers, b"", b""])


def tasks() -> int:
    """How many tasks run now."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    waiting, count = [root], 0
    while waiting:
        task = waiting.pop()
        count += 1
        waiting.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return count


async def eventually(holds: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not holds():
            await trio.sleep(0.005)


@pytest.fixture
async def tls_server(start: Start, certificates: tuple[ssl.SSLContext, ssl.SSLContext]) -> AsyncIterator[Server]:
    server = await start(ssl_context=certificates[0], client_tls=certificates[1])
    yield server
    assert await server.answers()
