"""Claims jobs as slots become free, runs them, records how they ended.

The runner takes turns with the store: one transaction ends the runs that have come to their end since the last turn,
and claims as many jobs as that leaves room for. With nothing to do it stands by: whichever transaction makes jobs
ready claims them as well. An end, a commit that it could not be part of, or the next due job wakes it.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import trio

from jobctl import logs
from jobctl.engine import patience
from jobctl.engine.context import Run
from jobctl.engine.executor import Executor
from jobctl.engine.forfeit import Holding
from jobctl.engine.guard import Guard
from jobctl.engine.hands import Hands
from jobctl.engine.nap import Nap
from jobctl.engine.overdue import watch_over
from jobctl.engine.patience import complain, insist
from jobctl.engine.registry import Registry
from jobctl.engine.reporter import Host
from jobctl.engine.slots import Slots
from jobctl.errors import LeaseLost, StoreUnavailable
from jobctl.events import Commit
from jobctl.metrics import Metrics
from jobctl.store.base import Claims, End, Failed, Outcome, Released, Store

MAX_SLEEP_S: Final = 60.0
"""The claimer looks again after this time though nothing called it: the wall clock may have moved by less than is
noticed."""
LOOK_AGAIN_S: Final = 0.1
"""Pause after a claim that got nothing though there is something: a queue at its limit, or jobs still being staged."""
STOP_KILL_S: Final = 3.0
"""At the server's stop: between SIGTERM and SIGKILL for commands."""
STOP_S: Final = 5.0
"""At the server's stop: how long everything may take to unwind after the grace time."""
RECORD_S: Final = 2.0
"""At the server's stop: how long the last outcomes may take to be stored; the next start rescues what is missed."""
log = logging.getLogger("jobctl.engine")


