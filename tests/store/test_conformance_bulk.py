"""Acting on all that a query matches."""

import pytest
from store_kit import ANN, BEN, Heard, add, claim, ended, enqueue, new, shown, started

from jobctl.errors import IllegalTransition, InvalidCursor
from jobctl.model import JobQuery
from jobctl.store import bulk, writes
from jobctl.store.base import Failed, Store, can
from jobctl.store.transaction import Tx


async def test_a_retry_that_is_refused_leaves_the_job_as_it_was_for_the_next_of_its_transaction(store: Store) -> None:
    one = await started(store, unique_key="k")
    await store.finish(one.job.id, one.run, Failed("x", retry=False))
    await add(store, unique_key="k")

    def retry_and_cancel(tx: Tx) -> None:
        assert bulk.act(tx, "retry", [one.job.id], None, ()).skipped == 1
        with pytest.raises(IllegalTransition):
            writes.cancel(tx, one.job.id, None)

    await store.committer.submit(retry_and_cancel)  # type: ignore[attr-defined]
    assert (await shown(store, one.job.id)).status == "failed"


async def every_status(store: Store) -> dict[str, str]:
    """A job in each status, by its status."""
    ids = {"failed": await add(store, max_attempts=1)}
    one = await claim(store)
    await store.finish(one.job.id, one.run, Failed("x"))
    ids["completed"] = await ended(store)
    ids["retrying"] = await add(store)
    one = await claim(store)
    await store.finish(one.job.id, one.run, Failed("x", delay=60))
    ids["cancelled"] = await add(store)
    await store.cancel(ids["cancelled"], owner=None)
    ids["running"] = (await started(store)).job.id
    ids["pending"] = await add(store)
    return ids


@pytest.mark.parametrize(
    ("action", "acted", "after"),
    [
        ("retry", {"failed", "completed", "cancelled"}, "pending"),
        ("cancel", {"pending", "running", "retrying"}, "cancelled"),
        ("delete", {"failed", "completed", "cancelled", "pending", "retrying"}, None),
    ],
)
async def test_each_status_allows_what_it_allows_one_by_one(
    store: Store, heard: Heard, action: bulk.BulkAction, acted: set[str], after: str | None
) -> None:
    ids = await every_status(store)
    assert {status for status in ids if can(action, status)} == acted
    heard.clear()
    done = await store.act(action, list(ids.values()), owner=None, statuses=())
    assert (done.changed, done.skipped) == (len(acted), 6 - len(acted))
    assert {event.job_id for event in heard.events} == {ids[status] for status in acted}
    assert {job_id: str(error) for job_id, error in done.refused.items()} == {
        job_id: f"cannot {action} a job that is {status}" for status, job_id in ids.items() if status not in acted
    }
    left = (await store.matching(JobQuery(limit=100))).value.jobs
    for status, job_id in ids.items():
        if status not in acted:
            assert left[job_id] == status
        elif after is None:
            assert job_id not in left
        elif status == "running":
            assert heard.cancels == [job_id]
            assert (await shown(store, job_id)).cancel_requested
        else:
            assert left[job_id] == after


async def test_a_job_whose_status_has_changed_since_it_was_read_is_left_alone(store: Store) -> None:
    job_id = await add(store)
    read = (await store.matching(JobQuery(statuses=("pending",)))).value
    assert dict(read.jobs) == {job_id: "pending"}
    await claim(store)
    done = await store.act("cancel", list(read.jobs), owner=None, statuses=("pending",))
    assert (done.changed, done.skipped) == (0, 1)
    assert not (await shown(store, job_id)).cancel_requested


async def test_what_belongs_to_somebody_else_or_is_gone_is_skipped(store: Store) -> None:
    mine, theirs = await add(store), await add(store, owner=BEN)
    gone = "01890000-0000-7000-8000-000000000000"
    done = await store.act("delete", [theirs, gone, mine], owner=ANN, statuses=())
    assert (done.changed, done.skipped) == (1, 2)
    assert list(done.refused) == [theirs, gone]
    assert {str(error) for error in done.refused.values()} == {"there is no such job"}
    assert dict((await store.matching(JobQuery())).value.jobs) == {theirs: "pending"}


async def test_a_job_whose_unique_key_is_live_elsewhere_is_skipped_and_the_others_are_retried(store: Store) -> None:
    old = await ended(store, unique_key="k")
    await add(store, unique_key="k")
    other = await ended(store, priority=1)
    done = await store.act("retry", [old, other], owner=None, statuses=())
    assert (done.changed, done.skipped) == (1, 1)
    assert {job_id: error.code for job_id, error in done.refused.items()} == {old: "unique_key_live"}
    assert (await shown(store, old)).status == "completed"
    assert (await shown(store, other)).status == "pending"


async def test_a_running_job_is_asked_to_stop_once(store: Store, heard: Heard) -> None:
    one = await started(store)
    for changed in (1, 0):
        assert (await store.act("cancel", [one.job.id], owner=None, statuses=())).changed == changed
    assert heard.cancels == [one.job.id]


async def test_a_transaction_acts_only_as_long_as_it_may_but_on_one_job_at_least(
    store: Store, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BUDGET_S", 0.0)
    ids = (await enqueue(store, *[new() for _ in range(3)])).ids
    heard.clear()
    for n in range(3):
        done = await store.act("cancel", ids[n:], owner=None, statuses=())
        assert (done.changed, done.skipped) == (1, 0)
    assert [len(commit.events) for commit in heard.commits if commit.events] == [1, 1, 1]


async def test_pages_of_ids_are_those_of_the_list(store: Store) -> None:
    ids = (await enqueue(store, *[new(queue="q") for _ in range(5)], new(queue="r"))).ids
    found: list[str] = []
    query = JobQuery(queues=("q",), limit=2)
    cursor = None
    while True:
        page = (await store.matching(JobQuery(queues=("q",), limit=2, cursor=cursor))).value
        assert len(page.jobs) <= 2
        found += page.jobs
        cursor = page.cursor
        if cursor is None:
            break
    assert found == list(reversed(ids[:5]))
    assert (await store.jobs(query)).value.cursor == (await store.matching(query)).value.cursor
    with pytest.raises(InvalidCursor):
        await store.matching(JobQuery(queues=("r",), cursor=(await store.matching(query)).value.cursor))


async def test_the_tally_counts_what_matches_by_status(store: Store) -> None:
    await every_status(store)
    await enqueue(store, new(queue="q"), owner=BEN)
    assert dict((await store.tally(JobQuery())).value) == {
        "cancelled": 1, "completed": 1, "failed": 1, "pending": 2, "retrying": 1, "running": 1,
    }  # fmt: skip
    assert dict((await store.tally(JobQuery(owner=BEN, limit=1))).value) == {"pending": 1}
    assert dict((await store.tally(JobQuery(statuses=("failed", "pending"), queues=("default",)))).value) == {
        "failed": 1, "pending": 1,
    }  # fmt: skip
    assert dict((await store.tally(JobQuery(names=("nothing",)))).value) == {}
