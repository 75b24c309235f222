"""This process's lease: renewed with every heartbeat, and given up before it has run out.

Where several processes share a store, a run belongs to its process only as long as the lease stands by the database's
clock. Whoever cannot renew it (the database is away, the network is cut, the process was frozen) has to stop its runs
before that moment, for others start them after it. So:

* ``MARGIN_S`` before the end, all runs are stopped: async handlers are cancelled, programs killed, functions told.
* After a freeze that comes too late. The event loop looks at the clock before it lets any task go on, so that no async
  handler takes a step; programs have been ended by the guard (``guard``).
* What cannot be stopped, a function in a thread or a handler that shields itself, ends with the process, which leaves
  with ``EX_TEMPFAIL`` for its supervisor to start it again: its job may be running elsewhere from that moment on.
* Where a handler blocks the event loop, so that none of this can be done, the watchdog's thread ends the process.
* How these runs end still goes to the store, where it changes nothing if the job has been given to another.
* Then a new lease is taken, under a new name.

Time is measured by a clock that goes on while the machine sleeps, and counted from when the heartbeat was sent.
"""

import logging
import math
import os
import secrets
import socket
import threading
from collections.abc import Callable
from typing import Final, Protocol

import trio

from jobctl import __version__
from jobctl.engine.guard import steady
from jobctl.engine.last_words import PATIENCE_S, briefly
from jobctl.errors import StoreUnavailable
from jobctl.store.workers import BEAT_S, LATE_S, TERM_S, Beat, NewWorker, WorkerStore
from jobctl.worker import Kind, Worker

MARGIN_S: Final = 3.0
"""Before the end of the lease: what async handlers get to unwind (2 s), and a second for what is late itself."""
UNWIND_S: Final = 2.0
"""After a freeze, when the lease has ended already: what is left of it for the same."""
RETRY_S: Final = 0.5
"""After a heartbeat that failed."""
LAST_S: Final = 1.0
"""Before the end of the lease, when an event loop that stands still has not stopped its runs for 2 s."""
_LEAST_S: Final = 0.001
EX_TEMPFAIL: Final = 75
"""sysexits.h: try again later."""
log = logging.getLogger("jobctl.lease")


