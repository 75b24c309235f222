"""What one process at a time does for all that share a store: schedules, rescue, pruning.

Whoever leads does it, for as long as it leads (``lease``). None of it is wrong when two do it for a moment, while one
does not know yet that it was replaced: a tick has one job because the store notes in the same transaction that it has
had it, a rescue ends only runs whose lease is over at that moment, and what is pruned is gone.
"""

import logging
from typing import Final

import trio

from jobctl.engine.lease import Lease
from jobctl.engine.maintenance import Maintenance
from jobctl.engine.scheduler import Scheduler
from jobctl.errors import StoreUnavailable
from jobctl.store.base import Store
from jobctl.store.workers import BEAT_S

SETTLE_S: Final = 2 * BEAT_S
"""A new leader waits so long before it rescues: where all were cut off from the database together, those that have
stopped their own runs say so themselves, and nothing counts as a crash."""
LOOK_EVERY_S: Final = 30.0
"""Also without a process that was lost: one that has left may have left a run that would not stop."""
log = logging.getLogger("jobctl.engine")


class Duties:
    """Those of one process, done while it leads."""

    def __init__(self, store: Store, lease: Lease, scheduler: Scheduler, maintenance: Maintenance) -> None:
        self._store, self._lease = store, lease
        self._scheduler, self._maintenance = scheduler, maintenance

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do them whenever this process leads, until it is cancelled."""
        task_status.started()
        while True:
            while not self._lease.leader:
                await self._lease.changed()
            async with trio.open_nursery() as nursery:
                await nursery.start(self._scheduler.run)
                await nursery.start(self._maintenance.run)
                if self._shared:
                    log.info("leads: runs schedules, rescue and pruning from now on")
                    nursery.start_soon(self._rescue)
                await self._led()
                nursery.cancel_scope.cancel()
            log.info("leads no more")

    @property
    def _shared(self) -> bool:
        return self._store.workers.lease_s is not None

    async def _led(self) -> None:
        """Wait until this process leads no more. A term that has run out says nothing: look."""
        while self._lease.leader:
            with trio.move_on_after(BEAT_S):
                await self._lease.changed()

    async def _rescue(self) -> None:
        await trio.sleep(SETTLE_S)
        known: set[str] = set()
        due = trio.current_time()
        while True:
            lost = {each.id for each in self._lease.workers if each.state == "lost"}
            if lost - known or trio.current_time() >= due:
                try:
                    await self._rescue_once()
                except StoreUnavailable as error:
                    log.warning("cannot look for runs that were left: %s", error)
                else:
                    known, due = lost, trio.current_time() + LOOK_EVERY_S
            with trio.move_on_after(BEAT_S):
                await self._lease.changed()  # a heartbeat has told who is there

    async def _rescue_once(self) -> None:
        left = await self._store.left_running()
        if (left.jobs or left.held) and (rescued := (await self._store.rescue()).jobs):
            log.warning("%d jobs ran in processes that were lost; they are tried again", len(rescued))
