"""One WebSocket connection of a client: trio-websocket on a stream that is ours to close.

trio-websocket reads in a task of its own, into a short queue; when the reader stops, the queue and then the kernel's
buffers fill, and the server feeds the slow reader from its log.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, cast

import trio
import trio_websocket

from jobctl.client.address import STREAM_PATH, Address

MAX_MESSAGE: Final = 32 * 1024 * 1024
"""Of a server's message: far above the largest real one (stats of 1,000 queues, 200 KB), below what hurts."""
QUEUE: Final = 64
"""Messages read ahead: a burst is taken with few switches between the two tasks."""
CLOSE_TIMEOUT_S: Final = 1.0


class Closed(Exception):
    """The connection is gone; ``code`` is that of the close message, None without one."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class Rejected(Exception):
    """The handshake was answered with HTTP ``status``."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Connection:
    """An open WebSocket. Made by ``open_connection``; whoever has it closes it."""

    def __init__(
        self, websocket: trio_websocket.WebSocketConnection, raw: trio.SocketStream, reading: trio.CancelScope
    ) -> None:
        self._websocket = websocket
        self._raw = raw
        self._reading = reading

    async def send(self, text: bytes) -> None:
        """Write one text message.

        Raises:
            Closed: the connection is gone; also after a former write was cancelled in the middle.
        """
        try:
            await self._websocket.send_message(text.decode())
        except trio_websocket.ConnectionClosed as closed:
            raise Closed(_code(closed)) from None
        except trio.Cancelled:
            self.abandon()  # half a frame may have gone out
            raise

    async def receive(self) -> str:
        """The next text message. Cancelled, nothing is lost.

        Raises:
            Closed: the connection is gone; what came before has been returned by then.
        """
        while True:
            try:
                message = await self._websocket.get_message()
            except trio_websocket.ConnectionClosed as closed:
                raise Closed(_code(closed)) from None
            if isinstance(message, str):
                return message

    async def aclose(self) -> None:
        """Say goodbye and close; takes a second at most, and does not raise."""
        with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
            await self._websocket.aclose()
        self.abandon()

    def abandon(self) -> None:
        """Close the socket now (trio-websocket leaves it open at times); nothing more is sent or received.

        Its reading task is ended as well: it may wait for room in the queue, which nobody makes any more.
        """
        self._reading.cancel()
        self._raw.socket.close()


def _code(closed: trio_websocket.ConnectionClosed) -> int | None:
    return None if closed.reason is None or closed.reason.code == 1006 else int(closed.reason.code)


class _Reader:
    """Starts trio-websocket's reading task, and keeps what it raises when the handshake is refused.

    It would end everything in the nursery, and leave ``wrap_client_stream`` waiting.
    """

    def __init__(self, nursery: trio.Nursery, opening: trio.CancelScope) -> None:
        self._nursery, self._opening = nursery, opening
        self.scope = trio.CancelScope()
        self.error: trio_websocket.HandshakeError | None = None

    def start_soon(self, task: Callable[[], Awaitable[object]]) -> None:
        """Start it, as a nursery would."""
        self._nursery.start_soon(self._run, task)

    async def _run(self, task: Callable[[], Awaitable[object]]) -> None:
        try:
            with self.scope:
                await task()
        except trio_websocket.HandshakeError as error:
            self.error = error
            self._opening.cancel()


async def open_connection(nursery: trio.Nursery, address: Address, tls: ssl.SSLContext | None) -> Connection:
    """Connect and upgrade; the caller sets the deadline. ``nursery`` is the parent of the reading task.

    Raises:
        OSError: no connection, or TLS failed.
        Rejected: the server answered something else.
        Closed: it hung up.
    """
    raw = await trio.open_tcp_stream(address.host, address.port)
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = raw
        if address.secure:
            context = tls or ssl.create_default_context()
            stream = trio.SSLStream(raw, context, server_hostname=address.host, https_compatible=True)
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError as error:
                raise OSError(f"TLS failed: {error.__cause__ or error}") from None
        try:
            with trio.CancelScope() as scope:
                reader = _Reader(nursery, scope)
                websocket = await trio_websocket.wrap_client_stream(
                    cast("trio.Nursery", reader),
                    stream,
                    address.authority,
                    address.prefix + STREAM_PATH,
                    message_queue_size=QUEUE,
                    max_message_size=MAX_MESSAGE,
                )
            if reader.error is not None:
                raise reader.error
        except trio_websocket.ConnectionRejected as rejected:
            raise Rejected(rejected.status_code) from None
        except trio_websocket.HandshakeError:
            raise Closed(None) from None
    except BaseException:
        raw.socket.close()
        raise
    return Connection(websocket, raw, reader.scope)
