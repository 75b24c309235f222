"""The whole engine in one simulated world: one thread, trio's MockClock, and one seed for all that is left to chance.

Store, runner, scheduler, maintenance and hub are the real ones, on a real file. What would make two runs differ is
taken away: the writer's thread becomes a task, reads run in line, trio's order of tasks comes from the seed, and the
wall clock and every draw do as well. The disk fails now and then, the server is stopped or killed, people interfere.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TypeVar
from unittest import mock

import apsw
import msgspec
import trio
import trio.testing

from jobctl.engine import maintenance as upkeep
from jobctl.engine import overdue
from jobctl.engine import runner as runners
from jobctl.engine.maintenance import Maintenance
from jobctl.engine.registry import Registry
from jobctl.engine.runner import Runner
from jobctl.engine.scheduler import Scheduler
from jobctl.engine.schedules import next_run
from jobctl.errors import Conflict, NoRetry, NotFound, RetryAfter, StoreUnavailable
from jobctl.events import Commit
from jobctl.model import JobQuery, NewJob
from jobctl.schedule import ScheduleSpec
from jobctl.store import committer, sqlite
from jobctl.store import enqueue as enqueueing
from jobctl.store.base import Store
from jobctl.stream.hub import Hub
from jobctl.upkeep_settings import Retention
from tests.model.replay import Replay

T = TypeVar("T")
START_MS: Final = 1_790_000_000_000
SLOTS: Final = 3
LIVES: Final = 3
FAILURES: Final = 0.03
"""Share of transactions that the disk refuses."""
ENDED: Final = frozenset({"completed", "failed", "cancelled"})

Trace = list[tuple[Any, ...]]
"""What happened, in order: ms since the start, and what."""


class Disk:
    """What is left to chance about writing."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.failures = 0.0

    def delay(self) -> float:
        """Seconds that a transaction waits for its turn."""
        return self.draw.choice([0, 0.001, 0.004, 0.05])

    def fail(self) -> None:
        """Refuse one transaction in a while."""
        if self.draw.random() < self.failures:
            raise self.draw.choice([apsw.FullError, apsw.IOError, apsw.BusyError])("simulated")


