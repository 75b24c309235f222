"""What people do to jobs: cancel, retry, delete; and that nobody reaches another's."""

from collections.abc import Awaitable, Callable

import pytest
from store_kit import (
    ANN,
    BEN,
    START_MS,
    Clock,
    Heard,
    add,
    claim,
    claims,
    ended,
    enqueue,
    head,
    listed,
    new,
    shown,
    started,
    status,
)

from jobctl.errors import IllegalTransition, NotFound, UniqueKeyLive
from jobctl.model import JobQuery
from jobctl.store.base import Cancelled, Completed, Failed, LogEntry, Store

STATES = ("pending", "delayed", "running", "retrying", "completed", "failed", "cancelled")
ENDED = ("completed", "failed", "cancelled")


async def in_state(store: Store, state: str, **fields: object) -> str:
    if state == "delayed":
        return await add(store, scheduled_for=START_MS + 60_000, **fields)
    if state == "pending":
        return await add(store, **fields)
    one = await started(store, **fields)
    ends = {
        "retrying": Failed("x", delay=60),
        "completed": Completed(b"1"),
        "failed": Failed("x", retry=False),
        "cancelled": Cancelled("x"),
    }
    if state in ends:
        await store.finish(one.job.id, one.run, ends[state])
    return one.job.id


# --- cancel --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["pending", "delayed", "retrying"])
async def test_a_waiting_job_is_cancelled_at_once(store: Store, clock: Clock, heard: Heard, state: str) -> None:
    job_id = await in_state(store, state)
    heard.clear()
    told = await store.cancel(job_id, owner=ANN)
    assert (told.status, told.completed_at is not None) == ("cancelled", True)
    assert told == await shown(store, job_id)
    assert heard.cancels == []
    clock.forward(3600)
    answer = await claims(store)
    assert (answer.claims, answer.next_due) == ((), None)


async def test_a_running_job_is_asked_to_stop(store: Store, heard: Heard) -> None:
    one = await started(store)
    heard.clear()
    told = await store.cancel(one.job.id, owner=ANN)
    assert (told.status, told.cancel_requested) == ("running", True)
    assert heard.cancels == [one.job.id]
    assert [(event.status_before, event.status) for event in heard.events] == [("running", "running")]


async def test_asking_twice_is_told_twice_but_changes_the_job_once(store: Store, heard: Heard) -> None:
    one = await started(store)
    first = await store.cancel(one.job.id, owner=ANN)
    assert await store.cancel(one.job.id, owner=ANN) == first
    assert heard.cancels == [one.job.id, one.job.id]


@pytest.mark.parametrize("state", ENDED)
async def test_an_ended_job_cannot_be_cancelled(store: Store, state: str) -> None:
    job_id = await in_state(store, state)
    before = await head(store)
    with pytest.raises(IllegalTransition, match=f"cannot cancel a job that is {state}"):
        await store.cancel(job_id, owner=ANN)
    assert await head(store) == before


# --- retry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ENDED)
async def test_an_ended_job_retried_by_hand_begins_anew(store: Store, heard: Heard, state: str) -> None:
    job_id = await in_state(store, state, max_attempts=1)
    heard.clear()
    told = await store.retry(job_id, owner=ANN)
    assert told == await shown(store, job_id)
    assert (told.status, told.attempts, told.cancel_requested) == ("pending", 0, False)
    assert [told.error, told.result, told.progress, told.scheduled_for] == [None] * 4
    assert [told.started_at, told.completed_at, told.processing_by] == [None] * 3
    assert heard.work
    one = await claim(store)
    assert (one.job.id, one.run) == (job_id, 2)
    await store.finish(job_id, one.run, Failed("x"))
    assert await status(store, job_id) == "failed"


@pytest.mark.parametrize("state", ["pending", "delayed", "running", "retrying"])
async def test_a_live_job_cannot_be_retried(store: Store, state: str) -> None:
    job_id = await in_state(store, state)
    shows = "pending" if state == "delayed" else state
    with pytest.raises(IllegalTransition, match=f"cannot retry a job that is {shows}"):
        await store.retry(job_id, owner=ANN)


async def test_a_retried_job_takes_its_old_place(store: Store) -> None:
    first = await ended(store)
    await add(store, name="young")
    await store.retry(first, owner=ANN)
    assert (await claims(store, 1)).claims[0].job.id == first


async def test_a_retry_is_refused_while_the_unique_key_is_live_elsewhere(store: Store) -> None:
    first = await ended(store, unique_key="k")
    second = await add(store, unique_key="k")
    before = await head(store)
    with pytest.raises(UniqueKeyLive, match=second):
        await store.retry(first, owner=ANN)
    assert await head(store) == before
    await store.cancel(second, owner=ANN)
    assert (await store.retry(first, owner=ANN)).status == "pending"


