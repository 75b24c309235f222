"""A run's progress and log lines on their way into the store: buffered, bounded, sent in batches.

Writers may be on any thread. The task that sends lives only while there is something to send, and the store tells when
the run is not ours any more: then everything that still comes is dropped.
"""

import logging
import math
import re
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from jobctl.engine.guard import Guard
from jobctl.errors import StoreUnavailable
from jobctl.model import clip
from jobctl.store.base import LogEntry, Store

FLUSH_S: Final = 0.1
"""Between two flushes of a run: at most ten progress updates a second, and a log line is seen within this time."""
MAX_LINE: Final = 8 * 1024
MAX_RUN_LOG: Final = 10 * 1024 * 1024
"""Bytes of log per run; a loop that prints must not fill the disk."""
LINE_COST: Final = 32
"""What a line costs beside its text, or ten million empty ones would fit below the limit."""
MAX_BUFFER: Final = 1024 * 1024
"""Bytes waiting to be written, per run; at 10 MB/s this is one flush."""
MAX_BATCH: Final = 1000
"""Lines in one write, so that a chatty job does not hold up the transaction of the others."""
_THREAD_WAIT_S: Final = 10.0
"""How long a thread waits for room in the buffer before its lines are dropped."""
_RETRY_S: Final = 0.25
_BREAK: Final = re.compile(r"\r\n|\n|\r")
log = logging.getLogger("jobctl.engine")


class Spawn(Protocol):
    """Starts a task that outlives the call; ``Nursery.start_soon``."""

    def __call__(self, async_fn: Callable[[], Awaitable[object]], /) -> None:
        """Start it soon."""


@dataclass(frozen=True, slots=True)
class Host:
    """Where runs live: made once by the runner. ``ident`` is the thread of the event loop."""

    store: Store
    spawn: Spawn
    token: trio.lowlevel.TrioToken
    ident: int
    guard: Guard | None = None
    """Ends programs of a process that cannot do so itself."""


