"""The one part of Hypercorn that is used: ``H11Protocol`` and ``HTTPStream``, which turn HTTP/1.1 into ASGI.

``Protocol`` sees each request first. It takes out WebSocket upgrades of the stream's path, refuses what is not
HTTP/1.x and makes an ``HTTPStream`` of all the rest. Hypercorn's ``WSStream`` and ``H2Protocol``, with which any peer
can end the process, are never constructed.
"""

import re
from dataclasses import replace
from typing import Final, NamedTuple

import h11
from hypercorn.config import Config
from hypercorn.events import Closed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Request, Response
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream

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


def upgrade_at_once(data: bytes, stream_path: bytes) -> UpgradeRequest | None:
    """Find the stream's upgrade if ``data``, the first bytes of a connection, hold one whole.

    Most streams start so, and for them nothing of Hypercorn is made: a quarter less CPU for a connection (0.35 ms
    instead of 0.46), which counts when thousands come back at once.
    """
    if not data.startswith(b"GET ") or stream_path not in data:
        return None
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

    async def refuse(self, status: int) -> None:
        """Answer the request just read, and close."""
        await self._send_error_response(status)
        await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        # The door closes, or the app answers before it has the whole body: this is the connection's last response.
        last = self.context.terminated.is_set() or self.connection.their_state is h11.SEND_BODY
        if isinstance(event, Response) and event.status_code >= 200 and last:
            event = replace(event, headers=[*event.headers, (b"connection", b"close")])
        await super().stream_send(event)

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
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii"),
                raw_path=origin_form(request) or b"/",
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1
