"""A client's stream: the WebSocket by wsproto, signed in and subscribed as a real client does."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
import wsproto
from wsproto import events as ws

from bench.load.order import Place
from bench.load.wire import Carrier

PATH: Final = "/api/notifications/ws"
TIMEOUT_S: Final = 60.0
GOODBYE_S: Final = 2.0
_CHUNK: Final = 256 * 1024


class _Job(msgspec.Struct, gc=False):
    id: str
    version: int


class Message(msgspec.Struct, gc=False):
    """What a client looks at of a server message."""

    type: str
    seq: int | None = None
    job: _Job | None = None
    recovered: bool | None = None
    epoch: str | None = None
    code: str | None = None


class Heard(NamedTuple):
    """A message, and when the bytes arrived that completed it (CLOCK_MONOTONIC, ns)."""

    message: Message
    arrived: int


_decode: Final = msgspec.json.Decoder(Message).decode


class StreamClosed(ConnectionError):
    """The server has closed the stream."""


class Stream:
    """One connection, from the handshake to its end."""

    def __init__(self, place: Place) -> None:
        self.sock = place.connect(TIMEOUT_S)
        self._parser = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._text: list[str] = []
        self.sent = 0
        self.received = 0
        self.heard: dict[str, int] = {}
        """Messages by type."""
        self._send(ws.Request(host=place.authority, target=place.prefix + PATH))

    def sign_in(self, token: str) -> None:
        """Authenticate. Raises OSError, ``StreamClosed``."""
        self._await("auth_required")
        self._say({"type": "auth", "token": token})
        self._await("connected")

    def subscribe(self, since: int, epoch: str) -> Message:
        """Follow all jobs after a position, with stats and schedules; the answer."""
        self._say({"type": "subscribe_jobs", "since": since, "epoch": epoch, "stats": True, "schedules": True})
        return self._await("jobs_subscribed")

    def read_until(self, at: int) -> Iterator[Heard]:
        """Messages as they come, until ``at`` (CLOCK_MONOTONIC, ns). Raises OSError, ``StreamClosed``."""
        while True:
            yield from self._parsed()
            left = (at - time.monotonic_ns()) / 1e9
            if left <= 0:
                return
            self.sock.settimeout(left)
            try:
                self._take()
            except TimeoutError:
                return

    def cut(self, closing: Callable[[Carrier], None]) -> None:
        """Drop the connection without a word, as a lost network does."""
        closing(self)
        self.sock.close()

    def close(self, closing: Callable[[Carrier], None]) -> None:
        """Say goodbye, wait for the answer, and close; what still comes is not looked at."""
        try:
            self.sock.settimeout(GOODBYE_S)
            self._send(ws.CloseConnection(code=1000))
            while True:
                for _ in self._parsed():
                    pass
                self._take()
        except (OSError, wsproto.utilities.ProtocolError):
            pass  # it has answered, or will not
        self.cut(closing)

    def _await(self, kind: str) -> Message:
        while True:
            for heard in self._parsed():
                if heard.message.type == kind:
                    return heard.message
                if heard.message.type in ("error", "auth_failed"):
                    raise StreamClosed(f"{heard.message.type} {heard.message.code or ''}".strip())
            self._take()

    def _take(self) -> None:
        data = self.sock.recv(_CHUNK)
        self._arrived = time.monotonic_ns()
        self.received += len(data)
        self._parser.receive_data(data or None)

    def _parsed(self) -> Iterator[Heard]:
        for event in self._parser.events():
            if isinstance(event, ws.TextMessage):
                self._text.append(event.data)
                if event.message_finished:
                    message = _decode("".join(self._text))
                    self._text.clear()
                    self.heard[message.type] = self.heard.get(message.type, 0) + 1
                    yield Heard(message, self._arrived)
            elif isinstance(event, ws.Ping):
                self._send(event.response())
            elif isinstance(event, ws.CloseConnection):
                raise StreamClosed(f"closed by the server: {int(event.code)} {event.reason or ''}".rstrip())
            elif isinstance(event, ws.RejectConnection):
                raise StreamClosed(f"refused with {event.status_code}")

    def _say(self, message: dict[str, Any]) -> None:
        self._send(ws.TextMessage(msgspec.json.encode(message).decode()))

    def _send(self, event: Any) -> None:
        raw = self._parser.send(event)
        self.sock.sendall(raw)
        self.sent += len(raw)