class Reporter:
    """Buffers one run's progress and log lines and sends them in batches. Writers may be on any thread."""

    def __init__(self, host: Host, job_id: str, run: int, *, closed: bool = False) -> None:
        self._host, self._job_id, self._run = host, job_id, run
        self._changed = threading.Condition()  # guards everything below; notified when the buffer shrinks
        self._lines: deque[LogEntry] = deque()
        self._progress: tuple[float, str | None] | None = None
        self._size = 0
        self._left = MAX_RUN_LOG
        self._dropped = 0
        self._closed = closed
        self._idle: trio.Event | None = None  # there is a flusher (or one is being started) until it fires
        self._hurry = trio.Event()
        self._next_progress = -math.inf
        self._space: trio.Event | None = None

    def progress(self, value: float, message: str | None) -> None:
        """Keep the newest; older ones that were not sent yet are forgotten."""
        with self._changed:
            if not self._closed:
                self._progress = (value, message)
                self._wake()

    def write(self, stream: str, text: str) -> None:
        """Split into lines, clip and buffer them."""
        lines = lines_of(text)
        at = time.time_ns() // 1_000_000
        with self._changed:
            for line in lines:
                self._add(at, stream, line)
            self._wake()

    def _add(self, at: int, stream: str, line: str) -> None:
        if self._closed or self._left <= 0:
            return
        entry = LogEntry(at, stream, line)
        if self._size + _cost(entry) > MAX_BUFFER and not self._wait_for_room(_cost(entry)):
            self._dropped += 1
            return
        self._own_up(at)
        self._left -= _cost(entry)
        if self._left <= 0:
            entry = LogEntry(at, "log", f"(log cut: this run has written {MAX_RUN_LOG // 1024**2} MiB)")
        self._put(entry)

    def _own_up(self, at: int) -> None:
        if self._dropped:
            note = f"({self._dropped} lines dropped: they came faster than they could be stored)"
            self._put(LogEntry(at, "log", note))
            self._dropped = 0

    def _put(self, entry: LogEntry) -> None:
        self._lines.append(entry)
        self._size += _cost(entry)

    def _wait_for_room(self, cost: int) -> bool:
        if threading.get_ident() == self._host.ident:
            return False
        self._wake()
        self._changed.wait_for(lambda: self._closed or self._size + cost <= MAX_BUFFER, _THREAD_WAIT_S)
        return not self._closed and self._size + cost <= MAX_BUFFER

    def _wake(self) -> None:
        if self._idle is not None or not self._pending:
            return
        self._idle = trio.Event()
        if threading.get_ident() == self._host.ident:
            self._start()
        else:
            try:
                self._host.token.run_sync_soon(self._start)
            except trio.RunFinishedError:
                self._discard()

    def _start(self) -> None:
        try:
            self._host.spawn(self._flush)
        except RuntimeError:  # the nursery is closed: the server has ended, and the run with it
            self._discard()

    @property
    def _pending(self) -> bool:
        return bool(self._lines or self._dropped or self._progress is not None)

    async def room(self) -> None:
        """Wait while more than a quarter of the buffer is taken."""
        while self._size > MAX_BUFFER // 4 and not self._closed:
            if self._space is None:
                self._space = trio.Event()
            await self._space.wait()

    async def close(self) -> None:
        """Take no more, and return when all has been sent (or the store said that the run is no longer ours)."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._signal_space()
        self._hurry.set()
        if self._idle is not None:
            await self._idle.wait()

    async def _flush(self) -> None:
        idle = self._idle
        try:
            while True:
                await self._send_safely()
                if not self._lines:  # a full batch is followed by the next at once
                    with trio.move_on_after(FLUSH_S):
                        await self._hurry.wait()
                with self._changed:
                    if not self._pending:
                        self._idle = None
                        return
        finally:
            if idle is not None:
                idle.set()

    async def _send_safely(self) -> None:
        try:
            await self._send()
        except Exception:
            # Not the handler's fault and not worth its life: the run goes on, unreported.
            log.exception("the reports of job %s could not be stored", self._job_id)
            self._discard()

    async def _send(self) -> None:
        """One batch of lines, then the newest progress if its time has come."""
        lines = self._take()
        if lines and not await self._until_stored(lambda: self._host.store.append_logs(self._job_id, self._run, lines)):
            self._discard()
        if self._progress is not None and (self._closed or trio.current_time() >= self._next_progress):
            self._next_progress = trio.current_time() + FLUSH_S
            if not await self._until_stored(self._send_progress):
                self._discard()

    async def _send_progress(self) -> bool:
        with self._changed:
            progress, self._progress = self._progress, None
        if progress is None:
            return True
        try:
            return await self._host.store.progress(self._job_id, self._run, *progress)
        except StoreUnavailable:
            with self._changed:
                self._progress = self._progress or progress
            raise

    @staticmethod
    async def _until_stored(write: Callable[[], Awaitable[bool]]) -> bool:
        while True:
            try:
                return await write()
            except StoreUnavailable:
                await trio.sleep(_RETRY_S)

    def _take(self) -> list[LogEntry]:
        with self._changed:
            self._own_up(time.time_ns() // 1_000_000)
            lines = [self._lines.popleft() for _ in range(min(len(self._lines), MAX_BATCH))]
            self._size -= sum(map(_cost, lines))
            self._changed.notify_all()
        self._signal_space()
        return lines

    def _signal_space(self) -> None:
        if self._space is not None:
            self._space.set()
            self._space = None

    def _discard(self) -> None:
        with self._changed:
            self._closed = True
            self._lines.clear()
            self._progress, self._size, self._dropped = None, 0, 0
            idle, self._idle = self._idle, None
            self._changed.notify_all()
        if idle is not None and threading.get_ident() == self._host.ident:
            idle.set()
            self._signal_space()


def lines_of(text: str) -> list[str]:
    """``text`` as it stands in a log: cut at line breaks, each line at 8 KiB."""
    if text.isascii() and "\n" not in text and "\r" not in text and len(text) <= MAX_LINE:
        return [text]
    lines = [clip(line, MAX_LINE) for line in _BREAK.split(text)]
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    return lines


def _cost(entry: LogEntry) -> int:
    return len(entry.text.encode()) + LINE_COST
