"""The standard streams, made sound before a command runs.

Each is open (GNU's ``stdopen`` is the precedent): otherwise the first socket or file takes the place of a closed one,
and Python has ``None`` for it. What fails in writing to stdout is known as that and nothing else; what fails in writing
to stderr is let go, for there is nobody left to be told.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, Final

ENCODING: Final = "utf-8"
"""Of a stream for which the interpreter has chosen none."""


class OutputFailed(Exception):
    """Standard output takes nothing. No ``OSError``: typer would make exit code 1, a failed job, of a broken pipe.

    Attributes:
        gone: The reader has left (``jobctl watch | head``), which is no failure of a command that only shows something.
        done: What has been done all the same, and was to be told.
    """

    def __init__(self, reason: str, *, gone: bool = False, done: str = "") -> None:
        super().__init__(f"cannot write to standard output: {reason}" + (f"; {done}" if done else ""))
        self.reason, self.gone, self.done = reason, gone, done


def install() -> None:
    """Put sound streams in the place of ``sys.stdin``, ``sys.stdout`` and ``sys.stderr``."""
    _keep_open(0, os.O_WRONLY)  # reading from it fails, as it did
    _keep_open(1, os.O_RDONLY)
    _keep_open(2, os.O_WRONLY)
    if sys.stdin is None:
        sys.stdin = open(0, encoding=ENCODING, closefd=False)  # noqa: SIM115 - it stays open
    sys.stdout = _sound(_Stdout, 1, sys.stdout)
    sys.stderr = _sound(_Stderr, 2, sys.stderr, by_line=True)


def forget_stdout() -> None:
    """Let what is left in the buffer go nowhere, so that nothing fails again when the interpreter flushes it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


class _Stdout(io.TextIOWrapper):
    """Fails as ``OutputFailed``.

    The layers below stay those of the interpreter: in a raw stream of Python's own, Ctrl-C could come between the
    system call and its result, and what was written would be written again.
    """

    def write(self, text: str) -> int:
        with _told():
            return super().write(text)

    def flush(self) -> None:
        with _told():
            super().flush()


class _Stderr(io.TextIOWrapper):
    """Never fails."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


class _Patient(io.FileIO):
    """Waits for a pipe or terminal that somebody who shares it has made non-blocking."""

    def write(self, data: Any) -> int:
        while (written := super().write(data)) is None:
            import select

            select.select([], [self], [])
        return written


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputFailed(error.strerror or str(error), gone=isinstance(error, BrokenPipeError)) from None


def _keep_open(number: int, flags: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, flags)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        os.set_inheritable(number, True)


def _sound(kind: type[io.TextIOWrapper], number: int, before: Any, *, by_line: bool = False) -> io.TextIOWrapper:
    """Text over a descriptor, encoded and buffered as the interpreter had it; what its encoding lacks is escaped."""
    raw = (io.FileIO if os.get_blocking(number) else _Patient)(number, "wb", closefd=False)
    return kind(
        io.BufferedWriter(raw),
        encoding=ENCODING if before is None else before.encoding,
        errors="backslashreplace",
        line_buffering=by_line or raw.isatty() or bool(before and before.write_through),  # PYTHONUNBUFFERED
    )
