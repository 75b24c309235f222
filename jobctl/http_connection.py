"""One HTTP/1.1 connection: between its socket, Hypercorn's protocol object and the app.

This stands in for Hypercorn's ``TCPServer``. Its sends can be cancelled and have a time limit (theirs
are shielded: a peer that does not read holds up the end for ever), heads and bodies have a time limit, an early answer
is not lost while its request is still being sent, and no exception leaves the connection.
"""

import logging
import os
import struct
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIFramework, ConnectionState, TaskGroup

from jobctl.exchange import Exchange
from jobctl.hypercorn_h11 import H11Connection, HandOff, Protocol, Refused, UpgradeRequest

MAX_RECV: Final = 64 * 1024
"""Bytes a read asks for, and so about the largest body event an app gets (Hypercorn's figure)."""

HEAD_TIMEOUT_S = 20.0
"""From the first byte of a request (or the accept) to the end of its head; Apache's ``mod_reqtimeout`` has 20 s."""
BODY_TIMEOUT_S = 60.0
"""Between two reads of a request body; nginx's ``client_body_timeout`` has 60 s."""
KEEP_ALIVE_TIMEOUT_S = 75.0
"""Between two requests; nginx's ``keepalive_timeout`` has 75 s, and its upstream side closes at 60 s, before us."""
STALL_TIMEOUT_S = 30.0
"""A write that moves nothing for so long closes the connection; TCP_USER_TIMEOUT says the same to the kernel."""
LINGER_TIMEOUT_S = 2.0
"""How long a peer that still sends is listened to after its answer: closing with unread bytes would reset the
connection and could destroy the answer on its way (RFC 9112 section 9.6)."""
AFTER_RESPONSE_S = 5.0
"""What an app may still do after its last response, when the connection's next request is the stream's upgrade."""
_TLS_CHUNK: Final = 16 * 1024
"""One TLS record: the grain at which progress of an encrypted write is seen."""

_PEER_GONE: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


logger = logging.getLogger("jobctl.door")


class _Stopping:
    """The door's stop as an event of Hypercorn's: seen in the very tick of ``stop``, not a task switch later."""

    def __init__(self, event: trio.Event) -> None:
        self._event = event

    def is_set(self) -> bool:
        return self._event.is_set()

    async def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()

    async def clear(self) -> None:
        raise NotImplementedError  # a stop is for good


@dataclass(slots=True)
class HttpService:
    """What the HTTP connections of one door have in common."""

    app: ASGIFramework
    config: Config
    stream_path: bytes
    slots: trio.Semaphore
    """One a connection; who accepts waits here when there are too many."""
    stopping: trio.Event
    """No stream begins any more, and each response is its connection's last."""
    alone: Collection[tuple[str, str]] = ()
    """Methods and paths of which the app answers a request without waiting for anything but the store."""
    context: WorkerContext = field(default_factory=lambda: WorkerContext(None))
    state: dict[str, Any] = field(default_factory=dict)
    """What the app's lifespan left for its requests."""
    idle: dict[trio.CancelScope, None] = field(default_factory=dict)
    """Connections between two requests, oldest first. Cancelling one closes it."""
    asking: dict[trio.CancelScope, None] = field(default_factory=dict)
    """Those whose request has not come whole, its head that is; likewise."""
    sending: dict[trio.CancelScope, None] = field(default_factory=dict)
    """Those whose body has not come whole, by when something of it came last; likewise."""

    def __post_init__(self) -> None:
        self.context.terminated = _Stopping(self.stopping)

    def make_room(self) -> bool:
        """Close a connection that has nothing to ask, or else the one that has been longest about saying what.

        False where there is none.

        A thousand half heads or bodies would otherwise keep everybody else waiting for their time limit, again and
        again. One that goes on sending has the others before it.
        """
        for waiting in (self.idle, self.asking, self.sending):
            if waiting:
                scope = next(iter(waiting))
                del waiting[scope]
                scope.cancel()
                return True
        return False


