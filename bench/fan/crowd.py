"""The crowd: many connections in one process, read as cheaply as may be, so that one core keeps up with any server.

Frames are counted, each connection's for itself, and of a sample what came and when. Nothing is decoded while it is
read. The conversation before (``auth``, ``subscribe_jobs``) is jobctl's; all servers of the benchmark speak it.
"""

import base64
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bench.processes import Failed

TEXT: Final = 0x81
SILENCE_S: Final = 20.0
"""Nothing came for so long: what is missing will not come."""
STALLED_BUFFER: Final = 4096
"""SO_RCVBUF of those who never read: it is soon full."""
_STEPS: Final = (b'"auth_required"', b'"connected"', b'"jobs_subscribed"')
_RST: Final = struct.pack("ii", 1, 0)


class Refused(Failed):
    """A server would not have somebody."""


class Crowd:
    """Connections to one server. ``pings`` are left unanswered, and not counted.

    Args:
        port: Where it listens.
        tokens: One a connection, in the order in which they come.
        subscribe: What the ``n``th asks for.
    """

    def __init__(self, port: int, tokens: Sequence[str], subscribe: Callable[[int], bytes]) -> None:
        self._port = port
        self._tokens = tokens
        self._subscribe = subscribe
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._reading: dict[int, socket.socket] = {}
        self._carry: dict[int, bytes] = {}
        self._buffer = bytearray(1 << 18)
        self._view = memoryview(self._buffer)
        self.sample: frozenset[int] = frozenset()
        """Descriptors whose bytes ``take`` keeps."""
        self.seen: list[tuple[int, int, bytes]] = []
        """What they brought: ns, descriptor, bytes."""

    def __len__(self) -> int:
        return len(self._sockets)

    @property
    def reading(self) -> int:
        """How many of them read."""
        return len(self._reading)

    # --- coming and going ------------------------------------------------------------------------------------------

    def join(self, n: int, *, stalled: int = 0) -> None:
        """Connect, sign in and subscribe ``n`` more, all at once; the first ``stalled`` never read from then on.

        Raises:
            Refused: one of them could not.
        """
        first = len(self._sockets)
        waiting: dict[int, _Joining] = {}
        quiet = set()
        for k in range(first, first + n):
            sock = socket.socket()
            if k < first + stalled:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BUFFER)
                quiet.add(sock.fileno())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", self._port))
            self._sockets[sock.fileno()] = sock
            waiting[sock.fileno()] = _Joining(sock, self._port, self._tokens[k], self._subscribe(k))
            self._epoll.register(sock, select.EPOLLOUT)
        while waiting:
            ready = self._epoll.poll(SILENCE_S)
            if not ready:
                raise Refused(f"{len(waiting)} of {n} connections were not let in within {SILENCE_S:.0f} s")
            for fd, _ in ready:
                joining = waiting.get(fd)
                if joining is None:
                    self._heed(fd)
                    continue
                if not joining.go_on():
                    self._epoll.modify(fd, select.EPOLLIN)
                    continue
                del waiting[fd]
                self._epoll.unregister(fd)
        for fd in list(self._sockets)[first:]:
            if fd not in quiet:
                self._epoll.register(fd, select.EPOLLIN)
                self._reading[fd] = self._sockets[fd]

    def leave(self) -> None:
        """Drop all of them at once (RST: no port is kept for a minute afterwards)."""
        for sock in self._sockets.values():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            sock.close()
        self._sockets.clear()
        self._reading.clear()
        self._carry.clear()
        self.sample = frozenset()
        self._epoll.close()
        self._epoll = select.epoll()

    def close(self) -> None:
        """Leave for good."""
        self.leave()
        self._epoll.close()

    # --- reading ---------------------------------------------------------------------------------------------------

    def choose_sample(self, every: int) -> None:
        """Keep what every ``every``th of those who read gets, from now on."""
        self.sample = frozenset(list(self._reading)[::every])
        self.seen = []

    def take(self, frames: int) -> int:
        """Read until ``frames`` text frames have come, over all; how many bytes that was.

        Raises:
            Failed: they did not, or more came, or a connection ended.
        """
        have = got = 0
        receive = {fd: sock.recv_into for fd, sock in self._reading.items()}
        poll, buffer, view, carry, sample = self._epoll.poll, self._buffer, self._view, self._carry, self.sample
        while have < frames:
            ready = poll(SILENCE_S)
            if not ready:
                raise Failed(f"{frames - have} of {frames} updates never came")
            for fd, _ in ready:
                n = receive[fd](buffer)
                if not n:
                    raise Failed("the server ended a connection")
                got += n
                if fd in sample:
                    self.seen.append((time.monotonic_ns(), fd, bytes(view[:n])))
                # Nearly always one whole frame of 126 to 65,535 bytes.
                if n == 4 + (buffer[2] << 8 | buffer[3]) and buffer[1] == 126 and buffer[0] == TEXT and fd not in carry:
                    have += 1
                else:
                    have += self._count(fd, bytes(view[:n]))
        if have > frames:
            raise Failed(f"{have - frames} updates more came than were sent")
        return got

    def _heed(self, fd: int) -> None:
        """Read what comes to one who is in while others are on their way: it may be a ping, and is no update."""
        data = self._sockets[fd].recv(len(self._buffer))
        if not data or self._count(fd, data):
            raise Failed("the server ended a connection, or sent what nobody had asked for")

    def _count(self, fd: int, data: bytes) -> int:
        """Whole text frames that ``data`` completes."""
        data = self._carry.pop(fd, b"") + data
        found = end = 0
        for kind, _, end in frames_in(data):  # noqa: B007 - the last one's end is of interest
            found += kind == TEXT
        if end < len(data):
            self._carry[fd] = data[end:]
        return found

    def payloads(self) -> Iterator[tuple[int, int, bytes]]:
        """Of the sample: ns, descriptor and payload of each text frame, in the order in which they came."""
        rest: dict[int, bytes] = {}
        for at, fd, more in self.seen:
            data, end = rest.pop(fd, b"") + more, 0
            for kind, start, end in frames_in(data):
                if kind == TEXT:
                    yield at, fd, data[start:end]
            if end < len(data):
                rest[fd] = data[end:]


