"""The door: one port, HTTP to the app through Hypercorn's HTTP/1.1, the stream's WebSocket upgrades to us.

A connection is one task. It begins as HTTP (``HttpConnection``). When it asks for the stream's path as a WebSocket,
with its first request or any later one, it is handed to ``on_upgrade``, and nothing of HTTP is left behind. What goes
wrong in a connection is logged and ends that connection.
"""

import errno
import importlib.metadata
import logging
import math
import os
import socket
import ssl
import sys
import weakref
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.typing import ASGIFramework

from jobctl import http_connection as http
from jobctl.errors import StartupError
from jobctl.hypercorn_h11 import may_ask_for, upgrade_at_once

BACKLOG: Final = 4096
"""Connections that the kernel holds for us: a restart brings thousands back within a second. (It may cap this.)"""
MAX_HTTP_CONNECTIONS: Final = 1000
"""At once, streams not counted. About 50 KB each. Who waits between two requests, or is slow to begin one, makes room
for others."""
ACCEPT_PAUSE_S: Final = 0.1
"""Before trying again when the system has no file descriptor or memory left (trio's figure)."""
ROOM_PAUSE_S: Final = 0.005
"""The same where somebody who only waited is being closed: with the longer one, a crowd that comes back as soon as it
is thrown out kept everybody else out for as long as it liked."""
TOLD_EVERY_S: Final = 60.0
"""How often the log says so while it goes on."""

logger = logging.getLogger("jobctl.door")
_listening: Final[weakref.WeakSet[socket.socket]] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A WebSocket upgrade of the stream's path. The connection is the receiver's; the door closes it afterwards."""

    stream: trio.abc.Stream
    """``trio.SocketStream``, or ``trio.SSLStream`` over it."""
    sock: trio.socket.SocketType
    """The TCP socket underneath."""
    target: bytes
    """As it was sent, with the query."""
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""
    leftover: bytes
    """What has been read and follows the request."""
    peer: str
    """The peer's address, without the port."""
    tls: bool


def check_hypercorn() -> None:
    """Raise ``StartupError`` unless the Hypercorn installed is one whose inside is known here."""
    version = importlib.metadata.version("hypercorn")
    if not version.startswith("0.18."):
        raise StartupError(f"hypercorn 0.18 is needed, {version} is installed: run pip install 'hypercorn==0.18.*'")


