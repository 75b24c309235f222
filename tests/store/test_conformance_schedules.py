"""Schedules in the store: who may change which, and that no tick ever has two jobs."""

from collections.abc import Iterable

import pytest
import trio
from store_kit import START_MS, Clock, Heard, all_events, enqueue, listed, new

from jobctl.errors import Conflict, NotFound, TooLarge
from jobctl.model import MAX_INLINE, NewJob
from jobctl.schedule import ScheduleSpec, ScheduleState
from jobctl.store.base import Store
from jobctl.store.schedules import Firing, Planned

MINUTE = 60_000
NEXT = START_MS + MINUTE
JOB = NewJob(name="backup", data=b'{"depth":2}', queue="night", priority=3, max_attempts=2, timeout=9.0, tags=("t",))


def spec(name: str = "nightly", **fields: object) -> ScheduleSpec:
    return ScheduleSpec(**{"name": name, "cron": "* * * * *", "timezone": "UTC", "job_name": "backup", **fields})


async def add(store: Store, name: str = "nightly", *, at: int | None = NEXT, **fields: object) -> ScheduleState:
    return await store.schedules.add(spec(name, **fields), created_by="root", next_run=at)


async def one(store: Store, name: str = "nightly") -> ScheduleState:
    return (await store.schedules.one(name)).value


async def names(store: Store) -> list[str]:
    return [state.spec.name for state in (await store.schedules.all()).value]


def firing(state: ScheduleState, tick: int | None = None, **fields: object) -> Firing:
    """A plan for ``tick`` made from ``state``; the next run is a minute after what was due."""
    assert state.next_run is not None
    then = state.next_run + MINUTE
    return Firing(
        **{"name": state.spec.name, "version": state.version, "expected": state.next_run, "next_run": then}
        | {"tick": tick}
        | {"job": JOB if tick is not None else None}
        | fields
    )


async def fire(store: Store, *firings: Firing) -> tuple[str | None, ...]:
    return await store.schedules.fire(firings)


# --- what they say -------------------------------------------------------------------------------------------------


async def test_a_schedule_is_kept_as_it_was_said(store: Store, clock: Clock) -> None:
    clock.forward(1)
    said = spec(
        cron="30 2 * * *", timezone="Europe/Zurich", data=b'{"path":"\xc3\xbc"}', queue="q", priority=-5,
        max_attempts=7, timeout=1.5, tags=("a", "\u00fc"), missed="once",
    )  # fmt: skip
    made = await store.schedules.add(said, created_by="ann", next_run=NEXT)
    assert made.spec == said
    assert made == await one(store)
    assert (made.source, made.created_by, made.version, made.next_run) == ("api", "ann", 1, NEXT)
    assert made.created_at == made.updated_at == clock.ms
    assert (made.last_run, made.last_job, made.run_count, made.error) == (None, None, 0, None)


async def test_schedules_are_listed_by_name_and_survive_a_restart(open_store) -> None:  # type: ignore[no-untyped-def]
    async with open_store() as store:
        for name in ("b", "c", "a"):
            await add(store, name)
    async with open_store() as store:
        assert await names(store) == ["a", "b", "c"]


async def test_a_name_is_taken_once(store: Store) -> None:
    await add(store)
    with pytest.raises(Conflict, match="there is a schedule nightly already"):
        await add(store)