class Runner:
    """Runs the jobs of ``store`` with the handlers of ``registry``.

    Args:
        store: Where jobs come from. The caller registers ``on_commit`` with ``store.listen`` before ``run``.
        registry: What can be run.
        concurrency: Runs at once, >= 1; those that do not stop are among them.
        limits: Most runs at once per queue.
        worker: This server's name, shown as ``processingBy``.
        grace: Seconds that runs get to end when the server stops.
        cancel_grace: Seconds that a run gets to end by itself when it is cancelled.
        metrics: Where claims and runs are counted.
        guard: Told of programs.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        concurrency: int,
        limits: Mapping[str, int],
        worker: str,
        grace: float,
        cancel_grace: float,
        metrics: Metrics | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._store, self._registry = store, registry
        self._slots = Slots(concurrency, limits)
        self._grace, self._cancel_grace = grace, cancel_grace
        self._metrics = metrics or Metrics()
        self._guard = guard
        self._executor = Executor(registry, threads=concurrency)
        self._ended: list[tuple[Run, End]] = []
        self._work = True
        self._claiming = False
        self._early_cancels: set[tuple[str, int]] = set()
        self._stopping = False
        self._left: tuple[Run, ...] = ()
        self._nap = Nap()
        self._changed = trio.Event()  # fires, once the server is stopping, when there is less to wait for
        self._nursery: trio.Nursery | None = None
        self._over = False
        self.holding = Holding(
            worker, self._slots, busy=lambda: bool(self._ended) or self._claiming, call=self.look_again
        )

    @property
    def live(self) -> tuple[str, ...]:
        """Ids of the jobs that hold a slot, those of runs that do not stop included."""
        return tuple(self._slots.live)

    @property
    def held(self) -> tuple[str, ...]:
        """Ids of jobs whose run was ended in the store but still goes on, and keeps its slot."""
        return tuple(self._slots.held)

    @property
    def free(self) -> int:
        """Free slots."""
        return self._slots.free

    @property
    def resting(self) -> bool:
        """Whether it has nothing to do."""
        return not self._work and self._nap.asleep

    def on_commit(self, commit: Commit) -> None:
        """Hear of work and of cancels; a listener of the store."""
        if commit.work and not commit.looked:
            self.look_again()
        for asked in commit.cancels:
            run = self._slots.live.get(asked.job_id)
            if run is not None and run.claim.run == asked.run:
                run.ask("cancel", self._cancel_grace)
            elif self._claiming:  # it may be committed after the claim of that run, and heard before its answer
                self._early_cancels.add((asked.job_id, asked.run))

    def look_again(self) -> None:
        """Look for work at once."""
        self._work = True
        self._nap.call()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Claim and run until ``drain`` is called.

        Cancelled from outside it stops at once: commands are killed, and what ran is rescued at the next start.
        """
        await insist(lambda: self._store.set_known(frozenset(self._registry.names())), "the handlers' names")
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = self.holding.nursery = nursery
                token = trio.lowlevel.current_trio_token()
                host = Host(self._store, nursery.start_soon, token, threading.get_ident(), self._guard)
                nursery.start_soon(watch_over, self._slots, self._end_overdue)
                task_status.started()
                await self._take_turns(host, nursery)
        finally:
            self._over = True
            self._nursery = self.holding.nursery = None
            self._slots.clear()
            self._changed.set()

    def configure(self, *, grace: float, cancel_grace: float) -> None:
        """Take other grace times, for what is asked to stop from now on."""
        self._grace, self._cancel_grace = grace, cancel_grace

    def stop(self) -> None:
        """Claim nothing from now on. What runs goes on."""
        self._stopping = True
        self._nap.call()

    @property
    def left(self) -> tuple[Run, ...]:
        """Runs whose handlers go on after ``drain``. Until they have ended their jobs must not start elsewhere."""
        return tuple(run for run in self._left or self._slots.live.values() if run.goes_on)

    async def drain(self) -> None:
        """Stop: claim no more, let runs end within the grace time, then cancel them and give their jobs back.

        Takes at most ``grace`` + 7 s; some may be ``left``.
        """
        self.stop()
        with trio.move_on_after(self._grace):
            await self._until_quiet()
        for run in self._slots.running():
            run.ask("stop", STOP_KILL_S)
        with trio.move_on_after(STOP_S):
            await self._until_quiet()
        with trio.move_on_after(RECORD_S):
            async with trio.open_nursery() as nursery:
                for run in self._slots.running():
                    if run.given_up is None and not run.over:
                        run.given_up = trio.Event()
                        nursery.start_soon(self._give_up, run, Released())
        self._left = self.left
        if ids := ", ".join(run.job.id for run in self._left):
            log.error("jobs whose handlers do not let themselves be stopped: %s", ids)
        self._over = True
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    # --- turns ---------------------------------------------------------------------------------------------------

    async def _take_turns(self, host: Host, nursery: trio.Nursery) -> None:
        """End what has ended and claim what there is room for, again and again; for ever."""
        pause = patience.FIRST_S
        due: int | None = None
        hands = Hands(self._executor, host, nursery, ended=self._end, conclude=self._conclude)
        while True:
            ended, self._ended = self._ended, []
            if self.holding.lost and ended:
                await self._record_each(ended)
                continue
            slots, busy = self._room(ended)
            began = time.perf_counter()
            try:
                if slots > 0 or ended:
                    claims = await self._turn(slots, busy, [end for _, end in ended])
                else:
                    claims = await self._stand_by(due, busy)
            except Exception as error:  # noqa: BLE001 - it is logged, and tried again
                # Where it stood by, what it was to claim may be there, and nobody else calls for it.
                self._work, self._claiming = self._work or slots > 0 or not ended, False
                await self._after_failure(ended, pause, error)
                pause = patience.longer(pause)
                continue
            pause = patience.FIRST_S
            for run, end in ended:
                self._recorded(run, end)
            if slots > 0:
                self._metrics.claim_seconds.observe(time.perf_counter() - began)
            if claims is not None:
                due = claims.next_due
                self._start(claims, host, hands, nursery)
                if claims.more and not claims.claims:
                    await self._nap.sleep(LOOK_AGAIN_S)
            if self._stopping:
                self._changed.set()

    async def _turn(self, slots: int, busy: Mapping[str, int], ends: Sequence[End]) -> Claims | None:
        """End ``ends``, and claim; None where there is no room for any."""
        if slots > 0:
            self._work, self._claiming = False, True
        worker = self.holding.worker
        claims = await self._store.claim(slots, worker=worker, limits=self._slots.limits, busy=busy, ends=ends)
        if slots <= 0:
            return None
        self._work = self._work or claims.more or len(claims.claims) == slots
        return claims

    async def _stand_by(self, due: int | None, busy: Mapping[str, int]) -> Claims | None:
        """Wait for work, which comes claimed already; None: there is something else to do, or the next job is due."""
        slots = self._slots.free
        if self._stopping or self.holding.lost or slots <= 0:
            self._work = await self._nap.sleep(MAX_SLEEP_S) or self._work
            return None
        wait = MAX_SLEEP_S
        if due is not None:
            # One millisecond more: the store compares whole ones, and an early look would be for nothing.
            wait = min(wait, max(0.0, (due + 1) / 1000 - time.time()))
        self._claiming = True
        self._early_cancels.clear()
        next_claims = partial(
            self._store.claim_next, slots, worker=self.holding.worker, limits=self._slots.limits, busy=busy, due=due
        )
        claims, uncalled = await self._nap.wait(wait, next_claims)
        if claims is None:
            self._claiming = False
            self._work = self._work or uncalled
        else:
            self._work = self._work or claims.more or len(claims.claims) == slots
        return claims

    def _room(self, ended: Sequence[tuple[Run, End]]) -> tuple[int, dict[str, int]]:
        """How many jobs to claim, and how many runs each limited queue has, once ``ended`` have ended."""
        free, busy, room = self._slots.after(ended)
        self._work = self._work or room  # the queue may have more than it was allowed to give
        return (free if self._work and not (self._stopping or self.holding.lost) else 0), busy

    async def _after_failure(self, ended: list[tuple[Run, End]], pause: float, error: Exception) -> None:
        """Keep the ends for the next turn. What no turn can store, at whatever time, is stored one by one."""
        complain("claim jobs, and store how others ended" if ended else "claim jobs", pause, error)
        if isinstance(error, LeaseLost):
            self.holding.doubted()
        if isinstance(error, StoreUnavailable):
            self._ended = ended + self._ended
        else:
            await self._record_each(ended)
        if self._stopping:
            self._changed.set()
            await trio.sleep(pause)
        else:
            await self._nap.sleep(pause)

    def _start(self, claims: Claims, host: Host, hands: Hands, nursery: trio.Nursery) -> None:
        self._metrics.claimed += len(claims.claims)
        for claim in claims.claims:
            if claim.waited is not None:
                self._metrics.wait_seconds.observe(claim.job.name, claim.waited)
            handler = self._registry.get(claim.job.name)
            if self._stopping or self.holding.lost:
                run = Run(claim, host)
                run.over = True
            elif handler is not None and handler.kind == "async":
                run = hands.start(claim, handler)
            else:
                run = Run(claim, host)
                nursery.start_soon(self._one, run)
            self._slots.take(run)
            if (claim.job.id, claim.run) in self._early_cancels:
                run.ask("cancel", self._cancel_grace)
            if run.over:
                self._end(run, Released())
        self._claiming = False
        self._early_cancels.clear()

    # --- one run -------------------------------------------------------------------------------------------------

    async def _one(self, run: Run) -> None:
        logs.running.set((run.job.name, run.job.id))  # for all that this task, and what it starts, has to say
        await self._conclude(run, await self._executor.execute(run))

    async def _conclude(self, run: Run, outcome: Outcome) -> None:
        """See that the end is recorded, and a run that goes on nevertheless is waited for."""
        run.over = True
        given_up = run.given_up
        if given_up is None:
            held = run.outlives is not None and run.bars(outcome)
            if held:
                given_up = run.given_up = trio.Event()
            await self._record(run, outcome, held=held)
            if given_up is None:
                return
        await given_up.wait()
        held = run.job.id in self._slots.held
        if held and run.outlives is not None:
            await run.outlives()
        self._forget(run)  # first: once released, the job may be claimed again at any moment
        self._work = True
        self._nap.call()
        if held:
            await insist(lambda: self._store.release(run.job.id, run.claim.run), f"the end of {run.job.id}")

    async def _record(self, run: Run, outcome: Outcome, *, held: bool) -> None:
        """Send what the run has reported, then hand its end over to the next turn."""
        await run.close()
        self._end(run, outcome, held=held)

    def _end(self, run: Run, outcome: Outcome, *, held: bool = False) -> None:
        name = run.job.name
        self._metrics.run_seconds.observe(name, time.perf_counter() - run.began)
        self._metrics.runs.add(name, type(outcome).__name__.lower())
        if held:
            self._slots.held.add(run.job.id)
            log.warning("job %s (%s) does not stop; it keeps its slot until it ends", run.job.id, name)
        elif isinstance(outcome, Failed):
            log.info("job %s (%s) failed: %s", run.job.id, name, outcome.error.partition("\n")[0])
        self._ended.append((run, End(run.job.id, run.claim.run, outcome, held)))
        self._nap.call()

    def _recorded(self, run: Run, end: End) -> None:
        if run.given_up is None:
            self._forget(run)
            return
        run.given_up.set()  # its own task forgets it, once that has come to its end
        if end.held:
            self._changed.set()  # nobody waits for it any more

    async def _record_each(self, ended: Sequence[tuple[Run, End]]) -> None:
        for run, end in ended:
            await self._record_alone(run, end)
        if self._ended:
            await trio.sleep(patience.longer(patience.FIRST_S))

    async def _record_alone(self, run: Run, end: End) -> None:
        try:
            await self._store.finish(*end[:3], held=end.held)
        except StoreUnavailable:
            self._ended.append((run, end))
        except Exception as error:
            log.exception("the outcome of job %s cannot be stored", run.job.id)
            why = f"the outcome could not be stored: {type(error).__name__}: {error}"
            self._ended.append((run, end._replace(outcome=Failed(why, retry=False))))
        else:
            self._recorded(run, end)

    def _forget(self, run: Run) -> None:
        self._slots.give_back(run)
        if self._stopping:
            self._changed.set()

    # --- runs that do not stop -----------------------------------------------------------------------------------

    def _end_overdue(self, run: Run) -> None:
        assert self._nursery is not None  # noqa: S101 - whoever calls this is in it
        run.given_up = trio.Event()
        self._nursery.start_soon(self._give_up, run, self._executor.overdue(run))

    async def _give_up(self, run: Run, outcome: Outcome) -> None:
        assert run.given_up is not None  # noqa: S101 - set by whoever starts this
        await self._record(run, outcome, held=run.bars(outcome))
        await run.given_up.wait()

    async def _until_quiet(self) -> None:
        while not self._over and (self._claiming or self._slots.running()):
            if self._changed.is_set():
                self._changed = trio.Event()
            await self._changed.wait()
