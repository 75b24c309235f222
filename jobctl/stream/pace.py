"""How much of the event loop's time dear steps take, and how many in one turn.

After a network's hiccup hundreds of clients are cut off at once, and are back at once. To sign one in takes a quarter
of a millisecond; five hundred that are ready in the same turn of the loop are an eighth of a second in which nobody
else is answered. So one goes on at a time, first come, first served, and in the turn between all else that is ready has
its own. And a loop that is never idle keeps a core for itself: a request's thread that was started meanwhile, or
another process, waits until the system takes the core away, 4 ms later. So after so much work all rest for a moment.
Nobody waits where there is no crowd.
"""

import time

import trio


class Pace:
    """Lets one through, and the next a turn of the event loop later; all while ``run`` does not run.

    Args:
        work: How long (s) they go on, one after the other, before
        rest: they pause for so long (s). The system counts in milliseconds: of one, or less, becomes one.
    """

    def __init__(self, *, work: float, rest: float) -> None:
        self._work, self._rest = work, rest
        self._free = True
        self._waiting: dict[trio.lowlevel.Task, None] = {}  # in the order in which they came
        self._runs = False
        self._idle: trio.lowlevel.Task | None = None
        self._began = 0.0  # since when they have been going on

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
                    await self._stand_by()
                for _ in range(2):  # whoever goes on and we are of one turn, in any order
                    await trio.lowlevel.checkpoint()
                if time.perf_counter() - self._began >= self._work:
                    await trio.sleep(self._rest)
                    self._began = time.perf_counter()
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
            self._began = time.perf_counter()
            if self._idle is not None:
                trio.lowlevel.reschedule(self._idle)
                self._idle = None
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

    async def _stand_by(self) -> None:
        self._idle = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._idle = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
