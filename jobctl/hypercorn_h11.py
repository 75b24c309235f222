"""The one part of Hypercorn that is used: ``H11Protocol``, which turns HTTP/1.1 into events.

``Protocol`` sees each request first. It takes out WebSocket upgrades of the stream's path, refuses what is not
HTTP/1.x and makes an ``Exchange`` of all the rest. Hypercorn's ``WSStream`` and ``H2Protocol``, with which any peer
can end the process, are never constructed.
"""

import re
from collections.abc import Awaitable, Callable, Collection
from typing import Final, NamedTuple
from urllib.parse import unquote

import h11
from hypercorn.config import Config
from hypercorn.events import Closed, RawData
from hypercorn.protocol.h11 import H11Protocol

from jobctl.exchange import Exchange, Headers

_ABSOLUTE_FORM: Final = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)


class UpgradeRequest(NamedTuple):
    """The request that asks for the stream, and what its sender sent after it."""

    target: bytes
    headers: list[tuple[bytes, bytes]]
    leftover: bytes


class HandOff(Exception):
    """The connection leaves HTTP: raised out of Hypercorn's protocol object."""

    def __init__(self, request: UpgradeRequest) -> None:
        super().__init__()
        self.request = request


class Refused(Exception):
    """The request is answered here, with an empty response of this status, and the connection closed."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def origin_form(request: h11.Request) -> bytes | None:
    """Path and query of a request's target (RFC 9112 section 3.2), or ``None`` if it has none for an app to look at."""
    target = request.target
    if target.startswith(b"/") or (target == b"*" and request.method == b"OPTIONS"):
        return target
    if absolute := _ABSOLUTE_FORM.match(target):
        rest = target[absolute.end() :]
        return rest if rest.startswith(b"/") else b"/" + rest
    return None


def wants_stream(request: h11.Request, stream_path: bytes) -> bool:
    """Whether this is a WebSocket upgrade (RFC 6455 section 4.1) of the stream's path. One with a body is not."""
    path = (origin_form(request) or b"").partition(b"?")[0]
    if request.method != b"GET" or request.http_version != b"1.1" or path != stream_path:
        return False
    connection: set[bytes] = set()
    upgrade: set[bytes] = set()
    for name, value in request.headers:
        if name == b"connection":
            connection.update(token.strip() for token in value.lower().split(b","))
        elif name == b"upgrade":
            upgrade.update(token.strip() for token in value.lower().split(b","))
        elif name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return False
    return b"upgrade" in connection and b"websocket" in upgrade


def _is_framed_twice(request: h11.Request) -> bool:
    """Whether a proxy in front could see another end of this request than h11 does, and so another next request.

    RFC 9112 section 6.1: a length beside a coding ought to be handled as an error, a coding in HTTP/1.0 must be.
    """
    names = {name for name, _ in request.headers}
    return b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0")


def may_ask_for(data: bytes, stream_path: bytes) -> bool:
    """Whether ``data``, the first bytes of a connection, may ask for the stream; told without parsing them."""
    return data.startswith(b"GET ") and stream_path in data


def upgrade_at_once(data: bytes, stream_path: bytes) -> UpgradeRequest | None:
    """Find the stream's upgrade if ``data``, of which that may be, holds one whole.

    Most streams start so, and for them nothing of Hypercorn is made: a quarter less CPU for a connection (0.35 ms
    instead of 0.46), which counts when thousands come back at once.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=Config.h11_max_incomplete_size)
    connection.receive_data(data)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError:
        return None  # Parsed and answered again on the long way.
    if isinstance(request, h11.Request) and wants_stream(request, stream_path):
        return UpgradeRequest(request.target, list(request.headers), connection.trailing_data[0])
    return None


class H11Connection(h11.Connection):
    """h11, deaf to what comes after the last request of a connection.

    For h11 that is an error, on which Hypercorn breaks off the response that the last request is still owed.
    """

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        return h11.NEED_DATA if self.their_state is h11.MUST_CLOSE else super().next_event()


class Protocol(H11Protocol):
    """Hypercorn's HTTP/1.1 without the ways out to HTTP/2 and to its WebSockets."""

    stream_path: bytes
    alone: Collection[tuple[str, str]]
    """Methods and paths of requests that need no task of their own, if they have come whole."""
    start_app: Callable[[Exchange], None]
    run_app: Callable[[Exchange], Awaitable[None]]

    async def refuse(self, status: int) -> None:
        """Answer the request just read, and close."""
        await self._send_error_response(status)
        await self.send(Closed())

    async def answer(self, head: tuple[int, Headers] | None, body: bytes, *, last: bool) -> None:
        data = b""
        try:
            if head is not None:
                data = self._head(*head)
            if body:
                data += self.connection.send(h11.Data(data=body)) or b""
            if last:
                data += self.connection.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError:  # the app breaks its word, or the peer has broken the protocol
            if self.connection.their_state is not h11.ERROR:
                raise
        finally:
            if data:
                await self.send(RawData(data=data))

    def _head(self, status: int, headers: Headers) -> bytes:
        told = [*headers, *self.config.response_headers("h11")]
        # The door closes, the app answers before it has the whole body, or it has answered many: this is the last.
        if (
            self.context.terminated.is_set()
            or self.connection.their_state is h11.SEND_BODY
            or self.keep_alive_requests >= self.config.keep_alive_max_requests
        ):
            told.append((b"connection", b"close"))
        return self.connection.send(h11.Response(headers=told, status_code=status)) or b""

    async def fail(self) -> None:
        await self._send_error_response(500)

    async def over(self) -> None:
        await self._maybe_recycle()

    async def _check_protocol(self, event: h11.Request) -> None:
        if event.http_version not in (b"1.0", b"1.1"):
            raise Refused(505)  # The preface of HTTP/2 is a request with version 2.0.
        if event.method == b"CONNECT" or not event.method.isupper():
            raise Refused(501)  # h11 takes ``head`` for a method with a body, apps take it for HEAD.
        if origin_form(event) is None or _is_framed_twice(event):
            raise Refused(400)
        if wants_stream(event, self.stream_path):
            if self.context.terminated.is_set():
                raise Refused(503)
            raise HandOff(UpgradeRequest(event.target, list(event.headers), self.connection.trailing_data[0]))

    async def _create_stream(self, request: h11.Request) -> None:
        path, _, query = (origin_form(request) or b"/").partition(b"?")
        scope = {
            "type": "http",
            "http_version": request.http_version.decode("ascii"),
            "asgi": {"spec_version": "2.1", "version": "3.0"},
            "method": request.method.decode("ascii"),
            "scheme": "https" if self.ssl else "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": self.client,
            "server": self.server,
            "state": self.connection_state.copy(),
            "extensions": {},
        }
        exchange = Exchange(scope, self)
        self.stream = exchange  # type: ignore[assignment]  # of which H11Protocol uses ``handle`` alone
        self.keep_alive_requests += 1
        if (scope["method"], scope["path"]) in self.alone and self._has_come_whole(request):
            exchange.when_whole = self.run_app
        else:
            self.start_app(exchange)

    def _has_come_whole(self, request: h11.Request) -> bool:
        length = next((value for name, value in request.headers if name == b"content-length"), b"")
        return length.isdigit() and len(self.connection.trailing_data[0]) >= int(length)