class _Joining:
    """One that is on its way in."""

    __slots__ = ("_heard", "_says", "_sock", "_step")

    def __init__(self, sock: socket.socket, port: int, token: str, subscribe: bytes) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self._sock = sock
        self._says = (
            f"GET /api/notifications/ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode(),
            masked(b'{"type":"auth","token":"%s"}' % token.encode()),
            masked(subscribe),
        )
        self._step = -1
        self._heard = b""

    def go_on(self) -> bool:
        """Do what comes next; True once it is in."""
        if self._step < 0:
            error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise Refused(f"a connection was refused: {os.strerror(error)}")
        else:
            try:
                data = self._sock.recv(65536)
            except OSError as error:
                raise Refused(f"a connection was reset on its way in: {error.strerror}") from None
            if not data:
                told = self._heard[-200:].decode("latin-1").strip()
                raise Refused(f"a connection was closed on its way in, after {told!r}")
            self._heard += data
            if _STEPS[self._step] not in self._heard:
                return False
            self._heard = b""
        self._step += 1
        if self._step == len(self._says):
            return True
        self._sock.sendall(self._says[self._step])
        return False


def masked(text: bytes) -> bytes:
    """A text message as a client sends it. The mask is 0: what it costs the server does not depend on that."""
    size = len(text)
    head = bytes((TEXT, 0x80 | size)) if size < 126 else bytes((TEXT, 0xFE)) + size.to_bytes(2, "big")
    return head + bytes(4) + text


def frames_in(data: bytes) -> Iterator[tuple[int, int, int]]:
    """First byte, start of the payload and end of each whole frame of a server."""
    at, size = 0, len(data)
    while at + 2 <= size:
        length, start = data[at + 1], at + 2
        if length == 126:
            length, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
        elif length == 127:
            length, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
        if start > size or start + length > size:
            return
        yield data[at], start, start + length
        at = start + length
