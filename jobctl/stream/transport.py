"""The bytes of one connection: a plain socket, or TLS over one. Both look alike to the outbox and the endpoint.

Plain sockets are taken from trio and used non-blocking, so that fan-out is one ``send`` a connection with no task
switch. TLS has to go through ``SSLStream``, which only a task can write to.
"""

import contextlib
import fcntl
import socket
import struct
import sys
import termios
from typing import ClassVar, Final

import trio

SEND_BUFFER: Final = 128 * 1024
"""SO_SNDBUF: else the kernel holds megabytes for a reader that has stopped."""
CHUNK: Final = 64 * 1024
_SIOCOUTQ: Final = termios.TIOCOUTQ if sys.platform == "linux" else None


class Transport:
    """Interface and the parts that both share. ``direct``: ``try_send`` writes; else only ``send_some`` does."""

    __slots__ = ("_sock", "closed", "sent")
    direct: ClassVar[bool] = True

    def __init__(self, sock: socket.socket | trio.socket.SocketType) -> None:
        self._sock = sock
        self.sent = 0
        """Bytes that the kernel has taken."""
        self.closed = False
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def try_send(self, data: bytes | memoryview) -> int:
        """Bytes taken now, 0 if none can be. Raises OSError when the peer is gone."""
        raise NotImplementedError

    async def wait_writable(self) -> None:
        """Wait until ``try_send`` may take something (plain sockets). Raises OSError when the peer is gone."""
        raise NotImplementedError

    async def send_some(self, data: bytes | memoryview) -> int:
        """Bytes taken, waiting until there is room (TLS: it cannot be called back). Raises OSError likewise."""
        raise NotImplementedError

    async def receive(self) -> bytes:
        """What came; empty at the end. Raises OSError when the peer is gone."""
        raise NotImplementedError

    def acknowledged(self) -> int:
        """Bytes that the peer's kernel has confirmed (where that can be asked; else all that ours has taken)."""
        if _SIOCOUTQ is None or self.closed:
            return self.sent
        try:
            unsent: int = struct.unpack("i", fcntl.ioctl(self._sock.fileno(), _SIOCOUTQ, b"\0\0\0\0"))[0]
        except OSError:
            return self.sent
        return self.sent - unsent

    def finish(self) -> None:
        """Say that no more will be sent."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Drop the connection at once, unsent bytes and all (RST)."""
        if not self.closed:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()

    def close(self) -> None:
        """Close; whoever waits in ``receive`` or ``send_some`` gets an OSError."""
        raise NotImplementedError


class PlainTransport(Transport):
    """A TCP socket; takes it over from trio."""

    __slots__ = ("_raw",)

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._raw = socket.socket(fileno=sock.detach())
        self._raw.setblocking(False)
        super().__init__(self._raw)

    def try_send(self, data: bytes | memoryview) -> int:
        try:
            n = self._raw.send(data)
        except BlockingIOError:
            return 0
        self.sent += n
        return n

    async def wait_writable(self) -> None:
        try:
            await trio.lowlevel.wait_writable(self._raw)
        except (trio.ClosedResourceError, ValueError):
            raise ConnectionAbortedError("closed on this side") from None

    async def receive(self) -> bytes:
        while True:
            try:
                data = self._raw.recv(CHUNK)
            except BlockingIOError:
                pass
            else:
                if data:  # a peer that floods has always sent more: the others get their turn
                    await trio.lowlevel.checkpoint()
                return data
            try:
                await trio.lowlevel.wait_readable(self._raw)
            except (trio.ClosedResourceError, ValueError):
                raise ConnectionAbortedError("closed on this side") from None

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            trio.lowlevel.notify_closing(self._raw)
            self._raw.close()


class TlsTransport(Transport):
    """TLS; all that is sent waits in the outbox for its task."""

    __slots__ = ("_stream",)
    direct: ClassVar[bool] = False

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        super().__init__(stream.transport_stream.socket)

    def try_send(self, data: bytes | memoryview) -> int:  # noqa: ARG002
        return 0

    async def send_some(self, data: bytes | memoryview) -> int:
        piece = data[: 16 * 1024]  # one TLS record
        try:
            await self._stream.send_all(piece)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionAbortedError(str(error)) from None
        self.sent += len(piece)
        return len(piece)

    async def receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(CHUNK))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionAbortedError(str(error)) from None

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._sock.close()
