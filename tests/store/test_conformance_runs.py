"""Runs: fencing, how they end, what counts as an attempt, held runs, rescue."""

import math

import pytest
from store_kit import (
    ANN,
    START_MS,
    Clock,
    Heard,
    add,
    body,
    claim,
    claims,
    ended,
    enqueue,
    head,
    new,
    shown,
    started,
    status,
)

from jobctl.errors import IllegalTransition
from jobctl.store.base import Cancelled, Completed, Failed, LogEntry, Orphan, Outcome, Released, Store

EVERY_END = [Completed(b"1"), Failed("x"), Failed("x", retry=False), Cancelled(), Released()]
LINE = LogEntry(START_MS, "stdout", "text")


async def test_a_result_ends_the_job(store: Store, clock: Clock) -> None:
    one = await started(store)
    clock.forward(3)
    assert await store.finish(one.job.id, one.run, Completed(b'{"n":1}'))
    job = await shown(store, one.job.id)
    assert (job.status, job.attempts, bytes(job.result), job.error) == ("completed", 1, b'{"n":1}', None)
    assert (job.completed_at, job.version) == ("2026-09-21T14:13:23.000Z", 3)
    assert not (await claims(store)).claims


async def test_a_failed_run_is_tried_again_after_its_delay(store: Store, clock: Clock, heard: Heard) -> None:
    one = await started(store)
    heard.clear()
    await store.finish(one.job.id, one.run, Failed("no route", delay=2.5))
    assert heard.work
    job = await shown(store, one.job.id)
    assert (job.status, job.attempts, job.error, job.completed_at) == ("retrying", 1, "no route", None)
    assert job.scheduled_for == "2026-09-21T14:13:22.500Z"
    assert (await claims(store)).next_due == START_MS + 2500
    clock.forward(2.5)
    again = await claim(store)
    assert (again.job.id, again.run, again.job.error) == (one.job.id, 2, "no route")
    await store.finish(again.job.id, again.run, Completed())
    assert (await shown(store, one.job.id)).error is None


async def test_a_job_fails_when_its_attempts_are_used_up(store: Store) -> None:
    job_id = await add(store, max_attempts=3)
    for attempt in (1, 2, 3):
        one = await claim(store)
        await store.finish(job_id, one.run, Failed(f"no. {attempt}"))
        assert (await shown(store, job_id)).attempts == attempt
    job = await shown(store, job_id)
    assert (job.status, job.error, job.completed_at is not None) == ("failed", "no. 3", True)
    assert not (await claims(store)).claims


async def test_a_failure_for_good_is_not_tried_again(store: Store) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Failed("never", retry=False))
    assert await status(store, one.job.id) == "failed"


@pytest.mark.parametrize("delay", [math.inf, 1e300, math.nan, -5.0])
async def test_an_odd_delay_does_not_keep_a_run_from_ending(store: Store, delay: float) -> None:
    one = await started(store)
    assert await store.finish(one.job.id, one.run, Failed("x", delay=delay))
    assert await status(store, one.job.id) == "retrying"


async def test_a_run_given_back_does_not_count(store: Store) -> None:
    one = await started(store, max_attempts=1)
    await store.progress(one.job.id, one.run, 0.5, "half")
    await store.finish(one.job.id, one.run, Released())
    job = await shown(store, one.job.id)
    assert (job.status, job.attempts) == ("pending", 0)
    assert (job.started_at, job.processing_by, job.progress, job.scheduled_for) == (None, None, None, None)
    assert (await claim(store)).run == 2


async def test_a_run_cancelled_on_request_counts(store: Store) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Cancelled("stopped"))
    job = await shown(store, one.job.id)
    assert (job.status, job.attempts, job.error) == ("cancelled", 1, "stopped")


