"""The database's clock, which all processes share: what is due is due by it, whatever their own clocks say."""

import time
from typing import Final

from jobctl.store.committer import now_ms

NOTICED_MS: Final = 100
"""By how much a clock may differ from ours and be taken for the same: it is asked over a network."""


class DatabaseClock:
    """Milliseconds since the epoch. It is asked now and then (``told``), and in between goes by a steady clock.

    So it does not jump when somebody sets the clock of this machine. One thread is told while others read.
    """

    def __init__(self) -> None:
        self._ahead: float = now_ms() - time.monotonic() * 1000
        """Of the steady clock (ms); one number, so that nobody reads a half of what was told."""

    def __call__(self) -> int:
        return round(self._ahead + time.monotonic() * 1000)

    def told(self, database_ms: int, asked: float, answered: float) -> None:
        """The database said ``database_ms`` between two times of the steady clock (s)."""
        self._ahead = database_ms - (asked + answered) / 2 * 1000

    def ours(self, due: int) -> int:
        """When this machine's clock will show, as its own, the time at which the database's shows ``due``."""
        ahead = self() - now_ms()
        return due - ahead if abs(ahead) > NOTICED_MS else due
