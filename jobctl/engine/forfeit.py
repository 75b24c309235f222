"""Runs that the process has lost with its lease: told to stop at once, and looked after until they have."""

from collections.abc import Iterable

import trio

from jobctl.engine.context import Run

_LOOK_S = 0.02


class Forfeited:
    """What is left of them. Programs and requests are not among them: the one are killed, the other dropped."""

    def __init__(self) -> None:
        self.active = False
        """The lease is lost: claim nothing, and tell the store of each end by itself."""
        self._left: dict[str, Run] = {}

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Jobs whose handler has not come to its end in this process."""
        return tuple(job_id for job_id, run in self._left.items() if not run.over or run.outlives is not None)

    @property
    def unstoppable(self) -> tuple[str, ...]:
        """Those in a thread, which only the end of the process ends."""
        return tuple(job_id for job_id, run in self._left.items() if run.outlives is not None)

    def take(self, runs: Iterable[Run], nursery: trio.Nursery | None) -> None:
        """Stop them."""
        self.active = True
        for run in runs:
            run.ask("stop", 0.0)
            if not run.immediate and (not run.over or run.outlives is not None) and nursery is not None:
                self._left[run.job.id] = run
                nursery.start_soon(self._outlast, run)

    async def _outlast(self, run: Run) -> None:
        while not run.over:  # noqa: ASYNC110 - an event a run would cost every run, for what hardly ever happens
            await trio.sleep(_LOOK_S)
        if run.outlives is not None:
            await run.outlives()
        self._left.pop(run.job.id, None)
