"""How a store forgets: what goes, what stays, and what is told of it."""

import pytest
from store_kit import (
    ANN,
    BEN,
    START_MS,
    Clock,
    Heard,
    add,
    all_events,
    check_invariants,
    claim,
    claims,
    enqueue,
    head,
    names,
    new,
    prune,
    shown,
    started,
)

from jobctl.errors import IdempotencyMismatch, NotFound
from jobctl.events import pruning_of
from jobctl.model import wire_time
from jobctl.store import retention_writes
from jobctl.store.base import Cancelled, Completed, Failed, Idempotency, Store
from jobctl.store.retention import Pruned

DAY = 86400.0
NOTHING = Pruned(0, more=False)


async def end(store: Store, outcome: object = None, **fields: object) -> str:
    one = await started(store, **fields)
    await store.finish(one.job.id, one.run, outcome or Completed(b"1"))  # type: ignore[arg-type]
    return one.job.id


# --- jobs ----------------------------------------------------------------------------------------------------------


async def test_jobs_that_ended_longer_ago_go_and_the_others_stay(store: Store, clock: Clock) -> None:
    old = await end(store, name="old")
    clock.forward(DAY)
    await end(store, name="young")
    waiting = await add(store, name="waits", owner=BEN)
    clock.forward(DAY)
    assert await prune(store, older_than=2 * DAY) == 0, "an age is not yet exceeded when it is reached"
    clock.forward(0.001)
    assert await prune(store, older_than=2 * DAY) == 1
    assert await names(store) == ["waits", "young"]
    with pytest.raises(NotFound):
        await store.job(old, owner=None)
    await shown(store, waiting)


async def test_each_status_has_its_own_age(store: Store, clock: Clock) -> None:
    for name, outcome in (("c", Completed()), ("f", Failed("x", retry=False)), ("k", Cancelled())):
        await end(store, outcome, name=name)
    clock.forward(DAY)
    assert await prune(store, "failed", older_than=60) == 1
    assert await names(store) == ["k", "c"]
    assert await prune(store, "cancelled", older_than=60) == 1
    assert await names(store) == ["c"]


async def test_what_waits_or_runs_is_never_pruned(store: Store, clock: Clock) -> None:
    one = await started(store, name="runs")
    await add(store, name="waits")
    clock.forward(1000 * DAY)
    for status in ("pending", "running", "retrying", "completed", "failed", "cancelled"):
        assert await prune(store, status, older_than=0, keep=0) == 0
    assert await store.finish(one.job.id, one.run, Completed())


async def test_a_run_that_has_been_given_up_but_goes_on_keeps_its_job(store: Store, clock: Clock) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Failed("x", retry=False), held=True)
    clock.forward(DAY)
    assert await prune(store, "failed", older_than=0) == 0
    await store.release(one.job.id, one.run)
    assert await prune(store, "failed", older_than=0) == 1


async def test_those_that_ended_after_one_whose_run_goes_on_go_without_it(store: Store, clock: Clock) -> None:
    """The event of a pruning means all that ended before a time; the one that stays must not be among them."""
    early = await end(store, Failed("x", retry=False), name="early")
    clock.forward(1)
    held = await started(store, name="held")
    await store.finish(held.job.id, held.run, Failed("x", retry=False), held=True)
    clock.forward(1)
    late = await end(store, Failed("x", retry=False), name="late")
    clock.forward(DAY)
    assert await prune(store, "failed", older_than=0) == 2
    assert await names(store) == ["held"]
    events = (await all_events(store))[-2:]
    assert [event.kind for event in events] == ["jobs_pruned", "job_deleted"]
    assert (pruning_of(events[0]).of(None), events[1].job_id) == ({"failed": 1}, late)
    assert early != late
    await check_invariants(store)
    await store.release(held.job.id, held.run)
    assert await prune(store, "failed", older_than=0) == 1


async def test_a_job_that_was_put_back_is_none_that_has_ended(store: Store, clock: Clock) -> None:
    job_id = await end(store)
    await store.retry(job_id, owner=None)
    clock.forward(DAY)
    assert await prune(store, older_than=0, keep=0) == 0


