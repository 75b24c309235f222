"""Ctrl-C, SIGTERM, a closed terminal: the first ends what is being measured, and none cuts short what is kept of it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Attended:
    """Listens to signals while it is entered; those that are ignored (``nohup``, a shell's ``&``) stay so.

    Only what is done in ``measuring`` is interrupted, once. Processes are ended, files and reports written outside of
    it: that takes seconds, and a second Ctrl-C would leave half of it.
    """

    def __init__(self) -> None:
        self.interrupted = False
        """There was a signal."""
        self._measuring = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._heard) for number in heeded}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """In here the first signal is a ``KeyboardInterrupt``; at once where it has come before."""
        try:
            self._measuring = True
            if self.interrupted:
                raise KeyboardInterrupt
            yield
        finally:
            self._measuring = False

    def _heard(self, *_: object) -> None:
        first = not self.interrupted
        self.interrupted = True
        if first and self._measuring:
            raise KeyboardInterrupt
