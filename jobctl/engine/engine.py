"""All that runs jobs in one process: the runner, its lease, the duties of a leader, and who watches over the loop.

``jobctl serve`` has one beside the API and the stream, ``jobctl work`` has nothing else.
"""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from jobctl.engine.duties import Duties
from jobctl.engine.guard import Guard
from jobctl.engine.lease import Lease
from jobctl.engine.maintenance import Maintenance
from jobctl.engine.processes import end_orphans
from jobctl.engine.registry import Registry
from jobctl.engine.runner import Runner
from jobctl.engine.scheduler import Scheduler
from jobctl.engine.schedules import Anywhere
from jobctl.engine.wall_clock import WallClock
from jobctl.engine.watchdog import Watchdog
from jobctl.errors import ConfigError, StoreUnavailable, TooLarge
from jobctl.metrics import Metrics
from jobctl.store.base import Store
from jobctl.store.committer import now_ms
from jobctl.worker import Kind

if TYPE_CHECKING:
    from jobctl.settings import Settings

LAST_MOMENT_S: Final = 8.0
"""What a stop may take beyond the grace time of the jobs: commands that ignore SIGTERM are killed after 3 s, handlers
get 2 s more to unwind, and all is recorded. Without such it takes none of this."""
log = logging.getLogger("jobctl")


class Engine:
    """One per process. ``prepare`` it, ``start`` it, and ``drain`` it at the end."""

    def __init__(
        self, settings: "Settings", store: Store, registry: Registry, *, kind: Kind, metrics: Metrics
    ) -> None:
        self.store = store
        shared = store.workers.lease_s is not None
        programs = any(each.command is not None for each in registry)
        self.guard = Guard() if shared and programs else None
        self._nursery: trio.Nursery | None = None
        self._queues: Sequence[str] = tuple(settings.queues)
        self.runner = Runner(
            store,
            registry,
            concurrency=settings.concurrency,
            limits={name: queue.concurrency for name, queue in settings.queues.items() if queue.concurrency},
            worker=f"{socket.gethostname()}:{os.getpid()}",
            grace=settings.grace,
            cancel_grace=settings.cancel_grace,
            metrics=metrics,
            guard=self.guard,
        )
        self.lease = Lease(
            store.workers, self.runner.holding, kind=kind, slots=settings.concurrency, handlers=tuple(registry.names())
        )
        self.runner.holding.doubted = self.lease.look_again
        self.watchdog = Watchdog(metrics, max_lag=settings.health.max_lag)
        self.watchdog.stuck = self.lease.stuck
        self.scheduler = Scheduler(store, Anywhere(registry, self.lease.seen_handlers), clock=now_ms)
        self.maintenance = Maintenance(store, settings.retention)
        self.wall_clock = WallClock(self._clock_was_set)
        self.duties = Duties(store, self.lease, self.scheduler, self.maintenance)

    async def prepare(self) -> None:
        """Put in order what the last process has left, before anything runs.

        Raises:
            ConfigError: there would be too many queues.
            StoreUnavailable: the database went away.
        """
        try:
            await self.store.make_queues(self._queues)
        except TooLarge as error:
            raise ConfigError(f"queues: {error}") from None
        if self.store.workers.lease_s is None:
            await self._clear_up()
        if self.guard is not None:
            self.guard.start()
            self.lease.renewed = self.guard.lease
        await self.lease.start()
        self.store.listen(self.runner.on_commit)
        self.store.listen(self.scheduler.on_commit)

    async def _clear_up(self) -> None:
        """Whatever ran is our own predecessor's. Where others share the store, the leader sees to it all the time."""
        left = await self.store.left_running()
        if ended := await end_orphans(left.orphans, unrecorded=left.unrecorded):  # first: a rescue forgets them
            log.warning("ended %d commands that had outlived the last server", ended)
        if rescued := (await self.store.rescue()).jobs:
            log.warning("%d jobs were running when the last server ended; they are tried again", len(rescued))

    async def start(self, nursery: trio.Nursery) -> None:
        """Run everything in ``nursery``."""
        self._nursery = nursery
        await nursery.start(self.watchdog.run)
        await nursery.start(self.runner.run)
        await nursery.start(self.lease.run)
        await nursery.start(self.duties.run)
        await nursery.start(self.wall_clock.run)

    def not_ready(self, shortage: Callable[[], str | None] = lambda: None) -> list[str]:
        """Why no work should come to this process now. ``shortage`` says why the database may soon have no room."""
        reasons = []
        if self.store.trouble:
            reasons.append(f"the database cannot take writes ({self.store.trouble})")
        elif (reason := self.lease.trouble or shortage()) is not None:
            reasons.append(reason)
        if (lag := self.watchdog.trouble()) is not None:
            reasons.append(lag)
        return reasons

    async def drain(self) -> None:
        """Claim nothing more, let runs end, give the rest back, and leave; see ``Runner.drain``."""
        try:
            await self.runner.drain()
        finally:  # also where it was cut off
            if self.runner.left:
                self.lease.abandon(lambda: bool(self.runner.left))
        if not self.runner.left:
            await self.lease.give_up()
        if self.guard is not None:
            await trio.to_thread.run_sync(self.guard.stop)

    def _clock_was_set(self, jump: float) -> None:
        self.scheduler.look_again()
        if self._nursery is not None:
            self._nursery.start_soon(self._keep_backoffs, jump)

    async def _keep_backoffs(self, jump: float) -> None:
        """The clock was set by ``jump`` seconds, and other jobs are due."""
        try:
            await self.store.keep_backoffs(jump)
        except StoreUnavailable as error:
            log.warning("jobs that wait to be tried again may wait longer or shorter: %s", error)
        self.runner.look_again()