async def test_those_that_ended_first_go_until_as_many_as_may_are_left(store: Store, clock: Clock) -> None:
    for name in "abcdef":
        await end(store, name=name)
        clock.forward(1)
    assert await prune(store, keep=4) == 2
    assert await names(store) == ["f", "e", "d", "c"]
    assert await prune(store, keep=4) == 0
    assert await prune(store, keep=2, limit=1) == 2
    assert await prune(store, older_than=DAY, keep=1) == 1


async def test_order_is_by_end_not_by_age(store: Store, clock: Clock) -> None:
    one, two = await started(store, name="first"), await started(store, name="second")
    await store.finish(two.job.id, two.run, Completed())
    clock.forward(1)
    await store.finish(one.job.id, one.run, Completed())
    assert await prune(store, keep=1) == 1
    assert await names(store) == ["first"]


async def test_a_batch_takes_no_more_than_it_may_and_says_that_there_are_more(store: Store, clock: Clock) -> None:
    for _ in range(5):
        await end(store)
    clock.forward(1)
    assert await store.retention.prune_jobs("completed", older_than=0, limit=2) == Pruned(2, more=True)
    assert await store.retention.prune_jobs("completed", older_than=0, limit=3) == Pruned(3, more=False)
    assert await store.retention.prune_jobs("completed", older_than=0) == NOTHING