class InlineCommitter(committer.Committer):
    """The committer without its thread: a task takes what waits."""

    def __init__(self, disk: Disk, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._disk = disk
        self._waiting: list[Any] = []
        self._came: trio.Event
        self._done: trio.Event

    def start(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._came, self._done = trio.Event(), trio.Event()
        trio.lowlevel.spawn_system_task(self._take_turns)

    async def stop(self) -> None:
        self._stopped = True
        self._came.set()
        await self._done.wait()

    async def submit(self, function: Callable[[Any], T]) -> T:
        if self._stopped:
            raise StoreUnavailable("the store is closed")
        await trio.lowlevel.checkpoint_if_cancelled()
        self._waiting.append(committer._Op(function, trio.lowlevel.current_task()))
        self._came.set()
        value: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return value

    async def _take_turns(self) -> None:
        while True:
            await self._came.wait()
            await trio.sleep(self._disk.delay())
            self._came = trio.Event()
            group, self._waiting = self._waiting, []
            if group:
                self._run(group)
            if self._stopped:
                self._came.set()
                if not self._waiting:
                    self._done.set()
                    return

    def _transact(self, group: list[Any]) -> Commit:
        self._disk.fail()
        return super()._transact(group)


@contextlib.contextmanager
def seeded(seed: int, disk: Disk) -> Iterator[trio.testing.MockClock]:
    """Nothing in here is left to chance but what ``seed`` says."""
    clock = trio.testing.MockClock(autojump_threshold=0)

    async def in_line(function: Callable[..., T], *arguments: Any, **_: Any) -> T:
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    def wall() -> float:
        return START_MS / 1000 + clock.current_time()

    ids = itertools.count(1)
    steady = clock.current_time
    core = trio._core._run
    places = (
        (core, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        (trio.to_thread, "run_sync", in_line),
        (sqlite, "Committer", lambda *arguments, **more: InlineCommitter(disk, *arguments, **more)),
        (sqlite, "time", SimpleNamespace(monotonic=steady)),
        (runners, "time", SimpleNamespace(time=wall, perf_counter=steady)),
        (overdue, "WATCH_S", 3.0),  # else most of an hour is looking at one run every quarter of a second
        (upkeep, "time", SimpleNamespace(monotonic=steady)),
        (enqueueing, "uuid_utils", SimpleNamespace(uuid7=lambda: f"job-{next(ids)}")),
        (time, "time_ns", lambda: round(wall() * 1e9)),
    )
    before = random.getstate(), core._r.getstate()
    random.seed(seed)
    core._r.seed(seed)
    try:
        with contextlib.ExitStack() as stack:
            for target, name, value in places:
                stack.enter_context(mock.patch.object(target, name, value))
            yield clock
    finally:
        random.setstate(before[0])
        core._r.setstate(before[1])


class Simulation:
    """Some hours of a server's life, in the folder ``place``."""

    def __init__(self, seed: int, place: Path) -> None:
        self.seed, self.place = seed, place
        self.draw = random.Random(seed)
        self.disk = Disk(self.draw)
        self.trace: Trace = []
        self.replay = Replay()
        self.acknowledged: list[str] = []
        self.alive: Counter[str] = Counter()
        self.ticks: Counter[tuple[str, int]] = Counter()
        self.broken: list[str] = []
        """What a handler saw that must not be."""
        self.dead = False
        self.clock: trio.testing.MockClock

    def run(self) -> Trace:
        """All of it; raises where a promise is broken."""
        with seeded(self.seed, self.disk) as self.clock:
            trio.run(self._lives, clock=self.clock)
        return self.trace

    def now(self) -> int:
        """The wall clock, ms."""
        return START_MS + round(self.clock.current_time() * 1000)

    def note(self, *what: Any) -> None:
        """One more line of the trace."""
        self.trace.append((self.now() - START_MS, *what))

    # --- handlers ------------------------------------------------------------------------------------------------

    def registry(self) -> Registry:
        """Handlers that do all that a handler may do."""
        registry = Registry()

        async def work(ctx: Any, seconds: float = 0.0, how: str = "return") -> str:
            self.alive[ctx.job_id] += 1
            self.note("begins", ctx.job_id, ctx.attempt)
            if self.alive[ctx.job_id] != 1:
                self.broken.append(f"{ctx.job_id} runs twice at once")
            try:
                await _work(ctx, seconds, how)
            finally:
                self.alive[ctx.job_id] -= 1
                self.note("ends", ctx.job_id)
            return how

        for name in ("mail", "resize"):
            registry.job(name, timeout=90)(work)
        return registry

    # --- lives ---------------------------------------------------------------------------------------------------

    async def _lives(self) -> None:
        for life in range(LIVES):
            last = life == LIVES - 1
            kill = not last and self.draw.random() < 0.6
            self.alive.clear()
            self.dead, self.disk.failures = False, 0.0
            async with sqlite.open_store(
                self.place / "jobs.db", state_dir=self.place / "state", durability="normal"
            ) as store:
                store.clock = self.now
                await self._serve(store, kill=kill, last=last)
            if kill:
                self._put_back()
            self.note("the server is gone", life, kill)

    async def _serve(self, store: Store, *, kill: bool, last: bool) -> None:
        hub = Hub(store, clock=self.now)
        await hub.start()
        # What was committed in the moment of the kill, and told to nobody: whoever comes back asks for it.
        missed = await store.events(len(self.replay.history), limit=500)
        self._hear(Commit(events=missed.events))
        store.listen(self._hear)
        self.note("rescued", *sorted((await store.rescue()).jobs))
        registry = self.registry()
        runner = Runner(
            store, registry, concurrency=SLOTS, limits={"narrow": 1}, worker="sim", grace=5.0, cancel_grace=2.0
        )
        scheduler = Scheduler(store, registry, clock=self.now)
        maintenance = Maintenance(store, Retention(completed=600.0, max_finished=20, max_events=200))
        store.listen(runner.on_commit)
        store.listen(scheduler.on_commit)
        self.disk.failures = FAILURES
        async with trio.open_nursery() as nursery:
            for part in (hub, runner, scheduler, maintenance):
                await nursery.start(part.run)
            if kill:
                nursery.start_soon(self._die, nursery)
            await self._add_schedule(store)
            async with trio.open_nursery() as people:
                for _ in range(3):
                    people.start_soon(self._person, store)
            if kill:
                await trio.sleep_forever()
            self.disk.failures = 0.0
            if last:
                await self._settle(store)
                await self._check(store, hub)
            await runner.drain()
            nursery.cancel_scope.cancel()

    async def _die(self, nursery: trio.Nursery) -> None:
        """``kill -9``: the files stay as they are now, and nobody hears of what comes after."""
        await trio.sleep(self.draw.choice([0.003, 0.1, 2, 20, 200]))
        self.dead = True
        aside = self.place / "aside"
        aside.mkdir()
        for each in ("jobs.db", "jobs.db-wal"):
            shutil.copy(self.place / each, aside / each)
        shutil.copytree(self.place / "state", aside / "state")
        nursery.cancel_scope.cancel()

    def _put_back(self) -> None:
        aside = self.place / "aside"
        shutil.rmtree(self.place / "state")
        for each in aside.iterdir():
            each.replace(self.place / each.name)
        aside.rmdir()

    def _hear(self, commit: Commit) -> None:
        if self.dead:
            return
        for event in commit.events:
            self.replay.take(event)
            self.note(event.seq, event.kind, event.job_id, event.status_before, event.status)
            if event.owner == "schedule:every" and event.status_before is None:
                self.ticks[event.owner, event.at // 60_000] += 1

    # --- people --------------------------------------------------------------------------------------------------

    async def _add_schedule(self, store: Store) -> None:
        spec = ScheduleSpec(name="every", cron="*/2 * * * *", timezone="UTC", job_name="mail", data=b'{"seconds":1}')
        while True:
            try:
                await store.schedules.add(spec, created_by="root", next_run=next_run(spec, self.now()))
            except StoreUnavailable:
                await trio.sleep(1)
            except Conflict:
                return
            else:
                return

    async def _person(self, store: Store) -> None:
        for _ in range(self.draw.randrange(3, 7)):
            await trio.sleep(self.draw.choice([0, 0.01, 0.5, 7, 60]))
            try:
                await self.draw.choice([self._enqueue, self._enqueue, self._enqueue, self._meddle])(store)
            except StoreUnavailable as error:
                self.note("refused", str(error))
            except (NotFound, Conflict):
                pass

    async def _enqueue(self, store: Store) -> None:
        draw = self.draw
        jobs = []
        for _ in range(draw.randrange(1, 4)):
            how = draw.choice(["return", "return", "raise", "never", "later", "looks", "stubborn"])
            data = msgspec.json.encode({"seconds": draw.choice([0, 0, 0.2, 3, 100]), "how": how})
            later = self.now() + 20_000 if draw.random() < 0.2 else None
            jobs.append(
                NewJob(
                    name=draw.choice(["mail", "resize"]), data=data, queue=draw.choice(["default", "narrow"]),
                    priority=draw.randrange(3), max_attempts=draw.randrange(1, 4), timeout=90.0, scheduled_for=later,
                    unique_key=draw.choice([None, None, "one"]),
                )
            )  # fmt: skip
        answer = await store.enqueue(jobs, owner="ann")
        if not self.dead:
            self.acknowledged += answer.ids

    async def _meddle(self, store: Store) -> None:
        if not self.acknowledged:
            return
        job_id = self.draw.choice(self.acknowledged)
        what = self.draw.choice(["cancel", "cancel", "retry", "delete", "pause"])
        if what == "pause":
            await store.set_paused("default", True)
            await trio.sleep(self.draw.choice([1, 30]))
            await store.set_paused("default", False)
        else:
            await getattr(store, what)(job_id, owner=None)

    # --- the end -------------------------------------------------------------------------------------------------

    async def _settle(self, store: Store) -> None:
        """Until everything has ended."""
        with trio.fail_after(20_000):
            await store.schedules.remove("every")
            for queue in (await store.queues()).value:
                await store.set_paused(queue.name, False)
            while True:
                stats = (await store.stats(owner=None)).value
                if not stats.pending + stats.running + stats.retrying:
                    return
                await trio.sleep(5)

    async def _check(self, store: Store, hub: Hub) -> None:
        assert not self.broken
        page = (await store.jobs(JobQuery(limit=200))).value
        assert not page.has_more
        assert {job.id: msgspec.json.decode(msgspec.json.encode(job)) for job in page.jobs} == self.replay.rows
        lost = {*self.acknowledged} - self.replay.seen
        assert not lost, f"acknowledged jobs are lost: {lost}"
        assert all(job.status in ENDED for job in page.jobs)
        counters = await store.counters()
        counted = Counter((job.created_by, job.queue, job.status.value) for job in page.jobs)
        assert dict(counters.value.counts) == dict(counted)
        assert hub.head == counters.position.seq == len(self.replay.history)
        assert hub.tally.stats(None).total == len(page.jobs)
        assert max(self.ticks.values(), default=0) <= 1, "a tick had its job twice"
        log = await store.events(0, limit=500)
        assert list(log.events) == self.replay.history[log.start - 1 :]


async def _work(ctx: Any, seconds: float, how: str) -> None:
    for part in range(1, 4):
        await trio.sleep(seconds / 3)
        ctx.progress(part / 3, how)
        if how == "looks" and ctx.cancelled:
            return
    if how == "stubborn":
        with trio.CancelScope(shield=True):
            await trio.sleep(20)
    elif how == "raise":
        raise ValueError(how)
    elif how == "never":
        raise NoRetry(how)
    elif how == "later":
        raise RetryAfter(30)


def simulate(seed: int, place: Path) -> Trace:
    """One simulation; its trace."""
    return Simulation(seed, place).run()