class Runs(Protocol):
    """The runner, as far as the lease goes."""

    @property
    def live(self) -> tuple[str, ...]:
        """Jobs that hold a slot."""

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Jobs whose handler has not come to its end."""

    @property
    def unstoppable(self) -> tuple[str, ...]:
        """Those of them that only the end of the process ends."""

    def forfeit(self) -> None:
        """Stop all runs at once, and claim nothing."""

    async def settled(self) -> None:
        """Wait until each of them has ended, and the store knows how."""

    def resume(self, worker: str) -> None:
        """Claim again, as ``worker``."""


def _leave(why: str) -> None:
    def say() -> None:
        log.critical("ends itself: %s", why)
        logging.shutdown()

    try:
        briefly(say)
    finally:
        os._exit(EX_TEMPFAIL)


class Lease:
    """One per process.

    Args:
        store: Where leases are.
        kind: What this process is.
        slots: Runs at once.
        handlers: Names that it can run.
        runs: What ends with the lease.
        now: A clock that does not jump (``steady``).
        leave: Ends the process, with that as its last words.
    """

    def __init__(
        self,
        store: WorkerStore,
        runs: Runs,
        *,
        kind: Kind,
        slots: int,
        handlers: tuple[str, ...] = (),
        now: Callable[[], float] = steady,
        leave: Callable[[str], None] = _leave,
    ) -> None:
        self._store, self._runs = store, runs
        self._kind, self._slots, self._handlers = kind, slots, handlers
        self._now, self._leave = now, leave
        self.id = self._fresh()
        self.held = False
        """Whether runs may go on."""
        self.workers: tuple[Worker, ...] = ()
        """Everybody, as of the last heartbeat."""
        self.seen_handlers: set[str] = set()
        """What any process could run that a heartbeat has shown since this one started. One that restarts is soon back,
        and what it is to run waits for it."""
        self.heard: Callable[[tuple[Worker, ...]], None] = lambda _: None
        """Told of them with each heartbeat."""
        self.renewed: Callable[[str, float], None] = lambda _, __: None
        """Told until when (``now``) the lease stands."""
        self.ends = math.inf
        self._heard_at = math.inf
        self._leads_until = -math.inf
        self._changed = trio.Event()
        self._soon = trio.Event()
        self._keeping = trio.CancelScope()

    @property
    def leader(self) -> bool:
        """Whether this process leads now."""
        return self.held and self._now() < self._leads_until

    @property
    def trouble(self) -> str | None:
        """Why no work should come here, if so."""
        if self._store.lease_s is None:
            return None
        if not self.held:
            return "the lease is lost; a new one is taken when the database answers and what ran has ended"
        silent = self._now() - self._heard_at
        return None if silent < LATE_S else f"the database has not answered for {silent:.0f} s"

    async def changed(self) -> None:
        """Wait until something about the lease or the lead may be another."""
        await self._changed.wait()

    async def start(self) -> None:
        """Take the first lease; the runner claims under its name. Raises StoreUnavailable."""
        await self._join()
        self._runs.resume(self.id)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep it, until it is given up."""
        with self._keeping:
            if self._store.lease_s is None:
                await self._beats(task_status)
                return
            guard = _EachTurn(self._look)
            trio.lowlevel.add_instrument(guard)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch)
                    await self._beats(task_status)
            finally:
                trio.lowlevel.remove_instrument(guard)

    def look_again(self) -> None:
        """Send a heartbeat at once: the store says that the lease is over."""
        self._soon.set()

    def stuck(self) -> None:
        """The event loop stands still, says another thread: end the process where the lease ends meanwhile."""
        if self._now() >= self.ends - LAST_S and (self.held or self._runs.unfinished):
            self._leave("the lease is over, and the event loop does not turn")

    def abandon(self, goes_on: Callable[[], bool]) -> None:
        """Leave, while handlers go on: it stands until it ends by itself; if they do so then, the process ends before.

        ``goes_on`` is called from another thread.
        """
        self._keeping.cancel()
        self.held = False
        self._say()
        if self._store.lease_s is not None:
            left = max(0.0, self.ends - LAST_S - self._now())
            why = "the lease is over, and what was to stop goes on"
            ending = threading.Timer(left, lambda: self._leave(why) if goes_on() else None)
            ending.daemon = True
            ending.start()

    async def give_up(self) -> None:
        """Leave in order: nothing runs any more, and no other lease is taken."""
        self._keeping.cancel()
        self.held = False
        self._say()
        try:
            await self._store.leave(self.id)
        except StoreUnavailable as error:
            log.warning("the lease ends by itself: %s", error)

    # --- heartbeats ----------------------------------------------------------------------------------------------

    async def _beats(self, task_status: trio.TaskStatus[None]) -> None:
        pause = 0.0  # the first one at once: somebody has to lead
        missed = 0
        task_status.started()
        while True:
            with trio.move_on_after(pause):
                await self._soon.wait()
            self._soon = trio.Event()
            pause = BEAT_S
            try:
                if self.held:
                    await self._beat()
                if not self.held:
                    await self._take_another()
                    pause = 0.0
                if missed:
                    log.info("heartbeats go through again, after %d that did not", missed)
                missed = 0
            except StoreUnavailable as error:
                if not missed:  # one line is enough
                    log.warning("no heartbeat: %s", error)
                missed += 1
                pause = RETRY_S

    async def _beat(self) -> None:
        asked = self._now()
        beat = await self._store.beat(self.id, running=len(self._runs.live), lead=True)
        if not self.held:  # it came to its end meanwhile: runs have been stopped, and a new one is to be taken
            return
        if beat.alive:
            self._renew(asked)
            self._take(beat, asked)
        else:
            self.ends = min(self.ends, self._now())  # its jobs may be running elsewhere already
            self._lose("others have found it ended")

    def _renew(self, asked: float) -> None:
        if self._store.lease_s is not None:
            self._heard_at = asked
            self.ends = asked + self._store.lease_s
            self.renewed(self.id, self.ends)

    def _take(self, beat: Beat, asked: float) -> None:
        if beat.leader and not self.leader:
            log.debug("leads from now on")
        self._leads_until = -math.inf
        if beat.leader:
            self._leads_until = math.inf if self._store.lease_s is None else asked + TERM_S
        self.workers = beat.workers
        self.seen_handlers.update(name for each in beat.workers for name in each.handlers)
        self._say()
        self.heard(beat.workers)

    async def _join(self) -> None:
        asked = self._now()
        await self._store.join(
            NewWorker(
                id=self.id, kind=self._kind, host=socket.gethostname(), pid=os.getpid(), version=__version__,
                slots=self._slots, handlers=self._handlers,
            )
        )  # fmt: skip
        self.held = True
        self._renew(asked)
        self._say()

    async def _take_another(self) -> None:
        await self._runs.settled()
        await self._store.leave(self.id)
        self.id = self._fresh()
        await self._join()
        log.warning("goes on under a new lease, as %s", self.id)
        self._runs.resume(self.id)

    def _fresh(self) -> str:
        name = f"{socket.gethostname()}:{os.getpid()}"
        if self._store.lease_s is None:
            return name
        return f"{name}:{secrets.token_hex(3)}"  # in containers, all may be host:1

    # --- the end of the lease ------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            if self.held:
                with trio.move_on_after(max(_LEAST_S, self.ends - MARGIN_S - self._now())):
                    await self.changed()
                self._look()
            else:
                await self._make_sure()

    def _look(self) -> None:
        if self.held and self._now() >= self.ends - MARGIN_S:
            self._lose("it could not be renewed in time")

    def _lose(self, why: str) -> None:
        """Before anything else: nothing that runs here may go on."""
        self.held = False
        self._leads_until = -math.inf
        self._runs.forfeit()
        log.error("lost the lease %s: %s; runs stopped at once: %d", self.id, why, len(self._runs.live))
        self._say()

    async def _make_sure(self) -> None:
        """See that all runs end, if need be with the process."""
        ends = self.ends
        last = max(ends, self._now() + UNWIND_S)
        while not self.held:
            await trio.sleep(0.05)  # cancelled handlers have had their turn by then
            now = self._now()
            left = self._runs.unfinished if now >= last else self._runs.unstoppable if now >= ends - PATIENCE_S else ()
            if left:
                self._leave(f"the lease is over, and these cannot be stopped: {', '.join(left)}")
                return
            if not self._runs.unfinished:
                await self._changed.wait()

    def _say(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class _EachTurn(trio.abc.Instrument):
    """Calls before the tasks of each turn of the loop are let go on."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - trio says how long it would have waited
        """The loop has waited; tasks come next."""
        self._look()
