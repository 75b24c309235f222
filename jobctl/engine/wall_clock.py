"""Notices when the wall clock is set, or has gone on while the machine slept.

What waits for a time of day sleeps by a clock that does not jump. Whoever sleeps so is woken here, to look again.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

import trio

LOOK_EVERY_S: Final = 1.0
JUMP_S: Final = 1.0
"""Schedules and delays are kept to the second; NTP slews what is less than half of one."""
log = logging.getLogger("jobctl.engine")


class WallClock:
    """Compares the wall clock with one that only goes on.

    Args:
        jumped: Called when they have come apart, with the seconds by which the wall clock is ahead of where it was.
        wall: Seconds since the epoch.
        steady: Seconds that do not jump.
    """

    def __init__(
        self, jumped: Callable[[float], None], *, wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._jumped = jumped
        self._wall, self._steady = wall, steady
        self._apart = wall() - steady()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look once a second, until it is cancelled."""
        task_status.started()
        while True:
            await trio.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Compare once."""
        apart = self._wall() - self._steady()
        jump = apart - self._apart
        if abs(jump) >= JUMP_S:
            self._apart = apart
            log.warning("the clock has jumped by %+.1f s; what is due is looked for again", jump)
            self._jumped(jump)
