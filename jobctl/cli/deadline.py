"""How long a command may take, counted from its start: ``--wait-timeout``, ``watch --timeout``."""

import time
from typing import NamedTuple, Self

from jobctl.errors import WaitTimeout


class Deadline(NamedTuple):
    """A point in time, and how it was given.

    Args:
        seconds: As the person said it.
        at: On the clock of ``time.monotonic``.
    """

    seconds: float
    at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """So many seconds from now."""
        return cls(seconds, time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds until then; 0 when it is over."""
        return max(0.0, self.at - time.monotonic())

    def passed(self, why: object = "") -> WaitTimeout:
        """The error that says so."""
        return WaitTimeout(f"timed out after {self.seconds:g} s" + (f"; {why}" if str(why) else ""))