class HttpConnection:
    """One peer, from its first bytes until it leaves, or until it asks for the stream.

    Args:
        service: what this connection has in common with others.
        stream: the peer: a ``trio.SocketStream``, or a ``trio.SSLStream`` after its handshake.
        sock: the socket at the bottom of ``stream``.
        client: the peer's address and port, for the app.
        server: ours.
        head_deadline: when the head of the first request must be complete.
    """

    def __init__(
        self,
        service: HttpService,
        stream: trio.abc.Stream,
        sock: trio.socket.SocketType,
        *,
        client: tuple[str, int],
        server: tuple[str, int],
        head_deadline: float,
    ) -> None:
        self._service = service
        self._stream = stream
        self._sock = sock
        self._client = client
        self._server = server
        self._tls = isinstance(stream, trio.SSLStream)
        self._head_deadline: float | None = head_deadline
        self._reading = trio.CancelScope()
        self._writing = trio.Lock()
        self._answered = False
        self._nursery: trio.Nursery
        self._protocol: Protocol

    async def run(self, data: bytes) -> UpgradeRequest | None:
        """Serve until the connection ends or leaves HTTP. ``data`` is what has been read already.

        Returns:
            ``None``: the socket is closed. Otherwise it is open and the caller's; all responses are sent, and no task
            of the app is left.
        """
        taken: UpgradeRequest | None = None
        try:
            async with trio.open_nursery() as self._nursery:
                self._protocol = self._make_protocol()
                try:
                    with self._reading:
                        await self._read(data)
                except HandOff as hand_off:
                    taken = hand_off.request
                    self._nursery.cancel_scope.deadline = trio.current_time() + AFTER_RESPONSE_S
                else:
                    await self._hang_up()
        finally:
            self._service.idle.pop(self._reading, None)
            self._service.asking.pop(self._reading, None)
            self._service.sending.pop(self._reading, None)
            # They refer to this object and it to them: without this, only the collector could free any of it.
            del self._nursery, self._protocol
        return taken

    def _make_protocol(self) -> Protocol:
        service = self._service
        protocol = Protocol(
            cast("AppWrapper", None),  # neither of the two is asked for anything: apps are started here
            service.config,
            service.context,
            cast("TaskGroup", None),
            ConnectionState(service.state.copy()),
            self._tls,
            self._client,
            self._server,
            self._send,
        )
        protocol.stream_path = service.stream_path
        protocol.alone = service.alone
        protocol.run_app = self._run_app
        protocol.start_app = self._start_app
        limit = service.config.h11_max_incomplete_size
        protocol.connection = H11Connection(h11.SERVER, max_incomplete_event_size=limit)
        return protocol

    async def _read(self, data: bytes) -> None:
        while data:
            try:
                # After the last request nothing is parsed, nor kept.
                if self._protocol.connection.their_state is not h11.MUST_CLOSE:
                    await self._protocol.handle(RawData(data))
            except Refused as refusal:
                await self._protocol.refuse(refusal.status)  # Which ends this loop at the next checkpoint.
            self._reading.deadline = self._patience()
            try:
                data = await self._receive()
            except _PEER_GONE:
                return
            self._reading.deadline = inf

    async def _receive(self) -> bytes:
        """What has come; empty at the end. A plain socket is read once it has something: most requests come alone."""
        if self._tls:
            return bytes(await self._stream.receive_some(MAX_RECV))
        while True:
            try:
                await trio.lowlevel.wait_readable(self._sock)
            except ValueError:  # closed meanwhile, as the answer to what came last could not be sent
                raise trio.ClosedResourceError from None
            with suppress(BlockingIOError):
                return os.read(self._sock.fileno(), MAX_RECV)

    def _patience(self) -> float:
        """Until when the next bytes are waited for."""
        their_state = self._protocol.connection.their_state
        now = trio.current_time()
        self._service.sending.pop(self._reading, None)
        if their_state is h11.SEND_BODY:
            self._service.sending[self._reading] = None
            return now + BODY_TIMEOUT_S
        if their_state is not h11.IDLE:
            return inf
        if self._protocol.connection.trailing_data[0]:
            self._service.idle.pop(self._reading, None)
            self._service.asking.setdefault(self._reading)
            if self._head_deadline is None:
                self._head_deadline = now + HEAD_TIMEOUT_S
        return self._head_deadline or now + KEEP_ALIVE_TIMEOUT_S

    def _set_idle(self, *, idle: bool) -> None:
        self._head_deadline = None
        self._service.asking.pop(self._reading, None)
        if not idle:
            self._service.idle.pop(self._reading, None)
        elif not self._protocol.connection.trailing_data[0]:
            self._reading.deadline = trio.current_time() + KEEP_ALIVE_TIMEOUT_S
            if self._service.slots.statistics().tasks_waiting:
                self._reading.cancel()
            else:
                self._service.idle[self._reading] = None

    async def _send(self, event: Event) -> None:
        """Take what the protocol object has for its peer, or for its keeper."""
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Closed):
            self._answered = True
            self._reading.cancel()
        elif isinstance(event, Updated):
            self._set_idle(idle=event.idle)

    async def _write(self, data: bytes) -> None:
        whole = False
        try:
            rest = memoryview(data)[self._write_at_once(data) :]
            if not rest:
                whole = True
                return
            async with self._writing:
                while rest:
                    with trio.fail_after(STALL_TIMEOUT_S):
                        if self._tls:
                            await self._stream.send_all(rest[:_TLS_CHUNK])
                            rest = rest[_TLS_CHUNK:]
                        else:
                            rest = rest[await self._sock.send(rest) :]
            whole = True
        except (*_PEER_GONE, trio.TooSlowError) as error:
            logger.debug("a response could not be sent: %r", error)
        finally:
            if not whole:  # Also when the app was cancelled: half a response cannot be followed by another.
                self._abort()

    def _write_at_once(self, data: bytes) -> int:
        """How much the kernel takes now: nearly always all, and there is nothing to wait for."""
        if self._tls or self._writing.locked():
            return 0
        try:
            return os.write(self._sock.fileno(), data)
        except BlockingIOError:
            return 0

    async def _hang_up(self) -> None:
        if self._protocol.stream is not None:
            # In a task: an app that does not listen must not keep the socket open.
            self._nursery.start_soon(self._protocol.handle, Closed())
        if self._answered and self._protocol.connection.their_state in (h11.SEND_BODY, h11.ERROR):
            with trio.move_on_after(LINGER_TIMEOUT_S), suppress(*_PEER_GONE):
                if not self._tls:
                    self._sock.shutdown(trio.socket.SHUT_WR)
                while await self._stream.receive_some(MAX_RECV):
                    pass
        with trio.move_on_after(LINGER_TIMEOUT_S), suppress(*_PEER_GONE):
            await self._stream.aclose()

    def _abort(self) -> None:
        """Close now, and let the kernel forget what it has not sent."""
        with suppress(OSError):
            self._sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()
        self._reading.cancel()

    def _start_app(self, exchange: Exchange) -> None:
        self._nursery.start_soon(self._run_app, exchange)

    async def _run_app(self, exchange: Exchange) -> None:
        try:
            await self._service.app(exchange.scope, exchange.receive, exchange.send)  # type: ignore[arg-type]
        except* Exception:
            logger.exception("error in the application")
        await exchange.end()
