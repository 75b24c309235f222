"""What waits to be written to one connection, bounded.

A write goes straight to the socket while nothing waits; what the kernel does not take waits here, first in, first
out, so that a frame is never torn. ``offer`` refuses what does not fit, whole: the caller then knows the exact
position up to which the reader will have everything.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Final

from jobctl.stream.transport import Transport

CONTROL_ROOM: Final = 64 * 1024
"""Extra room for answers (pong, errors, close): a peer that overruns this asks without ever reading."""


class Expired(Exception):
    """The token has ended while something waited to be written."""


class Outbox:
    """Frames on their way to ``transport``; ``limit`` is in bytes."""

    __slots__ = ("_chunks", "_clock", "_writing", "limit", "pending", "transport", "until")

    def __init__(self, transport: Transport, limit: int, *, clock: Callable[[], float]) -> None:
        self.transport = transport
        self.limit = limit
        self.pending = 0
        self.until = math.inf
        """Seconds since the epoch after which ``drain`` writes nothing more."""
        self._clock = clock
        self._chunks: deque[bytes | memoryview] | None = None  # made only for those who are slow once
        self._writing = False

    @property
    def expired(self) -> bool:
        """Whether nothing may be written any more."""
        return self._clock() >= self.until

    def check(self) -> None:
        """Raise ``Expired`` when nothing may be written any more."""
        if self.expired:
            raise Expired

    def offer(self, data: bytes) -> bool:
        """Send or keep ``data``, if it fits; a first chunk always does, so keep chunks well below ``limit``.

        Raises:
            OSError: the peer is gone.
        """
        if self.pending:
            if self.pending + len(data) > self.limit:
                return False
            self._keep(data)
            return True
        taken = self.transport.try_send(data)
        if taken < len(data):
            self._keep(memoryview(data)[taken:] if taken else data)
        return True

    def answer(self, data: bytes) -> bool:
        """Like ``offer``, with the room that is kept for control messages."""
        if self.pending + len(data) > self.limit + CONTROL_ROOM:
            return False
        if self.pending:
            self._keep(data)
            return True
        return self.offer(data)

    @property
    def torn(self) -> bool:
        """Whether a frame has been written in part, so that nothing else may follow it."""
        return self._writing or (self._chunks is not None and isinstance(self._chunks[0], memoryview))

    def clear(self) -> None:
        """Forget what waits."""
        self._chunks, self.pending = None, 0

    async def drain(self) -> None:
        """Write until nothing waits.

        Raises:
            OSError: the peer is gone.
            Expired: ``until`` has come.
        """
        while self._chunks:
            self.check()
            head = self._chunks[0]
            if self.transport.direct:
                taken = self.transport.try_send(head)
                if not taken:
                    await self.transport.wait_writable()  # what waits may be another thing by then
                    continue
            else:
                self._writing = True
                taken = await self.transport.send_some(head)
                self._writing = False
            self.pending -= taken
            if self._chunks is None:
                return
            if taken == len(head):
                self._chunks.popleft()
            else:
                self._chunks[0] = memoryview(head)[taken:]
        self._chunks = None

    def _keep(self, data: bytes | memoryview) -> None:
        if self._chunks is None:
            self._chunks = deque()
        self._chunks.append(data)
        self.pending += len(data)
