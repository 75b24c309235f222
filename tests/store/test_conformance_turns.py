"""Turns: runs that end and jobs that start in one transaction."""

from collections.abc import Sequence

import pytest
from store_kit import Clock, Heard, add, claim, claims, shown, started, status

from jobctl.model import Progress
from jobctl.store import writes
from jobctl.store.base import Cancelled, Claims, Completed, End, Failed, Released, Store
from jobctl.store.transaction import Tx


async def turn(store: Store, slots: int, ends: Sequence[End]) -> Claims:
    return await store.claim(slots, worker="host:1", limits={}, busy={}, ends=ends)


async def test_ends_and_starts_are_one_commit_in_this_order(store: Store, heard: Heard) -> None:
    ids = [await add(store) for _ in range(4)]
    running = (await claims(store, 2)).claims
    heard.clear()
    answer = await turn(store, 2, [End(one.job.id, one.run, Completed(b"1")) for one in running])
    assert [one.job.id for one in answer.claims] == ids[2:]
    assert [len(commit.events) for commit in heard.commits if commit.events] == [4]
    assert [(event.job_id, event.status) for event in heard.events] == [
        *((job_id, "completed") for job_id in ids[:2]),
        *((job_id, "running") for job_id in ids[2:]),
    ]


async def test_every_way_to_end_can_be_in_one_turn(store: Store) -> None:
    outcomes = [Completed(b"[1]"), Failed("x", retry=False), Failed("x", delay=60), Cancelled("c"), Released()]
    for _ in outcomes:
        await add(store)
    running = (await claims(store, len(outcomes))).claims
    ends = [End(one.job.id, one.run, outcome) for one, outcome in zip(running, outcomes, strict=True)]
    await turn(store, 0, ends)
    jobs = [await shown(store, one.job.id) for one in running]
    assert [job.status for job in jobs] == ["completed", "failed", "retrying", "cancelled", "pending"]
    assert [job.attempts for job in jobs] == [1, 1, 1, 1, 0]
    assert bytes(jobs[0].result) == b"[1]"


async def test_what_a_run_tells_in_the_transaction_that_completes_it_is_kept(store: Store) -> None:
    one, other = await started(store), await started(store)

    def tell_and_end(tx: Tx) -> None:
        writes.progress(tx, one.job.id, one.run, 0.5, "half")
        writes.finish(tx, *(End(each.job.id, each.run, Completed(b"1")) for each in (one, other)))

    await store.committer.submit(tell_and_end)  # type: ignore[attr-defined]
    job = await shown(store, one.job.id)
    assert (job.status, job.progress, job.version) == ("completed", Progress(0.5, "half"), 4)
    assert (await shown(store, other.job.id)).version == 3


async def test_completing_a_run_leaves_nothing_of_the_attempt_before(store: Store, clock: Clock) -> None:
    one = await started(store)
    assert await store.finish(one.job.id, one.run, Failed("first", delay=60))
    clock.forward(61)
    again = await claim(store)
    assert await store.record_process(again.job.id, again.run, 7, 8)
    await turn(store, 0, [End(again.job.id, again.run, Completed(b"[2]"))])
    job = await shown(store, one.job.id)
    assert (job.status, job.attempts, job.error, bytes(job.result)) == ("completed", 2, None, b"[2]")
    assert job.completed_at is not None
    assert (await store.retry(one.job.id, owner=None)).attempts == 0
    assert (await claim(store)).run == 3
    assert (await store.rescue()).orphans == ()


async def test_a_job_that_is_to_be_tried_again_at_once_can_start_in_the_turn_that_ends_it(store: Store) -> None:
    one = await started(store)
    answer = await turn(store, 1, [End(one.job.id, one.run, Failed("x"))])
    assert [(again.job.id, again.run, again.job.error) for again in answer.claims] == [(one.job.id, 2, "x")]
    assert await store.finish(one.job.id, 2, Completed())


async def test_a_stale_end_changes_nothing_and_the_others_count(store: Store) -> None:
    one, other = await started(store), await started(store)
    gone = await started(store)
    await store.finish(gone.job.id, gone.run, Completed())
    await store.delete(gone.job.id, owner=None)
    await turn(
        store,
        0,
        [
            End(one.job.id, one.run + 1, Completed()),
            End(gone.job.id, gone.run, Completed()),
            End(other.job.id, other.run, Completed()),
        ],
    )
    assert (await status(store, one.job.id), await status(store, other.job.id)) == ("running", "completed")


async def test_a_run_that_ends_twice_in_one_turn_ends_once(store: Store, heard: Heard) -> None:
    one = await started(store)
    heard.clear()
    await turn(store, 0, [End(one.job.id, one.run, Completed(b"1")), End(one.job.id, one.run, Failed("late"))])
    assert [event.status for event in heard.events] == ["completed"]
    assert (await shown(store, one.job.id)).version == 3


async def test_a_turn_without_slots_starts_nothing(store: Store) -> None:
    waiting = await add(store)
    assert await turn(store, 0, []) == Claims(claims=(), next_due=None, more=False)
    assert await status(store, waiting) == "pending"


async def test_a_held_run_of_a_turn_keeps_its_job_from_starting(store: Store) -> None:
    one = await started(store)
    assert not (await turn(store, 1, [End(one.job.id, one.run, Failed("x"), held=True)])).claims
    assert not (await claims(store)).claims
    await store.release(one.job.id, one.run)
    assert (await claim(store)).job.id == one.job.id


async def test_when_one_end_cannot_be_written_the_turn_leaves_nothing(store: Store, heard: Heard) -> None:
    one, other = await started(store), await started(store)
    waiting = await add(store)
    heard.clear()
    ends = [End(one.job.id, one.run, Completed(b"1")), End(other.job.id, other.run, Failed("\ud800", retry=False))]
    with pytest.raises(UnicodeEncodeError):
        await turn(store, 5, ends)
    assert heard.events == []
    assert [await status(store, each) for each in (one.job.id, other.job.id, waiting)] == [
        "running", "running", "pending",
    ]  # fmt: skip
    await turn(store, 0, ends[:1])
    job = await shown(store, one.job.id)
    assert (job.status, job.attempts, job.version) == ("completed", 1, 3)
    assert [event.seq for event in heard.events] == [6]


async def test_a_run_whose_end_could_not_be_written_runs(store: Store) -> None:
    one = await started(store)
    with pytest.raises(UnicodeEncodeError):
        await store.finish(one.job.id, one.run, Failed("\ud800", retry=False))
    assert await store.finish(one.job.id, one.run, Completed())
    assert (await shown(store, one.job.id)).version == 3


async def test_what_a_run_reported_and_was_asked_stands_when_it_ends(store: Store) -> None:
    one = await started(store)
    await store.progress(one.job.id, one.run, 0.5, "half")
    await store.cancel(one.job.id, owner=None)
    await turn(store, 0, [End(one.job.id, one.run, Failed("x"))])
    job = await shown(store, one.job.id)
    assert (job.status, job.version, job.cancel_requested) == ("cancelled", 5, True)
    assert job.progress is not None
    assert job.progress.value == 0.5


async def test_claims_say_how_long_their_jobs_were_ready(store: Store, clock: Clock) -> None:
    await add(store)
    clock.forward(2.5)
    one = await claim(store)
    assert one.waited == 2.5
    await store.finish(one.job.id, one.run, Failed("x", delay=10))
    clock.forward(11)
    again = await claim(store)
    assert again.waited == 1.0
    await store.finish(again.job.id, again.run, Completed())
    await store.retry(one.job.id, owner=None)
    clock.forward(5)
    assert (await claim(store)).waited is None
