"""How many take a dear step in one turn of the event loop.

After a network's hiccup hundreds of clients are cut off at once, and are back at once. To sign one in takes a quarter
of a millisecond; five hundred that are ready in the same turn of the loop are an eighth of a second in which nobody
else is answered. So one goes on at a time, first come, first served, and in the turns between all else that is ready
has its own: a request that takes five turns meets one or two of the crowd. Where nothing else is ready, a turn takes
some microseconds. Nobody waits where there is no crowd.
"""

import trio


class Pace:
    """Lets one through, and the next one ``apart`` turns of the event loop later; all while ``run`` does not run."""

    def __init__(self, apart: int) -> None:
        self._apart = apart
        self._free = True
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
                if self._free:
                    await self._rest()
                for _ in range(self._apart):
                    await trio.lowlevel.checkpoint()
                if self._waiting:
                    self._let_go(next(iter(self._waiting)))
                else:
                    self._free = True
        finally:
            self._runs = False
            for task in tuple(self._waiting):
                self._let_go(task)

    async def turn(self) -> None:
        """Wait for one's turn."""
        if not self._runs:
            return
        if self._free:
            self._free = False
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

    def _let_go(self, task: trio.lowlevel.Task) -> None:
        del self._waiting[task]
        trio.lowlevel.reschedule(task)

    async def _rest(self) -> None:
        self._resting = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._resting = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
