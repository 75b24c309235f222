"""The state machine: all that may happen to a queue, in any order, held against the reference after each step."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from jobctl.engine.schedules import next_run
from jobctl.errors import Conflict, IdempotencyMismatch, IllegalTransition, NotFound, UniqueKeyLive
from jobctl.model import JobQuery, NewJob
from jobctl.schedule import ScheduleSpec
from jobctl.store.base import Idempotency, LogEntry
from jobctl.stream import feeder, hub, transport
from tests.model.choices import MOST_JOBS, OUTCOMES, OWNERS, QUEUES, new_jobs, outcomes
from tests.model.databases import Database, PostgresDatabase, SqliteFile
from tests.model.following import Following
from tests.model.reference import ENDED, WAITING
from tests.model.watching import Reader
from tests.model.world import NAMES, Loop, World, folder

MINUTE_MS: Final = 60_000


class QueueMachine(Following):
    """One history of a queue."""

    def __init__(self) -> None:
        super().__init__()
        self._open = contextlib.ExitStack()
        self._patch = self._open.enter_context(pytest.MonkeyPatch.context())
        # Else a history is too short to fall behind in, and the log too short to be read by pages.
        for where, name, value in ((transport, "SEND_BUFFER", 4096), (hub, "RING", 6), (feeder, "PAGE", 3)):
            self._patch.setattr(where, name, value)
        self.place = self._open.enter_context(folder())
        self.loop = Loop()
        self._open.callback(self.loop.close)
        self.world: World
        self.readers: list[Reader] = []
        self.ticks: set[int] = set()
        """Minutes whose job of the schedule has been made."""

    def database(self, durability: str) -> Database:
        """Where the next life of the server finds its queue."""
        return SqliteFile(self.place, durability)

    @initialize(durability=st.sampled_from(["full", "normal"]))
    def begin(self, durability: str) -> None:
        self.world = World(self.database(durability))
        self.loop.call(self.world.open)
        self.a_reader_comes(("root", "admin"), eager=True)
        self.a_reader_comes(("ann", "user"), eager=False)

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                for reader in self.readers:
                    self.loop.call(reader.leave)
                self.loop.call(self.world.stop)
        finally:
            self._open.close()

    @invariant()
    def the_promises_hold(self) -> None:
        if hasattr(self, "world"):
            self.loop.call(self.world.check)

    # --- short ways ----------------------------------------------------------------------------------------------

    @property
    def reference(self):  # type: ignore[no-untyped-def]
        return self.world.reference

    def pick(self, data: st.DataObject, *statuses: str) -> str | None:
        """Any job, of one of these statuses if there are some given."""
        ids = [job.id for job in self.reference.jobs.values() if not statuses or job.status in statuses]
        return data.draw(st.sampled_from(ids)) if ids else None

    # --- enqueueing ----------------------------------------------------------------------------------------------

    def _new(self, wanted: dict[str, Any]) -> NewJob:
        fields = dict(wanted)
        delay, large = fields.pop("delay"), fields.pop("large")
        when = None if delay is None else self.world.now + delay * 1000
        return NewJob(**fields, scheduled_for=when, data=b'{"x":"' + b"y" * (5000 if large else 1) + b'"}')

    @rule(wanted=st.lists(new_jobs, min_size=1, max_size=3), owner=st.sampled_from(OWNERS))
    @precondition(lambda self: len(self.reference.jobs) < MOST_JOBS)
    def enqueue(self, wanted: list[dict[str, Any]], owner: str) -> None:
        self.enqueue_for(owner, wanted)

    @rule(
        wanted=st.lists(new_jobs, min_size=2, max_size=4),
        owner=st.sampled_from(OWNERS),
        ends=st.lists(st.tuples(outcomes, st.sampled_from([False, False, True])), min_size=2, max_size=5),
    )
    @precondition(lambda self: len(self.reference.jobs) < MOST_JOBS)
    def some_come_and_some_go(self, wanted: list[dict[str, Any]], owner: str, ends: list[tuple[str, bool]]) -> None:
        self.enqueue_for(owner, wanted)
        self.a_turn_of(ends)

    def enqueue_for(self, owner: str, wanted: list[dict[str, Any]]) -> None:
        new = [self._new(each) for each in wanted]
        answer = self.loop.call(lambda: self.world.store.enqueue(new, owner=owner))
        self.reference.enqueued(new, owner, self.world.now, answer)

    @rule(
        wanted=new_jobs,
        owner=st.sampled_from(OWNERS),
        key=st.sampled_from(["once", "twice"]),
        fingerprint=st.sampled_from([b"a", b"b"]),
    )
    @precondition(lambda self: len(self.reference.jobs) < MOST_JOBS)
    def enqueue_under_a_key(self, wanted: dict[str, Any], owner: str, key: str, fingerprint: bytes) -> None:
        new, now = [self._new(wanted)], self.world.now
        known = self.reference.remembered(owner, key, now)

        async def ask():  # type: ignore[no-untyped-def]
            return await self.world.store.enqueue(new, owner=owner, idempotency=Idempotency(key, fingerprint))

        if known is not None and known[0] != fingerprint:
            with pytest.raises(IdempotencyMismatch):
                self.loop.call(ask)
            return
        answer = self.loop.call(ask)
        if known is not None:
            assert (answer.replayed, answer.ids) == (True, known[1])
            return
        self.reference.enqueued(new, owner, now, answer)
        self.reference.forget_keys(now)
        self.reference.keys[owner, key] = (fingerprint, answer.ids, now)

    # --- running -------------------------------------------------------------------------------------------------

    @rule(slots=st.integers(1, 5), limits=st.dictionaries(st.sampled_from(QUEUES), st.integers(1, 2), max_size=2))
    def claim(self, slots: int, limits: dict[str, int]) -> None:
        self.claim_of(slots, limits)

    def claim_of(self, slots: int, limits: dict[str, int]) -> None:
        busy = {queue: n for queue, n in self.reference.busy().items() if queue in limits}
        answer = self.loop.call(
            lambda: self.world.store.claim(slots, worker="model", limits=limits, busy=busy)
        )
        self.reference.claimed(answer, self.world.now, slots, limits, busy)

    @rule(ends=st.lists(st.tuples(outcomes, st.sampled_from([False, False, True])), min_size=1, max_size=5))
    def a_turn(self, ends: list[tuple[str, bool]]) -> None:
        """Claim some and end them: what happens most of the time, in one step of few."""
        self.a_turn_of(ends)

    def a_turn_of(self, ends: list[tuple[str, bool]]) -> None:
        self.claim_of(len(ends), {})
        live = [each for each in self.reference.runs if self.reference.is_current(*each)]
        for (job_id, run), (outcome, held) in zip(live, ends, strict=False):
            self.finish_of(job_id, run, outcome, held=held)

    @rule(data=st.data(), outcome=outcomes, held=st.sampled_from([False, False, False, True]))
    @precondition(lambda self: self.reference.runs)
    def finish(self, data: st.DataObject, outcome: str, held: bool) -> None:
        live = [each for each in self.reference.runs if self.reference.is_current(*each)]
        self.finish_of(*data.draw(st.sampled_from(live + self.reference.runs[-3:])), outcome, held=held)

    def finish_of(self, job_id: str, run: int, outcome: str, *, held: bool) -> None:
        ended = OUTCOMES[outcome]
        said = self.loop.call(lambda: self.world.store.finish(job_id, run, ended, held=held))
        assert said is self.reference.finished(job_id, run, ended, self.world.now, held=held)

    @rule(data=st.data())
    @precondition(lambda self: self.reference.runs)
    def release(self, data: st.DataObject) -> None:
        held = [(job.id, job.held) for job in self.reference.jobs.values() if job.held]
        job_id, run = data.draw(st.sampled_from(held + self.reference.runs[-2:]))
        self.loop.call(lambda: self.world.store.release(job_id, run))
        self.reference.released(job_id, run)

    @rule(data=st.data(), value=st.floats(0, 1))
    @precondition(lambda self: self.reference.runs)
    def report(self, data: st.DataObject, value: float) -> None:
        job_id, run = data.draw(st.sampled_from(self.reference.runs))
        current = self.reference.is_current(job_id, run)
        store, lines = self.world.store, [LogEntry(self.world.now, "log", "a line")] * 2
        assert self.loop.call(lambda: store.progress(job_id, run, value, "so far")) is current
        assert self.loop.call(lambda: store.append_logs(job_id, run, lines)) is current
        if current:
            job = self.reference.jobs[job_id]
            job.version += 1
            job.lines += 2
            page = self.loop.call(lambda: store.logs(job_id, owner=None)).value
            assert page.last == job.lines
            assert [line.n for line in page.lines] == list(range(page.last - len(page.lines) + 1, page.last + 1))

    # --- by hand -------------------------------------------------------------------------------------------------

    @rule(data=st.data(), asks=st.sampled_from([None, None, *OWNERS]))
    @precondition(lambda self: self.reference.jobs)
    def cancel(self, data: st.DataObject, asks: str | None) -> None:
        job = self.reference.jobs[self.pick(data)]
        refused = self._refused(job, asks, job.status in ENDED)
        with pytest.raises(refused) if refused else contextlib.nullcontext():
            self.loop.call(lambda: self.world.store.cancel(job.id, owner=asks))
        if not refused:
            self.reference.cancelled(job.id, self.world.now)

    @rule(data=st.data(), asks=st.sampled_from([None, None, *OWNERS]))
    @precondition(lambda self: self.reference.jobs)
    def retry(self, data: st.DataObject, asks: str | None) -> None:
        job = self.reference.jobs[self.pick(data, *ENDED) or self.pick(data)]
        refused = self._refused(job, asks, job.status not in ENDED)
        if refused is None and not self.reference.may_retry(job):
            refused = UniqueKeyLive
        with pytest.raises(refused) if refused else contextlib.nullcontext():
            self.loop.call(lambda: self.world.store.retry(job.id, owner=asks))
        if not refused:
            self.reference.retried(job.id, self.world.now)

    @rule(data=st.data(), asks=st.sampled_from([None, None, *OWNERS]))
    @precondition(lambda self: self.reference.jobs)
    def delete(self, data: st.DataObject, asks: str | None) -> None:
        job = self.reference.jobs[self.pick(data)]
        refused = self._refused(job, asks, job.status == "running")
        with pytest.raises(refused) if refused else contextlib.nullcontext():
            self.loop.call(lambda: self.world.store.delete(job.id, owner=asks))
        if not refused:
            self.reference.forget([job.id])

    @staticmethod
    def _refused(job: Any, asks: str | None, illegal: bool) -> type[Exception] | None:
        if asks not in (None, job.owner):
            return NotFound
        return IllegalTransition if illegal else None

    @rule(
        action=st.sampled_from(["retry", "cancel", "delete"]),
        statuses=st.lists(st.sampled_from([*WAITING, *ENDED, "running"]), max_size=3, unique=True),
        asks=st.sampled_from([None, *OWNERS]),
    )
    def bulk(self, action: Any, statuses: list[str], asks: str | None) -> None:
        store, query = self.world.store, JobQuery(owner=asks, statuses=tuple(statuses), limit=200)
        found = self.loop.call(lambda: store.matching(query)).value
        mine = [job for job in self.reference.jobs.values() if asks in (None, job.owner)]
        assert dict(found.jobs) == {job.id: job.status for job in mine if not statuses or job.status in statuses}
        todo, changed = list(found.jobs), 0
        while todo:
            acted = self.loop.call(lambda todo=todo: store.act(action, todo, owner=asks, statuses=statuses))
            changed += acted.changed
            todo = todo[acted.changed + acted.skipped :]
        expected = 0
        for job_id in found.jobs:
            job = self.reference.jobs[job_id]
            if action == "retry" and self.reference.may_retry(job):
                self.reference.retried(job_id, self.world.now)
            elif action == "cancel" and job.status not in ENDED and not job.cancel_requested:
                self.reference.cancelled(job_id, self.world.now)
            elif action == "delete" and job.status != "running":
                self.reference.forget([job_id])
            else:
                continue
            expected += 1
        assert changed == expected

    @rule(data=st.data(), paused=st.booleans())
    def pause(self, data: st.DataObject, paused: bool) -> None:
        queue = data.draw(st.sampled_from(sorted(self.reference.paused)))
        answer = self.loop.call(lambda: self.world.store.set_paused(queue, paused))
        assert answer.paused is paused
        self.reference.paused[queue] = paused

    @rule(names=st.none() | st.frozensets(st.sampled_from(NAMES), min_size=1))
    def handlers_change(self, names: frozenset[str] | None) -> None:
        self.loop.call(lambda: self.world.store.set_known(names))
        self.reference.known = names

    # --- time ----------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.001, 0.999, 1, 30, 59, 61, 3600, 90_000, -1, -90, -7200]))
    def the_clock_moves(self, seconds: float) -> None:
        self.world.now += round(seconds * 1000)

    @rule(seconds=st.sampled_from([3, 3600, -90, -7200]))
    @precondition(lambda self: all(job.told <= self.world.now for job in self.reference.jobs.values()))
    def the_clock_is_set(self, seconds: int) -> None:
        """And it is noticed, so that who waits to be tried again waits as long as before.

        Not where an earlier change was not noticed: nobody can tell then when a job began to wait.
        """
        before = self.world.now
        self.world.now += seconds * 1000
        moved = self.loop.call(lambda: self.world.store.keep_backoffs(seconds))
        assert moved == self.reference.clock_set(before, self.world.now)

    @rule(missed=st.sampled_from(["skip", "once"]))
    def a_schedule_is_made(self, missed: Any) -> None:
        spec = ScheduleSpec(
            name="every", cron="* * * * *", timezone="UTC", job_name="mail", missed=missed, queue="bulk"
        )
        then = next_run(spec, self.world.now)
        with contextlib.suppress(Conflict):
            self.loop.call(lambda: self.world.store.schedules.add(spec, created_by="root", next_run=then))

    @rule()
    @precondition(lambda self: len(self.reference.jobs) < MOST_JOBS)
    def schedules_are_looked_at(self) -> None:
        before, now = len(self.world.replay.history), self.world.now
        self.loop.call(self.world.scheduler.look)
        page = self.loop.call(lambda: self.world.store.events(before, limit=500))
        made = [event for event in page.events if event.owner == "schedule:every"]
        assert len(made) <= 1, "one look made several jobs of one schedule"
        for event in made:
            tick = now // MINUTE_MS
            assert tick not in self.ticks, "a tick had its job twice"
            self.ticks.add(tick)
            job = self.loop.call(lambda event=event: self.world.store.job(event.job_id, owner=None)).value
            twin = NewJob(name=job.name, queue=job.queue, max_attempts=job.max_attempts)
            answer = type("Answer", (), {"ids": (job.id,), "created": 1, "existing": 0, "replayed": False})
            self.reference.enqueued([twin], job.created_by, now, answer)

    # --- forgetting ----------------------------------------------------------------------------------------------

    @rule(
        status=st.sampled_from(ENDED),
        older_than=st.sampled_from([None, 0.0, 1.0, 3600.0]),
        keep=st.sampled_from([None, None, 0, 1, 2]),
    )
    def prune_jobs(self, status: str, older_than: float | None, keep: int | None) -> None:
        self.prune_of(status, older_than, keep)

    @rule()
    def all_that_is_old_goes(self) -> None:
        self.world.now += 1000
        for status in ENDED:
            self.prune_of(status, 0.0, None)

    def prune_of(self, status: str, older_than: float | None, keep: int | None) -> None:
        expected = self.reference.prunable(status, self.world.now, older_than, keep)
        count, more = 0, True
        while more:
            pruned = self.loop.call(
                lambda: self.world.store.retention.prune_jobs(status, older_than=older_than, keep=keep)
            )
            count, more = count + pruned.count, pruned.more
        assert count == len(expected)
        self.reference.forget(expected)

    @rule(keep=st.integers(0, 20))
    def prune_events(self, keep: int) -> None:
        self.loop.call(lambda: self.world.store.retention.prune_events(keep=keep))

    @rule(older_than=st.sampled_from([0.0, 60.0]))
    def prune_the_rest(self, older_than: float) -> None:
        self.loop.call(lambda: self.world.store.retention.prune_logs(older_than=older_than))
        self.loop.call(self.world.store.retention.tidy)
        self.reference.forget_keys(self.world.now)

    # --- lives of the server -------------------------------------------------------------------------------------

    @rule(orderly=st.booleans(), durability=st.sampled_from(["full", "normal"]))
    def the_server_ends_and_another_starts(self, orderly: bool, durability: str) -> None:
        world, before = self.world, self.world.epochs[-1]
        eager = [reader for reader in self.readers if reader.eager and reader.connected]
        for reader in self.readers:
            self.loop.call(world.readers.leave, reader)
        self.loop.call(world.stop if orderly else world.kill)
        kept = orderly or world.database.durability == "full"
        world.database = self.database(durability)
        self.loop.call(world.open)
        assert (world.epochs[-1] == before) is kept, "the epoch"
        assert world.epochs.index(world.epochs[-1]) in (len(world.epochs) - 1, world.epochs.index(before))
        for reader in eager:
            self.loop.call(lambda reader=reader: world.readers.join(reader, eager=True))


class PostgresMachine(QueueMachine):
    """One history of a queue in the PostgreSQL database ``url``, which is emptied first."""

    url: ClassVar[str]

    @initialize(durability=st.just("full"))
    def begin(self, durability: str) -> None:
        PostgresDatabase(self.url).clear()
        super().begin(durability)

    def database(self, durability: str) -> Database:
        return PostgresDatabase(self.url)
