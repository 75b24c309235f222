"""How many take a dear step in one turn of the event loop.

After a network's hiccup hundreds of clients are cut off at once, and are back at once. To sign one in takes a quarter
of a millisecond; five hundred that are ready in the same turn of the loop are an eighth of a second in which nobody
else is answered. So a few go on in each turn, first come, first served, and all else that is ready has its turn too.
Nobody waits where there is no crowd.
"""

from itertools import islice

import trio


class Pace:
    """Lets ``most`` through in a turn of the event loop; all of them while ``run`` does not run."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._passed = 0
        self._waiting: dict[trio.lowlevel.Task, None] = {}  # in the order in which they came
        self._runs = False
        self._resting: trio.lowlevel.Task | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep time until cancelled; then nobody waits any more."""
        self._runs = True
        task_status.started()
        try:
            while True:
                if not self._passed:
                    await self._rest()
                await trio.lowlevel.checkpoint()  # a turn: they have gone on, and others had theirs
                self._passed = 0
                self._release(self._most)
        finally:
            self._runs = False
            self._release(len(self._waiting))

    async def turn(self) -> None:
        """Wait for one's turn."""
        if not self._runs:
            return
        if self._passed < self._most and not self._waiting:
            self._passed += 1
            if self._resting is not None:
                trio.lowlevel.reschedule(self._resting)
                self._resting = None
            return
        task = trio.lowlevel.current_task()
        self._waiting[task] = None

        def abort(_: object) -> trio.lowlevel.Abort:
            del self._waiting[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _release(self, count: int) -> None:
        for task in tuple(islice(self._waiting, count)):
            del self._waiting[task]
            self._passed += 1
            trio.lowlevel.reschedule(task)

    async def _rest(self) -> None:
        self._resting = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._resting = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
