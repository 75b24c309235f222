"""Ctrl-C, SIGTERM and SIGHUP: which of them a command listens to, and what it says to the shell then."""

import signal
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal, after everything has been closed in order."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number


def heeded() -> list[signal.Signals]:
    """Those of ``SIGNALS`` that are not ignored, as ``nohup`` and a shell's ``&`` have it."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def exit_of_interrupt(error: BaseException) -> int:
    """As the shell has it: 128 and the number of the signal."""
    if isinstance(error, BaseExceptionGroup):
        return exit_of_interrupt(error.exceptions[0])
    return 128 + (error.number if isinstance(error, Interrupted) else signal.SIGINT)