async def test_large_jobs_make_smaller_batches(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobctl.store.retention_writes.BATCH_BYTES", 5000)
    for _ in range(4):
        await end(store, Completed(b'"' + b"x" * 2000 + b'"'))
    await end(store, Completed(b'"' + b"x" * 9000 + b'"'))
    clock.forward(1)
    sizes = []
    while not sizes or sizes[-1]:
        sizes.append((await store.retention.prune_jobs("completed", older_than=0)).count)
    assert sizes == [2, 2, 1, 0]


async def test_those_that_ended_together_are_not_told_before_all_are_gone(
    store: Store, clock: Clock, heard: Heard
) -> None:
    """One group of runs ends in one millisecond: "ended before" must hold whatever the size of a batch."""
    for _ in range(5):
        await end(store)
    last = clock.ms
    clock.forward(1)
    heard.clear()
    await prune(store, older_than=0, limit=2)
    told = [pruning_of(event) for event in heard.events]
    assert [sum(each.of(None).values()) for each in told] == [2, 2, 1]
    assert [each.finished_before for each in told] == [wire_time(last), wire_time(last), wire_time(last + 1)]


async def test_those_that_ended_with_the_first_to_be_kept_are_kept_too(store: Store, clock: Clock) -> None:
    await end(store, name="first")
    clock.forward(1)
    for _ in range(4):
        await end(store, name="together")
    assert await prune(store, keep=2, limit=1) == 1
    assert await names(store) == ["together"] * 4


@pytest.mark.parametrize("at_once", [5, 10_000])
async def test_of_many_that_ended_together_all_go_that_are_too_many(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """More than a batch steps over to see where the time ends that they have in common."""
    monkeypatch.setattr(retention_writes, "EXCESS_AT_ONCE", at_once)
    for name in ("early", "later", "latest"):
        for _ in range(4):
            await end(store, name=name)
        clock.forward(1)
    assert await prune(store, keep=2, limit=1) == 8
    assert await names(store) == ["latest"] * 4


async def test_a_pruning_is_one_event_a_batch_and_says_whose_jobs_are_gone(
    store: Store, clock: Clock, heard: Heard
) -> None:
    for _ in range(2):
        await _ended_of(store, ANN, "default")
    await _ended_of(store, ANN, "x")
    await _ended_of(store, BEN, "x")
    last = clock.ms
    clock.forward(60)
    heard.clear()
    before = await head(store)
    assert await prune(store, older_than=1) == 4
    (event,) = heard.events
    assert (event.seq, event.kind, event.at, event.status_before, event.status) == (
        before + 1, "jobs_pruned", clock.ms, None, None,
    )  # fmt: skip
    assert (event.job_id, event.owner, event.name, event.queue, event.tags) == ("", "", "", "", ())
    pruning = pruning_of(event)
    assert pruning.finished_before == wire_time(last + 1)
    assert pruning.counts == {ANN: {"default": {"completed": 2}, "x": {"completed": 1}}, BEN: {"x": {"completed": 1}}}
    assert (pruning.of(None), pruning.of(BEN), pruning.of("eve")) == ({"completed": 4}, {"completed": 1}, {})
    assert (await all_events(store))[-1] == event


async def _ended_of(store: Store, owner: str, queue: str) -> None:
    await enqueue(store, new(queue=queue), owner=owner)
    one = await claim(store)
    await store.finish(one.job.id, one.run, Completed())


async def test_the_counters_follow_and_stay_right(store: Store, clock: Clock) -> None:
    for owner in (ANN, ANN, BEN):
        await _ended_of(store, owner, "x")
    clock.forward(1)
    await add(store, owner=BEN)
    await prune(store, older_than=0)
    assert (await store.stats(owner=None)).value.total == 1
    assert (await store.stats(owner=ANN)).value.total == 0
    await check_invariants(store)


async def test_an_empty_pruning_writes_nothing(store: Store) -> None:
    await end(store)
    before = await head(store)
    assert await store.retention.prune_jobs("completed", older_than=DAY, keep=10) == NOTHING
    assert await head(store) == before


async def test_how_many_would_go_is_counted_by_status(store: Store, clock: Clock) -> None:
    await end(store)
    await end(store, Failed("x", retry=False))
    clock.forward(10)
    await end(store)
    await add(store)
    clock.forward(1)
    every = ("completed", "failed", "cancelled")
    assert (await store.retention.ended_before(every, older_than=5)).value == {"completed": 1, "failed": 1}
    assert (await store.retention.ended_before(("completed",), older_than=0)).value == {"completed": 2}


async def test_an_idempotent_request_still_means_the_job_that_has_been_pruned(store: Store, clock: Clock) -> None:
    once = Idempotency("k", b"1")
    first = await store.enqueue([new()], owner=ANN, idempotency=once)
    one = await claim(store)
    await store.finish(one.job.id, one.run, Completed())
    clock.forward(1)
    assert await prune(store, older_than=0) == 1
    again = await store.enqueue([new()], owner=ANN, idempotency=once)
    assert (again.ids, again.replayed) == (first.ids, True)


# --- the rest ------------------------------------------------------------------------------------------------------


async def test_idempotency_keys_go_when_their_time_is_over(store: Store, clock: Clock) -> None:
    for n in range(3):
        await store.enqueue([new()], owner=ANN, idempotency=Idempotency(f"k{n}", b"1"))
    clock.forward(DAY - 1)
    assert await store.retention.tidy() == NOTHING
    with pytest.raises(IdempotencyMismatch):
        await store.enqueue([new()], owner=ANN, idempotency=Idempotency("k0", b"2"))
    clock.forward(2)
    assert await store.retention.tidy(limit=2) == Pruned(2, more=True)
    assert await store.retention.tidy(limit=2) == Pruned(1, more=False)


async def test_counters_at_zero_go_and_count_again(store: Store) -> None:
    for owner in (ANN, BEN):
        await enqueue(store, new(queue="x"), owner=owner)
    assert await store.retention.tidy() == NOTHING
    found = (await claims(store)).claims
    assert (await store.retention.tidy()).count == 2, "pending, of each"
    for one in found:
        await store.finish(one.job.id, one.run, Completed())
    assert (await store.retention.tidy()).count == 2, "running, of each"
    assert await store.retention.tidy() == NOTHING
    await enqueue(store, new(queue="x"))
    assert (await store.stats(owner=ANN)).value.pending == 1


async def test_ages_are_by_the_stores_clock(store: Store, clock: Clock) -> None:
    assert clock.ms == START_MS
    await end(store)
    clock.forward(-10 * DAY)
    assert await prune(store, older_than=0) == 0