def bind(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of ``host`` (a name, an address, or empty for all of them). Port 0 takes a free one.

    Raises:
        OSError: with a message for a person; the port is in use, the address is not of this machine, or no such name.
    """
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, proto, _, address in dict.fromkeys(found):
            # With port 0, the addresses of a name share the port that the first one got.
            place = (address[0], port or (sockets[0].getsockname()[1] if sockets else 0), *address[2:])
            try:
                sockets.append(_listen(family, kind, proto, place))
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                missing = error  # Such as the IPv6 address of localhost, where there is no IPv6.
        if missing is not None and not sockets:
            raise missing
    except OSError as error:
        for sock in sockets:
            sock.close()
        where = f"{host or '*'}:{port}" if port else host or "*"
        raise OSError(error.errno, f"cannot listen on {where}: {error.strerror or error}") from error
    return sockets


def listen(host: str, port: int, *, option: str | None = None) -> list[socket.socket]:
    """``bind`` for the start of a process; ``option`` is where both are said, if it is one.

    Raises:
        StartupError: it cannot; with what to choose instead.
    """
    try:
        return bind(host, port)
    except OSError as error:
        hint = ""
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            hint = f"; choose another with {option or '--port'}"
        elif error.errno == errno.EADDRNOTAVAIL:
            hint = f"; it is no address of this machine, choose another with {option or '--host'}"
        elif isinstance(error.__cause__, socket.gaierror):
            hint = f"; choose another with {option or '--host'}"
        raise StartupError(f"{error.strerror or error}{hint}") from None


def _listen(family: int, kind: int, proto: int, place: tuple[str | int, ...]) -> socket.socket:
    sock = socket.socket(family, kind, proto)
    try:
        if sys.platform == "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    _listening.add(sock)
    return sock


def _let_go() -> None:
    """A child that a handler has forked may live on when we are gone; the port must be free then."""
    for sock in tuple(_listening):
        sock.close()


os.register_at_fork(after_in_child=_let_go)


class Door:
    """Accepts on ``sockets``, serves ``app`` over HTTP/1.1 and gives the stream's upgrades away.

    Args:
        app: an ASGI 3 app; its lifespan is run around the time of accepting.
        sockets: listening, from ``bind``. The door closes them.
        stream_path: path of the WebSocket; a query after it does not matter. Upgrades of any other path are plain HTTP.
            With none, there is no stream.
        on_upgrade: awaited in the connection's task. The connection is closed when it returns or raises.
        before_upgrade: awaited before a request that may ask for the stream is parsed: a crowd's are in no hurry.
        ssl_context: serve TLS with it; the door sets its ALPN protocols.
        grace: seconds that all connections get after ``stop``, streams too.
        max_connections: HTTP connections at once.
        alone: methods and paths of requests that are answered in their connection's own task, once they are here
            whole. That their peer has left is not noticed meanwhile.
    """

    def __init__(
        self,
        app: ASGIFramework,
        sockets: Sequence[socket.socket],
        *,
        stream_path: str = "",
        on_upgrade: Callable[[Upgrade], Awaitable[None]] | None = None,
        before_upgrade: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
        ssl_context: ssl.SSLContext | None = None,
        grace: float = 5.0,
        max_connections: int = MAX_HTTP_CONNECTIONS,
        alone: Collection[tuple[str, str]] = (),
    ) -> None:
        config = Config()
        config.errorlog = logger
        config.include_server_header = False
        self._on_upgrade, self._before_upgrade = on_upgrade, before_upgrade
        self._ssl_context = ssl_context
        if ssl_context is not None:
            ssl_context.set_alpn_protocols(["http/1.1"])
        self._grace = grace
        self._listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]
        self._addresses = [sock.getsockname()[:2] for sock in sockets]
        self._slots = trio.Semaphore(max_connections)
        self._stopping = trio.Event()
        self._http = http.HttpService(app, config, stream_path.encode("ascii"), self._slots, self._stopping, alone)
        self._fresh: set[trio.CancelScope] = set()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listening socket, in the order given."""
        return list(self._addresses)

    def stop(self) -> None:
        """Accept nobody more; ``run`` then lets responses and streams end within the grace time and returns.

        May be called again, and before ``run``.
        """
        self._stopping.set()
        for listener in self._listeners:
            listener.socket.close()

    async def run(self, *, task_status: trio.TaskStatus[list[tuple[str, int]]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until ``stop``. Started, with the addresses, once the app's lifespan has started.

        Raises:
            ExceptionGroup: of ``LifespanFailureError``, when the app could not start.
        """
        lifespan = Lifespan(ASGIWrapper(self._http.app), self._http.config, self._http.state)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(lifespan.handle_lifespan)
                if not lifespan.startup.is_set():  # An app without a lifespan has already returned.
                    await lifespan.wait_for_startup()
                async with trio.open_nursery() as connections:
                    for listener in self._listeners:
                        connections.start_soon(self._accept, listener, connections)
                    task_status.started(self.addresses)
                    await self._stopping.wait()
                    connections.cancel_scope.deadline = trio.current_time() + self._grace
                    for scope in (*self._http.idle, *self._fresh):
                        scope.cancel()
                if not lifespan.shutdown.is_set():
                    await lifespan.wait_for_shutdown()
                nursery.cancel_scope.cancel()
        finally:
            self.stop()

    async def _accept(self, listener: trio.SocketListener, connections: trio.Nursery) -> None:
        """Accept until the listener is closed; errors are waited out. Who finds no slot takes one of the idle."""
        tell_at = -math.inf
        while True:
            try:
                stream = await listener.accept()
            except trio.ClosedResourceError:
                return
            except OSError as error:
                if trio.current_time() >= tell_at:
                    logger.warning("cannot accept connections, retrying: %s", os.strerror(error.errno or 0))
                    tell_at = trio.current_time() + TOLD_EVERY_S
                await trio.sleep(ROOM_PAUSE_S if self._http.make_room() else ACCEPT_PAUSE_S)
                continue
            try:
                if self._slots.value == 0:
                    self._http.make_room()
                await self._slots.acquire()
            except BaseException:
                stream.socket.close()
                raise
            connections.start_soon(self._serve, stream, name="connection")

    async def _serve(self, stream: trio.SocketStream) -> None:
        """One connection, whole. For a stream, this is the only frame below ``on_upgrade``."""
        try:
            try:
                upgrade = await self._serve_http(stream)
            finally:
                self._slots.release()
            if upgrade is not None and self._on_upgrade is not None:
                streaming = self._on_upgrade(upgrade)
                del upgrade  # The receiver may drop the headers.
                await streaming
        except* (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionError, TimeoutError) as errors:
            logger.debug("connection lost: %r", errors.exceptions)
        except* Exception:
            logger.exception("a connection failed and was closed")
        finally:
            stream.socket.close()

    async def _serve_http(self, transport: trio.SocketStream) -> Upgrade | None:
        sock = transport.socket
        stream: trio.abc.Stream = transport
        deadline = trio.current_time() + http.HEAD_TIMEOUT_S
        first = b""
        try:
            client: tuple[str, int] = sock.getpeername()[:2]
            server: tuple[str, int] = sock.getsockname()[:2]
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            _set_user_timeout(sock, http.STALL_TIMEOUT_S)
        except OSError:
            return None  # Gone again.
        if self._stopping.is_set():
            return None  # Accepted in the same moment.
        with trio.CancelScope(deadline=deadline) as waiting:
            self._fresh.add(waiting)
            self._http.asking[waiting] = None
            try:
                if self._ssl_context is not None:
                    stream = trio.SSLStream(transport, self._ssl_context, server_side=True)
                    await stream.do_handshake()
                first = bytes(await stream.receive_some(http.MAX_RECV))
            finally:
                self._fresh.discard(waiting)
                self._http.asking.pop(waiting, None)
        request = None
        if self._on_upgrade is not None and may_ask_for(first, self._http.stream_path):
            await self._before_upgrade()
            if not self._stopping.is_set():
                request = upgrade_at_once(first, self._http.stream_path)
        if request is None and first:
            connection = http.HttpConnection(
                self._http, stream, sock, client=client, server=server, head_deadline=deadline
            )
            request = await connection.run(first)
        if request is None:
            return None
        _set_user_timeout(sock, 0)  # It would end a stream whose reader is slow, but reads.
        return Upgrade(stream, sock, *request, peer=client[0], tls=stream is not transport)


def _set_user_timeout(sock: trio.socket.SocketType, seconds: float) -> None:
    """After how long without an acknowledgement the kernel gives up on what it sends; 0 is its default."""
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