# --- a cancel that was acknowledged --------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Failed("x"), Failed("x", delay=5), Released()])
async def test_a_job_whose_cancel_was_acknowledged_does_not_run_once_more(store: Store, outcome: Outcome) -> None:
    one = await started(store)
    assert (await store.cancel(one.job.id, owner=ANN)).cancel_requested
    await store.finish(one.job.id, one.run, outcome)
    job = await shown(store, one.job.id)
    assert (job.status, job.attempts, job.completed_at is not None) == ("cancelled", 1, True)
    assert job.error is not None
    answer = await claims(store)
    assert (answer.claims, answer.next_due) == ((), None)


async def test_a_run_that_ends_by_itself_after_a_cancel_keeps_its_end(store: Store) -> None:
    for outcome, then in ((Completed(), "completed"), (Failed("x", retry=False), "failed")):
        one = await started(store)
        await store.cancel(one.job.id, owner=ANN)
        await store.finish(one.job.id, one.run, outcome)
        assert await status(store, one.job.id) == then


# --- fencing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", EVERY_END, ids=lambda each: f"{type(each).__name__}{getattr(each, 'retry', '')}")
async def test_a_stale_worker_cannot_change_a_job(store: Store, outcome: Outcome) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Failed("x"))
    second = await claim(store)
    before = await head(store), await shown(store, one.job.id)
    for run in (one.run, second.run + 1, 0, -1):
        assert not await store.finish(one.job.id, run, outcome)
        assert not await store.finish(one.job.id, run, outcome, held=True)
        assert not await store.progress(one.job.id, run, 0.5, None)
        assert not await store.append_logs(one.job.id, run, [LINE])
        assert not await store.record_process(one.job.id, run, 4711, 1)
        await store.release(one.job.id, run)
    assert (await head(store), await shown(store, one.job.id)) == before
    assert (await store.logs(one.job.id, owner=None)).value.last == 0
    assert await store.finish(one.job.id, second.run, outcome)


@pytest.mark.parametrize("outcome", EVERY_END, ids=lambda each: f"{type(each).__name__}{getattr(each, 'retry', '')}")
async def test_a_run_ends_once(store: Store, outcome: Outcome) -> None:
    one = await started(store)
    assert await store.finish(one.job.id, one.run, outcome)
    before = await head(store)
    assert not await store.finish(one.job.id, one.run, Completed())
    assert not await store.progress(one.job.id, one.run, 0.5, None)
    assert not await store.append_logs(one.job.id, one.run, [LINE])
    assert await head(store) == before


async def test_the_run_number_is_never_reset(store: Store) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Completed())
    await store.retry(one.job.id, owner=ANN)
    second = await claim(store)
    assert second.run == 2
    assert not await store.finish(one.job.id, one.run, Completed())


async def test_a_job_that_does_not_exist_has_no_runs(store: Store) -> None:
    assert not await store.finish("nobody", 1, Completed())
    assert not await store.progress("nobody", 1, 0.5, None)
    assert not await store.append_logs("nobody", 1, [LINE])
    await store.release("nobody", 1)


# --- progress ------------------------------------------------------------------------------------------------------


async def test_progress_is_an_update_like_any_other(store: Store, heard: Heard) -> None:
    one = await started(store)
    heard.clear()
    assert await store.progress(one.job.id, one.run, 0.25, "résumé")
    job = await shown(store, one.job.id)
    assert job.progress is not None
    assert (job.progress.value, job.progress.message, job.version) == (0.25, "résumé", 3)
    (event,) = heard.events
    assert (event.status_before, event.status) == ("running", "running")
    assert body(event)["progress"] == {"value": 0.25, "message": "résumé"}


async def test_a_new_run_begins_without_progress(store: Store) -> None:
    one = await started(store)
    await store.progress(one.job.id, one.run, 0.9, "nearly")
    await store.finish(one.job.id, one.run, Failed("x"))
    assert (await claim(store)).job.progress is None


# --- held runs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.0, 5.0])
async def test_a_held_job_is_not_claimed_before_its_run_has_ended(store: Store, clock: Clock, delay: float) -> None:
    one = await started(store)
    assert await store.finish(one.job.id, one.run, Failed("timed out", delay=delay), held=True)
    assert await status(store, one.job.id) == "retrying"
    clock.forward(60)
    answer = await claims(store)
    assert (answer.claims, answer.next_due) == ((), None)
    await store.release(one.job.id, one.run)
    assert (await claim(store)).run == 2


