"""What a command writes: cut into lines, into the job's log; ``::progress 0.4 resizing`` becomes progress."""

import codecs
import io
import math
import re
import signal
from collections import deque
from typing import Final

import trio

from jobctl.engine import processes
from jobctl.engine.context import MAX_MESSAGE, Run
from jobctl.engine.reporter import MAX_LINE
from jobctl.model import clip

PIPE_GRACE_S: Final = 1.0
"""How long output is awaited once the program has ended: something it started may hold the pipes for ever."""
TAIL_LINES: Final = 20
"""Last lines of stderr that become part of a failed job's error."""
_LAST_LOOK_S: Final = 0.05
_CHUNK: Final = 8 * 1024
"""Bytes read at once; with line breaks only, this fills a quarter of the log's buffer."""
_PROGRESS: Final = re.compile(r"::progress\s+([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)(?:\s+(.*))?")


class Lines:
    """Cuts output into lines: UTF-8 with bad bytes replaced, any line ending, none longer than 8 KiB of bytes."""

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        self._rest = ""

    def feed(self, chunk: bytes, *, last: bool = False) -> list[str]:
        """The lines that ``chunk`` completes; with ``last``, what remains too."""
        *whole, rest = (self._rest + self._decoder.decode(chunk, final=last)).split("\n")
        lines = [piece for line in whole for piece in _pieces(line)]
        *cut, self._rest = _pieces(rest)
        lines += cut
        if last and self._rest:
            lines.append(self._rest)
            self._rest = ""
        return lines


def _pieces(line: str) -> list[str]:
    """``line`` in pieces of at most MAX_LINE bytes, cut between characters; at least one piece."""
    raw = line.encode()
    if len(raw) <= MAX_LINE:
        return [line]
    pieces, start = [], 0
    while start < len(raw):
        end = min(start + MAX_LINE, len(raw))
        while end < len(raw) and raw[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(raw[start:end].decode())
        start = end
    return pieces


class Output:
    """Reads both pipes into the job's log, and stops in time though somebody should hold them open."""

    def __init__(self, run: Run, process: trio.Process) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._run = run
        self._leader = process.pid
        self._until = math.inf
        self._waits: set[trio.CancelScope] = set()

    def leader_ended(self) -> None:
        """From now on output is awaited only for a short time."""
        self._until = trio.current_time() + PIPE_GRACE_S
        for wait in self._waits:
            wait.deadline = self._until

    async def read(self, pipe: trio.abc.ReceiveStream | None, stream: str) -> None:
        """Read until the end; a line of the form ``::progress 0.4 resizing`` is progress, not log."""
        assert pipe is not None  # noqa: S101 - it was asked for
        lines = Lines()
        last = False
        while not last:
            chunk = await self._receive(pipe)
            last = not chunk
            for line in lines.feed(chunk, last=last):
                if line.startswith("::progress") and (found := _PROGRESS.fullmatch(line)):
                    message = clip(found[2], MAX_MESSAGE) if found[2] else None
                    self._run.progress(min(float(found[1]), 1.0), message)
                    continue
                if stream == "stderr":
                    self.tail.append(line)
                self._run.write(stream, line)
            await self._run.room()

    async def _receive(self, pipe: trio.abc.ReceiveStream) -> bytes:
        now = trio.current_time()
        if now > self._until:  # somebody goes on writing; what the pipe holds is still read
            processes.signal_group(self._leader, signal.SIGKILL)
        with trio.CancelScope(deadline=max(self._until, now + _LAST_LOOK_S)) as wait:
            self._waits.add(wait)
            try:
                return bytes(await pipe.receive_some(_CHUNK))
            finally:
                self._waits.discard(wait)
        return b""