async def test_there_are_a_thousand_at_most(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobctl.store.schedule_writes.MAX_SCHEDULES", 2)
    await add(store, "a")
    await add(store, "b")
    with pytest.raises(TooLarge, match="2 schedules already"):
        await add(store, "c")
    await store.schedules.remove("a")
    await add(store, "c")


async def test_one_that_is_not_there_is_not_found(store: Store) -> None:
    for call in (
        store.schedules.one("x"), store.schedules.replace(spec("x"), next_run=NEXT), store.schedules.remove("x"),
        store.schedules.set_enabled("x", True, next_run=NEXT), store.schedules.trigger("x", JOB),
    ):  # fmt: skip
        with pytest.raises(NotFound, match="there is no such schedule"):
            await call


async def test_a_change_keeps_the_next_run_unless_the_times_change(store: Store, clock: Clock) -> None:
    await add(store)
    clock.forward(5)
    changed = await store.schedules.replace(spec(queue="other"), next_run=NEXT + 5)
    assert (changed.version, changed.next_run, changed.spec.queue) == (2, NEXT, "other")
    assert (changed.created_at, changed.updated_at) == (START_MS, clock.ms)
    for field, value in (("cron", "0 * * * *"), ("timezone", "Europe/Zurich")):
        before = await one(store)
        changed = await store.schedules.replace(spec(queue="other", **{field: value}), next_run=NEXT + 9)
        assert changed.next_run == NEXT + 9, field
        await store.schedules.replace(before.spec, next_run=NEXT)


async def test_a_disabled_one_has_no_next_run(store: Store) -> None:
    await add(store)
    rests = await store.schedules.set_enabled("nightly", False, next_run=NEXT)
    assert (rests.spec.enabled, rests.next_run, rests.version) == (False, None, 2)
    assert await store.schedules.set_enabled("nightly", False, next_run=NEXT) == rests
    again = await store.schedules.set_enabled("nightly", True, next_run=NEXT + 7)
    assert (again.spec.enabled, again.next_run, again.version) == (True, NEXT + 7, 3)
    assert (await add(store, "b", enabled=False)).next_run is None


async def test_large_data_is_left_out_of_lists(store: Store) -> None:
    large = await add(store, data=b'{"x":"' + b"a" * MAX_INLINE + b'"}')
    assert (large.shown().data, large.shown().omitted) == (None, ("data",))
    assert msg(large.shown(inline=True).data) == large.spec.data


async def test_every_change_is_told(store: Store, heard: Heard) -> None:
    async def told() -> bool:
        found = any(commit.schedules for commit in heard.commits)
        heard.clear()
        return found

    state = await add(store)
    assert await told()
    await enqueue(store, new())
    await store.schedules.all()
    assert not await told()
    await store.schedules.replace(state.spec, next_run=NEXT)
    assert await told()
    await fire(store, firing(await one(store), NEXT))
    assert await told()
    await store.schedules.trigger("nightly", JOB)
    assert await told()
    await store.schedules.set_enabled("nightly", False, next_run=None)
    assert await told()
    await store.schedules.remove("nightly")
    assert await told()


# --- the configuration ---------------------------------------------------------------------------------------------


def plans(*specs: ScheduleSpec, at: int = NEXT) -> list[Planned]:
    return [Planned(each, at) for each in specs]


async def test_the_configurations_own_come_change_and_go_with_it(store: Store) -> None:
    await add(store, "by-hand")
    first = await store.schedules.sync(plans(spec("a"), spec("b"), spec("c")))
    assert (first.added, first.changed, first.removed, first.kept) == (("a", "b", "c"), (), (), ())
    assert (await one(store, "a")).source == "config"
    second = await store.schedules.sync(plans(spec("a"), spec("b", queue="x"), at=NEXT + 1))
    assert (second.added, second.changed, second.removed, second.kept) == ((), ("b",), ("c",), ())
    assert await names(store) == ["a", "b", "by-hand"]
    assert ((await one(store, "a")).version, (await one(store, "b")).version) == (1, 2)


async def test_those_that_are_to_be_left_alone_are_neither_changed_nor_removed(store: Store) -> None:
    await store.schedules.sync(plans(spec("a"), spec("b")))
    done = await store.schedules.sync(plans(spec("c")), untouched={"a"})
    assert (done.added, done.changed, done.removed) == (("c",), (), ("b",))
    assert await names(store) == ["a", "c"]


async def test_a_start_does_not_move_the_next_run_of_what_has_not_changed(store: Store) -> None:
    """Else a run that was missed while no server ran would be forgotten, not missed."""
    await store.schedules.sync(plans(spec("a"), spec("b")))
    await store.schedules.sync(plans(spec("a"), spec("b", cron="0 * * * *"), at=NEXT + 99))
    assert ((await one(store, "a")).next_run, (await one(store, "b")).next_run) == (NEXT, NEXT + 99)


async def test_one_that_was_made_through_the_api_is_not_taken_over(store: Store) -> None:
    await add(store, "a", queue="mine")
    done = await store.schedules.sync(plans(spec("a")))
    assert done.kept == ("a",)
    assert ((await one(store, "a")).source, (await one(store, "a")).spec.queue) == ("api", "mine")


async def test_the_configurations_own_cannot_be_changed_through_the_api_but_run(store: Store) -> None:
    await store.schedules.sync(plans(spec("a")))
    for call in (
        store.schedules.replace(spec("a"), next_run=NEXT), store.schedules.remove("a"),
        store.schedules.set_enabled("a", False, next_run=None),
    ):  # fmt: skip
        with pytest.raises(Conflict, match=r"change \[schedules\.a\] there, and send the server SIGHUP"):
            await call
    assert (await store.schedules.trigger("a", JOB)).name == "backup"


# --- running -------------------------------------------------------------------------------------------------------


async def test_those_that_are_due_come_first_due_first_with_the_time_of_the_next(store: Store) -> None:
    for name, at in (("b", NEXT), ("a", NEXT), ("late", START_MS), ("next", NEXT + 5), ("far", NEXT + 9)):
        await add(store, name, at=at)
    await add(store, "rests", enabled=False)
    due = await store.schedules.due(NEXT, limit=10)
    assert ([state.spec.name for state in due.schedules], due.next_run) == (["late", "a", "b"], NEXT + 5)
    due = await store.schedules.due(NEXT, limit=2)
    assert ([state.spec.name for state in due.schedules], due.next_run) == (["late", "a"], NEXT + 5)
    assert await store.schedules.due(START_MS - 1, limit=10) == ((), START_MS)
    assert (await store.schedules.due(NEXT + 9, limit=10)).next_run is None


async def test_a_tick_enqueues_its_job_and_moves_the_schedule_on(store: Store, clock: Clock) -> None:
    state = await add(store)
    clock.ms = NEXT + 3
    (job_id,) = await fire(store, firing(state, NEXT))
    (job,) = await listed(store)
    assert (job.id, job.name, job.queue, job.priority) == (job_id, "backup", "night", 3)
    assert (job.created_by, job.max_attempts, job.timeout, job.tags) == ("schedule:nightly", 2, 9.0, ("t",))
    moved = await one(store)
    assert (moved.next_run, moved.last_run, moved.last_job) == (NEXT + MINUTE, clock.ms, job_id)
    assert (moved.run_count, moved.version, moved.updated_at) == (1, 1, START_MS)


async def test_the_job_the_tick_and_the_next_run_are_one_transaction(store: Store, heard: Heard) -> None:
    state = await add(store)
    heard.clear()
    await fire(store, firing(state, NEXT))
    (commit,) = heard.commits
    assert (len(commit.events), commit.schedules, commit.work) == (1, True, True)


async def test_a_plan_that_the_schedule_has_moved_on_from_changes_nothing(store: Store) -> None:
    state = await add(store)
    assert await fire(store, firing(state, NEXT)) != (None,)
    moved = await one(store)
    assert await fire(store, firing(state, NEXT + MINUTE)) == (None,)  # made before the first one
    assert await one(store) == moved
    await store.schedules.replace(spec(queue="x"), next_run=None)
    assert await fire(store, firing(moved, NEXT + MINUTE)) == (None,)  # made before the change
    await store.schedules.remove("nightly")
    assert await fire(store, firing(moved, NEXT + MINUTE)) == (None,)
    assert len(await listed(store)) == 1


async def test_two_looks_at_the_same_moment_enqueue_one_job(store: Store) -> None:
    state = await add(store)
    answers: list[str | None] = []

    async def look() -> None:
        answers.extend(await fire(store, firing(state, NEXT)))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(look)
    assert len([each for each in answers if each]) == 1
    assert len(await listed(store)) == 1


async def test_a_tick_that_has_had_its_job_gets_no_other_wherever_the_clock_stands(open_store) -> None:  # type: ignore[no-untyped-def]
    async with open_store() as store:
        await fire(store, firing(await add(store), NEXT))
        back = firing(await one(store), next_run=NEXT)  # the clock was set back
        await fire(store, back)
        assert (await one(store)).next_run == NEXT
    async with open_store() as store:
        assert await fire(store, firing(await one(store), NEXT)) == (None,)
        assert (await one(store)).next_run == NEXT + MINUTE
        assert (await one(store)).run_count == 1


async def run_ticks(store: Store, ticks: Iterable[int]) -> list[str | None]:
    answers: list[str | None] = []
    for tick in ticks:
        state = await one(store)
        await fire(store, firing(state, next_run=tick))
        answers += await fire(store, firing(await one(store), tick))
    return answers


async def test_ticks_long_ago_are_settled_though_they_are_not_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobctl.store.schedule_writes.TICKS_KEPT", 3)
    await add(store)
    minutes = [NEXT + n * MINUTE for n in range(10)]
    assert all(await run_ticks(store, minutes))
    assert not any(await run_ticks(store, minutes))
    assert (await one(store)).run_count == 10


async def test_a_clock_that_was_ahead_does_not_settle_the_time_until_then(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobctl.store.schedule_writes.TICKS_KEPT", 3)
    await add(store)
    year = 365 * 24 * 60 * MINUTE
    ahead = [NEXT + year + n * MINUTE for n in range(3)]
    assert all(await run_ticks(store, ahead))
    minutes = [NEXT + n * MINUTE for n in range(10)]
    assert all(await run_ticks(store, minutes))
    assert not any(await run_ticks(store, [*minutes, *ahead]))


async def test_why_a_tick_could_enqueue_nothing_is_kept_until_one_can(store: Store) -> None:
    state = await add(store)
    assert await fire(store, firing(state, NEXT, job=None, error="no handler named 'backup'")) == (None,)
    state = await one(store)
    assert (state.error, state.run_count, state.next_run) == ("no handler named 'backup'", 0, NEXT + MINUTE)
    assert await fire(store, firing(state, NEXT + MINUTE)) != (None,)
    assert (await one(store)).error is None


async def test_a_queue_too_many_does_not_stop_the_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    states = [await add(store, name) for name in ("a", "b", "c")]
    monkeypatch.setattr("jobctl.store.enqueue.MAX_QUEUES", 1)
    fits = NewJob(name="backup")
    first, last = (firing(states[n], NEXT, job=fits) for n in (0, 2))
    a, b, c = await fire(store, first, firing(states[1], NEXT), last)
    assert (a is not None, b, c is not None) == (True, None, True)
    assert "1 queues already" in ((await one(store, "b")).error or "")


async def test_a_plan_without_a_tick_moves_the_schedule_only(store: Store) -> None:
    await fire(store, firing(await add(store)))
    state = await one(store)
    assert (state.next_run, state.run_count, await all_events(store)) == (NEXT + MINUTE, 0, [])


async def test_triggering_enqueues_now_and_leaves_the_next_run(store: Store, clock: Clock) -> None:
    await add(store, enabled=False)
    clock.forward(2)
    job = await store.schedules.trigger("nightly", JOB)
    assert (job.created_by, job.status, msg(job.data)) == ("schedule:nightly", "pending", b'{"depth":2}')
    state = await one(store)
    assert (state.next_run, state.last_run, state.last_job, state.run_count) == (None, clock.ms, job.id, 1)


def msg(data: object) -> bytes:
    return bytes(data)  # type: ignore[call-overload, no-any-return]


async def test_a_removed_schedule_leaves_its_jobs_and_a_new_one_of_its_name_begins_anew(store: Store) -> None:
    await fire(store, firing(await add(store), NEXT))
    await store.schedules.remove("nightly")
    assert await names(store) == []
    assert len(await listed(store)) == 1
    assert (await add(store)).run_count == 0
    assert await fire(store, firing(await one(store), NEXT)) != (None,)