async def test_only_the_held_run_itself_frees_its_job(store: Store) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Failed("x"))
    second = await claim(store)
    await store.finish(one.job.id, second.run, Failed("timed out"), held=True)
    for run in (one.run, second.run + 1, 0):
        await store.release(one.job.id, run)
    assert not (await claims(store)).claims
    await store.release(one.job.id, second.run)
    assert (await claim(store)).run == 3


async def test_a_release_says_that_there_is_work(store: Store, heard: Heard) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Failed("timed out"), held=True)
    before = await shown(store, one.job.id)
    heard.clear()
    await store.release(one.job.id, one.run)
    assert heard.work
    assert not heard.events
    assert await shown(store, one.job.id) == before


async def test_a_release_does_not_cut_a_delay_short(store: Store, clock: Clock) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Failed("timed out", delay=30), held=True)
    await store.release(one.job.id, one.run)
    assert (await claims(store)).next_due == START_MS + 30_000
    clock.forward(30)
    assert (await claim(store)).run == 2


@pytest.mark.parametrize("outcome", [Failed("timed out", retry=False), Completed()])
async def test_a_held_job_retried_by_hand_waits_for_its_old_run(store: Store, outcome: Outcome) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, outcome, held=True)
    await store.retry(one.job.id, owner=ANN)
    assert not (await claims(store)).claims
    await store.release(one.job.id, one.run)
    assert (await claim(store)).run == 2


async def test_a_held_job_that_is_cancelled_and_retried_waits_too(store: Store) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Failed("timed out"), held=True)
    await store.cancel(one.job.id, owner=ANN)
    await store.retry(one.job.id, owner=ANN)
    assert not (await claims(store)).claims
    await store.release(one.job.id, one.run)
    assert (await claim(store)).run == 2


async def test_a_held_job_given_back_waits_too(store: Store) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Released(), held=True)
    assert not (await claims(store)).claims
    await store.release(one.job.id, one.run)
    assert (await claim(store)).run == 2


async def test_a_release_of_an_ended_job_does_not_bring_it_back(store: Store) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Failed("timed out", retry=False), held=True)
    await store.release(one.job.id, one.run)
    assert not (await claims(store)).claims


# --- rescue --------------------------------------------------------------------------------------------------------


async def test_a_crash_counts_as_an_attempt_and_the_job_runs_again(store: Store) -> None:
    one = await started(store)
    await store.progress(one.job.id, one.run, 0.5, None)
    rescued = await store.rescue()
    assert (rescued.jobs, rescued.orphans, rescued.unrecorded) == ((one.job.id,), (), {one.job.id: one.run})
    job = await shown(store, one.job.id)
    assert (job.status, job.attempts) == ("retrying", 1)
    assert job.error is not None
    assert not await store.finish(one.job.id, one.run, Completed())
    assert (await claim(store)).run == 2


async def test_a_job_that_takes_the_server_with_it_runs_no_more_than_its_attempts(store: Store) -> None:
    job_id = await add(store, max_attempts=2)
    for _ in range(2):
        await claim(store)
        await store.rescue()
    assert (await shown(store, job_id)).attempts == 2
    assert await status(store, job_id) == "failed"


@pytest.mark.parametrize("max_attempts", [1, 3])
async def test_a_rescued_job_that_was_to_be_cancelled_is_cancelled(store: Store, max_attempts: int) -> None:
    one = await started(store, max_attempts=max_attempts)
    await store.cancel(one.job.id, owner=ANN)
    await store.rescue()
    assert await status(store, one.job.id) == "cancelled"


async def test_a_rescue_leaves_everything_else_alone(store: Store) -> None:
    await ended(store)
    await enqueue(store, new(), new(scheduled_for=START_MS + 1000))
    before = await head(store)
    assert (await store.rescue()).jobs == ()
    assert await head(store) == before


