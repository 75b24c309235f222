"""Enqueues a job at each tick of each schedule: at most one a tick, whatever happens to the clock or the process.

The store holds when each schedule runs next, and which ticks have had their job; both change with the job in one
transaction. So a restart goes on where the last one stood, a tick that two looks find is enqueued once, and a clock
that is set back finds its ticks spent. What is left here is to look in time, and to plan.
"""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from jobctl.cron import Cron
from jobctl.engine.schedules import Handlers, job_of, next_run
from jobctl.errors import InvalidInput, StoreUnavailable
from jobctl.events import Commit
from jobctl.schedule import Missed, ScheduleState
from jobctl.store.base import Store
from jobctl.store.schedules import Firing

LOOK_EVERY_S: Final = 60.0
"""It looks again after this time though nothing is due: the wall clock may have moved by less than is noticed."""
ON_TIME_MS: Final = 60_000
"""A tick that is found no later than this was not missed: a restart or a busy machine takes seconds, ticks come minutes
apart."""
BATCH: Final = 100
"""Schedules of one transaction."""
_RETRY_S: Final = 1.0
log = logging.getLogger("jobctl.engine")


class Plan(NamedTuple):
    """The tick to enqueue a job for, if any, and when the schedule runs next (ms)."""

    tick: int | None
    next_run: int | None


def plan(cron: Cron, due: int, now: int, missed: Missed) -> Plan:
    """What a schedule does at ``now`` whose next run was to be at ``due``.

    The last tick is enqueued if it is on time. Earlier ones are missed, and so is the last if it is late: none of them
    is enqueued (``skip``), or one for all (``once``), which is the last one's own where that is on time.
    """
    if now < due:
        return Plan(None, due)
    tick = cron.latest(now)
    if tick is not None and (tick < due or (missed == "skip" and now - tick > ON_TIME_MS)):
        tick = None
    return Plan(tick, cron.after(now))


class Scheduler:
    """One per process.

    Args:
        store: Where schedules are. The caller registers ``on_commit`` with ``store.listen`` before ``run``.
        handlers: What jobs can be run.
        clock: The wall clock, ms since the epoch.
    """

    def __init__(self, store: Store, handlers: Handlers, *, clock: Callable[[], int]) -> None:
        self._store = store
        self._handlers = handlers
        self._clock = clock
        self._seen: int | None = None
        self._changed = trio.Event()

    def on_commit(self, commit: Commit) -> None:
        """Hear that schedules have changed; a listener of the store."""
        if commit.schedules:
            self._changed.set()

    def look_again(self) -> None:
        """Look at once: the clock was set."""
        self._changed.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Enqueue what is due, until it is cancelled."""
        task_status.started()
        while True:
            self._changed = trio.Event()
            try:
                wait = await self.look()
            except StoreUnavailable as error:
                log.warning("cannot look for schedules that are due: %s", error)
                wait = _RETRY_S
            except Exception:
                log.exception("schedules failed; they are looked at again")
                wait = LOOK_EVERY_S
            with trio.move_on_after(wait):
                await self._changed.wait()

    async def look(self) -> float:
        """Enqueue what is due now; seconds until it is to look again."""
        now = self._clock()
        if self._seen is None or now < self._seen:
            # The clock, or the time zones, may have changed since the next runs were worked out.
            await self._plan_anew(now)
        self._seen = now
        due = await self._store.schedules.due(now, limit=BATCH)
        if due.schedules:
            await self._fire(due.schedules, now)
        if len(due.schedules) == BATCH:
            return 0.0
        if due.next_run is None:
            return LOOK_EVERY_S
        return min(LOOK_EVERY_S, max(0.0, (due.next_run + 1 - self._clock()) / 1000))

    async def _fire(self, states: tuple[ScheduleState, ...], now: int) -> None:
        firings = []
        for state in states:
            firings.append(self._firing(state, now))
            await trio.lowlevel.checkpoint()  # around a change of the clock a plan takes milliseconds
        for firing, job_id in zip(firings, await self._store.schedules.fire(firings), strict=True):
            if job_id is not None:
                log.info("schedule %s enqueued %s", firing.name, job_id)
            elif firing.error is not None:
                log.warning("schedule %s could enqueue nothing: %s", firing.name, firing.error)

    def _firing(self, state: ScheduleState, now: int) -> Firing:
        spec, due = state.spec, state.next_run or 0
        tick = then = job = error = None
        try:
            tick, then = plan(Cron(spec.cron, spec.timezone), due, now, spec.missed)
            job = None if tick is None else job_of(spec, self._handlers)
        except InvalidInput as refused:
            error = str(refused)
        if tick is None and error is None:
            log.info("schedule %s has missed its runs since %s", spec.name, state.shown(inline=False).next_run)
        return Firing(
            name=spec.name, version=state.version, expected=state.next_run, next_run=then, tick=tick, job=job,
            error=error,
        )  # fmt: skip

    async def _plan_anew(self, now: int) -> None:
        firings = []
        for state in (await self._store.schedules.all()).value:
            if not state.spec.enabled or (state.next_run is not None and state.next_run <= now):
                continue
            try:
                then = next_run(state.spec, now)
            except InvalidInput:
                continue  # told when it is due
            await trio.lowlevel.checkpoint()
            if then != state.next_run:
                firings.append(
                    Firing(name=state.spec.name, version=state.version, expected=state.next_run, next_run=then)
                )
        if firings:
            log.info("the clock or the time zones have changed; %d schedules are planned anew", len(firings))
            await self._store.schedules.fire(firings)
