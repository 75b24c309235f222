"""What a process holds under its lease: the runs of its slots, which it may lose all at once.

When the lease is over they are told to stop, and looked after until they have. Nothing is claimed before the store
knows how each of them ended, and there is another lease.
"""

from collections.abc import Callable
from typing import Final

import trio

from jobctl.engine.context import Run
from jobctl.engine.slots import Slots

_LOOK_S: Final = 0.02


class Holding:
    """The runner's side of ``engine.lease``.

    Args:
        worker: The name under which jobs are claimed.
        slots: The runs.
        busy: Whether the runner has ends, or a claim, on their way to the store.
        call: Wakes the runner.
    """

    def __init__(self, worker: str, slots: Slots, *, busy: Callable[[], bool], call: Callable[[], None]) -> None:
        self.worker = worker
        self.lost = False
        """Claim nothing, and tell the store of each end by itself."""
        self.doubted: Callable[[], None] = lambda: None
        """Called when the store says that the lease is over."""
        self.nursery: trio.Nursery | None = None
        self._slots, self._busy, self._call = slots, busy, call
        self._left: dict[str, Run] = {}

    @property
    def live(self) -> tuple[str, ...]:
        """Jobs that hold a slot."""
        return tuple(self._slots.live)

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Jobs that were lost, and whose handler has not come to its end in this process.

        Programs and requests are not among them: the one are killed, the other dropped.
        """
        return tuple(job_id for job_id, run in list(self._left.items()) if not run.over or run.outlives is not None)

    @property
    def unstoppable(self) -> tuple[str, ...]:
        """Those of them in a thread, which only the end of the process ends."""
        return tuple(job_id for job_id, run in self._left.items() if run.outlives is not None)

    def forfeit(self) -> None:
        """Stop all runs at once: they may be somebody else's from now on."""
        self.lost = True
        for run in self._slots.live.values():
            run.ask("stop", 0.0)
            if not run.immediate and (not run.over or run.outlives is not None) and self.nursery is not None:
                self._left[run.job.id] = run
                self.nursery.start_soon(self._outlast, run)
        self._call()

    async def settled(self) -> None:
        """Wait until each of them has ended, and the store has been told how, whether it took that or not."""
        while self._slots.running() or self._busy() or self.unfinished:  # noqa: ASYNC110 - this happens hardly ever
            await trio.sleep(_LOOK_S)

    def resume(self, worker: str) -> None:
        """Claim again, under that name."""
        self.worker, self.lost = worker, False
        self._call()

    async def _outlast(self, run: Run) -> None:
        while not run.over:  # noqa: ASYNC110 - an event a run would cost every run, for what hardly ever happens
            await trio.sleep(_LOOK_S)
        if run.outlives is not None:
            await run.outlives()
        self._left.pop(run.job.id, None)
