"""How a store forgets events and lines of logs; jobs are in ``test_conformance_retention``."""

import pytest
from store_kit import (
    Clock,
    Heard,
    add,
    all_events,
    claim,
    ended,
    enqueue,
    head,
    new,
    prune,
    started,
)

from jobctl.store.base import Completed, Failed, LogEntry, Store
from jobctl.store.retention import Pruned

DAY = 86400.0
NOTHING = Pruned(0, more=False)


async def write(store: Store, job_id: str, run: int, n: int, *, at: int) -> None:
    await store.append_logs(job_id, run, [LogEntry(at, "log", f"line {i}") for i in range(n)])


async def numbers(store: Store, job_id: str) -> list[int]:
    return [line.n for line in (await store.logs(job_id, owner=None, limit=10_000)).value.lines]


# --- events --------------------------------------------------------------------------------------------------------


async def test_events_go_from_the_start_of_the_log_only(store: Store, clock: Clock) -> None:
    await enqueue(store, *(new() for _ in range(3)))
    clock.forward(DAY)
    await enqueue(store, *(new() for _ in range(2)))
    clock.forward(1)
    assert await store.retention.prune_events(older_than=DAY) == Pruned(3, more=False)
    page = await store.events(0, limit=10)
    assert ([event.seq for event in page.events], page.start, page.head) == ([4, 5], 4, 5)
    assert await store.retention.prune_events(older_than=DAY) == NOTHING


async def test_an_old_event_behind_a_younger_one_waits_for_it(store: Store, clock: Clock) -> None:
    """The clock was set back: the log must not get a gap for it."""
    await add(store)
    clock.forward(-DAY)
    await add(store)
    clock.forward(DAY + 3600)
    assert await store.retention.prune_events(older_than=2 * 3600) == NOTHING
    assert [event.seq for event in await all_events(store)] == [1, 2]


async def test_no_more_events_than_may_be_are_kept(store: Store) -> None:
    await enqueue(store, *(new() for _ in range(10)))
    assert await store.retention.prune_events(keep=6, limit=3) == Pruned(3, more=True)
    assert await store.retention.prune_events(keep=6, limit=3) == Pruned(1, more=False)
    assert [event.seq for event in await all_events(store)] == list(range(5, 11))


async def test_a_commit_tells_where_the_log_begins_since_it_was_cut(store: Store, heard: Heard) -> None:
    await enqueue(store, *(new() for _ in range(4)))
    await store.retention.prune_events(keep=3)
    await store.retention.prune_events(keep=0)
    await store.retention.prune_events(keep=0)
    assert [commit.log_start for commit in heard.commits if commit.log_start is not None] == [2, 5]




async def test_numbers_go_on_after_all_events_are_gone(open_store, clock: Clock) -> None:  # type: ignore[no-untyped-def]
    async with open_store() as store:
        await enqueue(store, new(), new())
        clock.forward(1)
        assert (await store.retention.prune_events(older_than=0)).count == 2
        page = await store.events(0, limit=10)
        assert (page.events, page.start, page.head) == ((), 3, 2)
        epoch = store.epoch
    async with open_store() as store:
        assert (store.epoch, await head(store)) == (epoch, 2)
        await add(store)
        assert [event.seq for event in await all_events(store)] == [3]


async def test_a_history_begins_where_the_log_does(store: Store, clock: Clock) -> None:
    one = await started(store)
    clock.forward(DAY)
    await store.finish(one.job.id, one.run, Completed())
    await store.retention.prune_events(older_than=60)
    assert [event.status for event in (await store.history(one.job.id, owner=None)).value] == ["completed"]
    clock.forward(DAY)
    await store.retention.prune_events(older_than=60)
    assert (await store.history(one.job.id, owner=None)).value == ()


# --- logs ----------------------------------------------------------------------------------------------------------


async def test_old_logs_of_ended_jobs_go_but_for_their_last_line(store: Store, clock: Clock) -> None:
    old = await started(store)
    await write(store, old.job.id, old.run, 5, at=clock.ms)
    await store.finish(old.job.id, old.run, Completed())
    clock.forward(DAY)
    young = await started(store)
    await write(store, young.job.id, young.run, 3, at=clock.ms)
    await store.finish(young.job.id, young.run, Failed("x", retry=False))
    clock.forward(1)
    assert await store.retention.prune_logs(older_than=DAY) == Pruned(4, more=False)
    assert (await numbers(store, old.job.id), await numbers(store, young.job.id)) == ([5], [1, 2, 3])
    assert await store.retention.prune_logs(older_than=DAY) == NOTHING
    assert await store.retention.prune_logs(older_than=0) == Pruned(2, more=False)


async def test_lines_go_on_counting_when_a_job_runs_again(store: Store, clock: Clock) -> None:
    """Who follows the log by number would else miss the new lines."""
    one = await started(store)
    await write(store, one.job.id, one.run, 5, at=clock.ms)
    await store.finish(one.job.id, one.run, Completed())
    clock.forward(DAY)
    await store.retention.prune_logs(older_than=0)
    await store.retry(one.job.id, owner=None)
    again = await claim(store)
    await write(store, again.job.id, again.run, 2, at=clock.ms)
    assert await numbers(store, one.job.id) == [5, 6, 7]


async def test_a_long_log_is_cut_batch_by_batch(store: Store, clock: Clock) -> None:
    one = await started(store)
    await write(store, one.job.id, one.run, 25, at=clock.ms)
    await store.finish(one.job.id, one.run, Completed())
    await ended(store)
    clock.forward(1)
    batches = []
    while not batches or batches[-1].more:
        batches.append(await store.retention.prune_logs(older_than=0, limit=10))
    assert [each.count for each in batches] == [10, 10, 4]
    assert await numbers(store, one.job.id) == [25]


async def test_a_job_that_runs_for_weeks_keeps_its_young_lines(store: Store, clock: Clock) -> None:
    one = await started(store)
    await write(store, one.job.id, one.run, 3, at=clock.ms)
    clock.forward(10 * DAY)
    await write(store, one.job.id, one.run, 2, at=clock.ms)
    assert await store.retention.prune_logs(older_than=DAY) == Pruned(3, more=False)
    assert await numbers(store, one.job.id) == [4, 5]
    clock.forward(10 * DAY)
    await store.retention.prune_logs(older_than=DAY)
    assert await numbers(store, one.job.id) == [5]


async def test_a_job_that_ends_later_is_found_though_others_were_looked_at(store: Store, clock: Clock) -> None:
    first, second = await started(store), await started(store)
    for one in (first, second):
        await write(store, one.job.id, one.run, 3, at=clock.ms)
        await store.finish(one.job.id, one.run, Completed())
        clock.forward(60)
        await store.retention.prune_logs(older_than=0)
        assert await numbers(store, one.job.id) == [3]


async def test_the_log_of_a_pruned_job_goes_with_it_in_batches(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobctl.store.retention_writes.LINES", 10)
    one = await started(store)
    await write(store, one.job.id, one.run, 25, at=clock.ms)
    await store.finish(one.job.id, one.run, Completed())
    clock.forward(1)
    assert await store.retention.prune_jobs("completed", older_than=0) == Pruned(0, more=True)
    assert len(await numbers(store, one.job.id)) == 15
    assert await prune(store, older_than=0) == 1
    await add(store)  # it may take the place of the old one
    assert await numbers(store, (await claim(store)).job.id) == []
