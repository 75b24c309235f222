"""One WebSocket connection of a client: ``wsproto`` on a trio stream, without a task of its own.

A reader pulls (``receive``), so there is no nursery, no queue between the socket and the reader, and nothing that goes
on when the reader stops: the kernel's buffers fill and the server feeds a slow reader from its log.
"""

import socket
import ssl
from collections import deque
from contextlib import suppress
from typing import Final

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from jobctl.client.address import STREAM_PATH, Address

MAX_MESSAGE: Final = 32 * 1024 * 1024
"""Of a server's message: far above the largest real one (stats of 1,000 queues, 200 KB), below what hurts."""
READ_BYTES: Final = 64 * 1024
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
    """An open WebSocket. Make it with ``open_connection``; whoever has it closes it."""

    def __init__(self, stream: trio.abc.Stream, raw: trio.SocketStream) -> None:
        self._stream = stream
        self._raw = raw
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._parts: list[str] = []
        self._size = 0
        self._texts: list[str] = []
        self._replies: deque[Event] = deque()
        self._accepted = False
        self._rejected: int | None = None
        self._end: Closed | None = None

    async def handshake(self, address: Address) -> None:
        """Upgrade.

        Raises:
            Rejected: the server answered something else.
            Closed: it hung up.
        """
        await self._write(Request(host=address.authority, target=address.prefix + STREAM_PATH))
        while not self._accepted:  # messages that came along wait in `_texts`
            if self._rejected is not None:
                raise Rejected(self._rejected)
            if self._end is not None:
                raise self._end
            await self._read()

    async def send(self, text: bytes) -> None:
        """Write one text message.

        Raises:
            Closed: the connection is gone; also after a former write was cancelled in the middle.
        """
        await self._write(TextMessage(data=text.decode()))

    async def receive(self) -> list[str]:
        """The text messages that have come; may be none (a ping). Cancelled, nothing is lost.

        Raises:
            Closed: the connection is gone; what came before has been returned by then.
        """
        if not self._texts and self._end is None:
            await self._read()
        while self._replies:
            await self._write(self._replies.popleft())
        if not self._texts and self._end is not None:
            raise self._end
        texts, self._texts = self._texts, []
        return texts

    async def aclose(self) -> None:
        """Say goodbye and close; takes a second at most, and does not raise."""
        with trio.move_on_after(CLOSE_TIMEOUT_S) as scope, suppress(Closed):
            scope.shield = True
            await self._write(CloseConnection(code=1000))
        self.abandon()

    def abandon(self) -> None:
        """Close the socket now; nothing more is sent or received."""
        self._end = self._end or Closed(None)
        self._raw.socket.close()

    async def _read(self) -> None:
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            self._end = Closed(None)
            return
        try:
            self._ws.receive_data(bytes(data))
            for event in self._ws.events():
                self._take(event)
        except ProtocolError:
            self.abandon()

    def _take(self, event: Event) -> None:
        match event:
            case TextMessage(data=data, message_finished=finished):
                self._parts.append(data)
                self._size += len(data)
                if finished:
                    self._texts.append("".join(self._parts))
                    self._parts, self._size = [], 0
                elif self._size > MAX_MESSAGE:
                    self.abandon()
            case Ping():
                self._replies.append(event.response())
            case CloseConnection(code=code):
                self._replies.append(event.response())
                self._end = Closed(int(code))
            case AcceptConnection():
                self._accepted = True
            case RejectConnection(status_code=status):
                self._rejected = status
            case BytesMessage():
                self.abandon()

    async def _write(self, event: Event) -> None:
        try:
            await self._stream.send_all(self._ws.send(event))
        except (ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._end or Closed(None) from None
        except trio.Cancelled:
            self.abandon()  # half a frame may have gone out
            raise


async def open_connection(address: Address, tls: ssl.SSLContext | None) -> Connection:
    """Connect and upgrade; the caller sets the deadline.

    Raises:
        OSError: no connection, or TLS failed.
        Rejected, Closed: as ``Connection.handshake``.
    """
    raw = await trio.open_tcp_stream(address.host, address.port)
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream: trio.abc.Stream = raw
        if address.secure:
            context = tls or ssl.create_default_context()
            secured = trio.SSLStream(raw, context, server_hostname=address.host, https_compatible=True)
            try:
                await secured.do_handshake()
            except trio.BrokenResourceError as error:
                raise OSError(f"TLS failed: {error.__cause__ or error}") from None
            stream = secured
        connection = Connection(stream, raw)
        await connection.handshake(address)
    except BaseException:
        raw.socket.close()
        raise
    return connection