async def test_a_rescue_tells_the_commands_that_were_running(store: Store) -> None:
    one = await started(store)
    assert await store.record_process(one.job.id, one.run, 4711, 99)
    gone = await started(store)
    await store.record_process(gone.job.id, gone.run, 4712, 100)
    await store.finish(gone.job.id, gone.run, Failed("x", delay=1))
    assert (await store.rescue()).orphans == (Orphan(one.job.id, one.run, 4711, 99),)
    assert (await store.rescue()).orphans == ()


async def test_a_command_that_did_not_stop_is_told_too(store: Store) -> None:
    one = await started(store)
    await store.record_process(one.job.id, one.run, 4711, 99)
    await store.finish(one.job.id, one.run, Failed("timed out", delay=1), held=True)
    assert (await store.rescue()).orphans == (Orphan(one.job.id, one.run, 4711, 99),)
    assert (await store.rescue()).orphans == ()


async def test_a_released_command_is_no_orphan(store: Store) -> None:
    one = await started(store)
    await store.record_process(one.job.id, one.run, 4711, 99)
    await store.finish(one.job.id, one.run, Failed("timed out", delay=1), held=True)
    await store.release(one.job.id, one.run)
    assert (await store.rescue()).orphans == ()


@pytest.mark.parametrize("hours", [2, -2, 0.001])
async def test_a_backoff_does_not_care_for_a_clock_that_is_set(store: Store, clock: Clock, hours: float) -> None:
    """It is a time to wait, kept as a time of day; a delayed job waits for the time of day that it was given."""
    one = await started(store)
    await store.finish(one.job.id, one.run, Failed("x", delay=30.0))
    later = await add(store, scheduled_for=clock.ms + 60_000)
    clock.forward(10)
    clock.forward(hours * 3600)
    assert await store.keep_backoffs(hours * 3600) == 1
    found = await claims(store)
    assert [claim.job.id for claim in found.claims] == ([later] if hours == 2 else [])
    clock.forward(19.9)
    assert (await claims(store)).claims == ()
    clock.forward(0.1)
    assert [claim.job.id for claim in (await claims(store)).claims] == [one.job.id]


async def test_a_backoff_that_was_over_before_the_clock_was_set_stays_over(store: Store, clock: Clock) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Failed("x", delay=30.0))
    clock.forward(60)
    clock.forward(7200)
    assert await store.keep_backoffs(7200) == 0
    assert len((await claims(store)).claims) == 1


async def test_what_a_rescue_will_find_can_be_looked_at_before(store: Store) -> None:
    """Whoever ends the commands first may die in the middle of it, and the next finds them again."""
    one, two = await started(store, name="one"), await started(store, name="two")
    await store.record_process(one.job.id, one.run, 4711, 99)
    for _ in range(2):
        left = await store.left_running()
        assert left.jobs == (one.job.id, two.job.id)
        assert left.orphans == (Orphan(one.job.id, one.run, 4711, 99),)
        assert left.unrecorded == {two.job.id: two.run}
    assert await store.rescue() == left
    assert (await store.left_running()).jobs == ()


async def test_a_rescue_frees_held_jobs(store: Store) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Failed("timed out"), held=True)
    assert (await store.rescue()).jobs == ()
    assert (await claim(store)).run == 2


async def test_a_restart_finds_what_ran_and_what_waited(open_store) -> None:  # type: ignore[no-untyped-def]
    async with open_store() as store:
        one = await started(store)
        waits = await add(store)
    async with open_store() as store:
        assert (await store.rescue()).jobs == (one.job.id,)
        assert {each.job.id for each in (await claims(store)).claims} == {one.job.id, waits}


async def test_an_illegal_end_is_no_end(store: Store) -> None:
    job_id = await add(store)
    assert not await store.finish(job_id, 0, Completed())
    with pytest.raises(IllegalTransition):
        await store.retry(job_id, owner=ANN)
