"""Ctrl-C, SIGTERM and SIGHUP: which of them a command listens to, and what it says to the shell then."""

import signal
import time
from collections.abc import Callable
from typing import Any, Final, Self

IMPATIENT_S: Final = 1.0
"""A signal that comes so long after one that nobody has looked at is raised where it finds us: something hangs."""
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal, after everything has been closed in order."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number


class Noted:
    """Notes signals while it is entered, and raises them only where ``check`` is called.

    For what has to be put in order: nothing is cut short between what was made and the ``try`` that takes it away
    again, and a clean-up that has begun is finished.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: dict[int, Any] = {}
        self._number: int | None = None
        self._since = 0.0
        self._raised = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in heeded()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise ``Interrupted``, once, if there was a signal."""
        if self._number is not None and not self._raised:
            self._raised = True
            raise Interrupted(self._number)

    def _note(self, number: int, _: object) -> None:
        if self._number is None:
            self._number, self._since = number, self._clock()
        elif self._clock() - self._since > IMPATIENT_S:
            self.check()


def heeded() -> list[signal.Signals]:
    """Those of ``SIGNALS`` that are not ignored, as ``nohup`` and a shell's ``&`` have it."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def exit_of_interrupt(error: BaseException) -> int:
    """As the shell has it: 128 and the number of the signal."""
    if isinstance(error, BaseExceptionGroup):
        return exit_of_interrupt(error.exceptions[0])
    return 128 + (error.number if isinstance(error, Interrupted) else signal.SIGINT)