async def test_the_same_unique_key_of_somebody_else_does_not_hinder_a_retry(store: Store) -> None:
    first = await ended(store, unique_key="k")
    await add(store, unique_key="k", owner=BEN)
    await store.retry(first, owner=ANN)


# --- delete --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [state for state in STATES if state != "running"])
async def test_a_job_that_does_not_run_can_be_deleted(store: Store, clock: Clock, heard: Heard, state: str) -> None:
    job_id = await in_state(store, state)
    last = await shown(store, job_id)
    heard.clear()
    await store.delete(job_id, owner=ANN)
    (event,) = heard.events
    assert (event.kind, event.job_id, event.owner) == ("job_deleted", job_id, ANN)
    assert (event.status_before, event.status) == (last.status, None)
    assert event.body == b'{"id":"%s"}' % job_id.encode()
    clock.forward(3600)
    answer = await claims(store)
    assert (answer.claims, answer.next_due) == ((), None)
    with pytest.raises(NotFound):
        await store.job(job_id, owner=ANN)


async def test_a_running_job_cannot_be_deleted(store: Store) -> None:
    job_id = await in_state(store, "running")
    with pytest.raises(IllegalTransition, match="cannot delete a job that is running"):
        await store.delete(job_id, owner=ANN)


async def test_a_deleted_jobs_log_does_not_turn_up_in_another(store: Store) -> None:
    one = await started(store)
    await store.append_logs(one.job.id, one.run, [LogEntry(START_MS, "log", "secret")])
    await store.finish(one.job.id, one.run, Completed())
    await store.delete(one.job.id, owner=ANN)
    other = await add(store, owner=BEN)
    assert (await store.logs(other, owner=BEN)).value.lines == ()
    assert len((await store.history(other, owner=BEN)).value) == 1


async def test_an_event_of_a_deleted_job_still_says_whose_it_was(store: Store) -> None:
    job_id = await add(store, name="mail", queue="post", tags=("a", "b"), owner=BEN)
    await store.delete(job_id, owner=BEN)
    for event in (await store.events(0, limit=10)).events:
        assert (event.owner, event.name, event.queue, event.tags) == (BEN, "mail", "post", ("a", "b"))


# --- owners --------------------------------------------------------------------------------------------------------

Ask = Callable[[Store, str], Awaitable[object]]
ASKED: dict[str, Ask] = {
    "job": lambda store, job_id: store.job(job_id, owner=BEN),
    "logs": lambda store, job_id: store.logs(job_id, owner=BEN),
    "history": lambda store, job_id: store.history(job_id, owner=BEN),
    "cancel": lambda store, job_id: store.cancel(job_id, owner=BEN),
    "retry": lambda store, job_id: store.retry(job_id, owner=BEN),
    "delete": lambda store, job_id: store.delete(job_id, owner=BEN),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("state", STATES)
async def test_somebody_elses_job_is_exactly_like_one_that_is_not_there(store: Store, asked: str, state: str) -> None:
    job_id = await in_state(store, state)
    before = await head(store)
    answers = []
    for each in (job_id, "01990000-0000-7000-8000-000000000000", "", "'", "ü" * 5000):
        with pytest.raises(NotFound) as caught:
            await ASKED[asked](store, each)
        answers.append((type(caught.value), str(caught.value), caught.value.code, caught.value.__cause__))
    assert len(set(answers)) == 1
    assert await head(store) == before


async def test_an_admin_reaches_everybodys_jobs(store: Store) -> None:
    job_id = await add(store)
    await store.cancel(job_id, owner=None)
    await store.retry(job_id, owner=None)
    await store.delete(job_id, owner=None)


async def test_lists_and_counts_show_a_user_only_what_is_his(store: Store) -> None:
    await enqueue(store, new("a", queue="x"), new("b", queue="y"))
    await enqueue(store, new("c", queue="y"), owner=BEN)
    await store.set_paused("y", True)
    assert [job.name for job in await listed(store, owner=BEN)] == ["c"]
    assert await listed(store, owner=BEN, created_by=ANN) == []
    assert [job.name for job in await listed(store, owner=BEN, created_by=BEN)] == ["c"]
    assert [job.name for job in await listed(store, created_by=BEN)] == ["c"]
    stats = (await store.stats(owner=BEN)).value
    assert (stats.total, stats.pending) == (1, 1)
    assert {name: (queue.total, queue.paused) for name, queue in stats.by_queue.items()} == {"y": (1, True)}
    assert (await store.stats(owner="nobody")).value.by_queue == {}
    assert (await store.stats(owner=None)).value.by_queue.keys() == {"default", "x", "y"}


async def test_a_cursor_of_one_owner_shows_another_nothing(store: Store) -> None:
    await enqueue(store, *(new() for _ in range(3)))
    page = (await store.jobs(JobQuery(owner=ANN, limit=1))).value
    with pytest.raises(Exception, match="cursor"):
        await store.jobs(JobQuery(owner=BEN, limit=1, cursor=page.cursor))
