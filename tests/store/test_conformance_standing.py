"""Standing by: jobs that start in the transaction that makes them ready."""

from contextlib import AbstractContextManager, nullcontext

import pytest
import trio
import trio.testing
from store_kit import Clock, Heard, add, claims, ended, enqueue, new, shown, status

from jobctl.store.base import Claims, Completed, Store
from jobctl.store.postgres import PostgresStore


class Standing:
    """A runner that stands by, in a task of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.scope = trio.CancelScope()
        self.answer: Claims | None = None
        self.over = trio.Event()

    async def run(
        self, slots: int = 10, limits: dict[str, int] | None = None, busy: dict[str, int] | None = None,
        due: int | None = None,
    ) -> None:  # fmt: skip
        with self.scope:
            self.answer = await self._store.claim_next(
                slots, worker="host:1", limits=limits or {}, busy=busy or {}, due=due
            )
        self.over.set()

    async def ids(self) -> list[str]:
        with trio.fail_after(10):
            await self.over.wait()
        assert self.answer is not None
        return [one.job.id for one in self.answer.claims]


@pytest.fixture
async def standing(store: Store) -> Standing:
    return Standing(store)


def unwatched(store: Store) -> AbstractContextManager[object]:
    """Where others share the database, its log is not read meanwhile: what is read there tells of no claim."""
    return store.watch._lock if isinstance(store, PostgresStore) else nullcontext()


async def test_a_job_is_enqueued_and_started_in_one_commit(
    store: Store, heard: Heard, standing: Standing, nursery: trio.Nursery
) -> None:
    nursery.start_soon(standing.run)
    await trio.testing.wait_all_tasks_blocked()
    with unwatched(store):
        told = (await enqueue(store, new(data=b'{"n":1}'))).job
    assert told is not None
    assert told.status == "pending", "whoever enqueues it hears how that went, and nothing of what came after"
    assert await standing.ids() == [told.id]
    assert standing.answer is not None
    assert (standing.answer.claims[0].run, standing.answer.claims[0].data) == (1, b'{"n":1}')
    assert [[event.status for event in commit.events] for commit in heard.commits] == [["pending", "running"]]
    assert [(commit.work, commit.looked) for commit in heard.commits] == [(True, True)]
    assert (await shown(store, told.id)).processing_by == "host:1"
    assert await store.finish(told.id, 1, Completed())


async def test_no_more_are_started_than_there_are_slots_and_more_is_said(
    store: Store, standing: Standing, nursery: trio.Nursery
) -> None:
    nursery.start_soon(standing.run, 2)
    await trio.testing.wait_all_tasks_blocked()
    done = await enqueue(store, *(new() for _ in range(3)))
    assert await standing.ids() == list(done.ids[:2])
    assert standing.answer is not None
    assert standing.answer.more
    assert await status(store, done.ids[2]) == "pending"


async def test_a_queue_at_its_limit_is_left_alone(
    store: Store, heard: Heard, standing: Standing, nursery: trio.Nursery
) -> None:
    nursery.start_soon(standing.run, 10, {"narrow": 2}, {"narrow": 1})
    await trio.testing.wait_all_tasks_blocked()
    done = await enqueue(store, *(new(queue="narrow") for _ in range(3)))
    assert await standing.ids() == [done.ids[0]]


async def test_what_is_nothing_for_it_leaves_it_standing(
    store: Store, heard: Heard, standing: Standing, nursery: trio.Nursery
) -> None:
    await store.make_queues(["later"])
    await store.set_paused("later", paused=True)
    heard.clear()
    nursery.start_soon(standing.run)
    await trio.testing.wait_all_tasks_blocked()
    waiting = await add(store, queue="later")
    await trio.testing.wait_all_tasks_blocked()
    assert not standing.over.is_set()
    assert [commit.looked for commit in heard.commits if commit.work] == [True], "nobody need look again"
    await store.set_paused("later", paused=False)
    assert await standing.ids() == [waiting]


async def test_it_is_told_of_a_job_that_falls_due_before_the_one_that_it_waits_for(
    store: Store, clock: Clock, standing: Standing, nursery: trio.Nursery
) -> None:
    nursery.start_soon(standing.run, 10, None, None, clock() + 5_000)
    await trio.testing.wait_all_tasks_blocked()
    await add(store, scheduled_for=clock() + 9_000)
    await trio.testing.wait_all_tasks_blocked()
    assert not standing.over.is_set()
    await add(store, scheduled_for=clock() + 2_000)
    assert await standing.ids() == []
    assert standing.answer is not None
    assert standing.answer.next_due == clock() + 2_000


async def test_an_explicit_retry_starts_at_once_too(store: Store, standing: Standing, nursery: trio.Nursery) -> None:
    job_id = await ended(store)
    nursery.start_soon(standing.run)
    await trio.testing.wait_all_tasks_blocked()
    await store.retry(job_id, owner=None)
    assert await standing.ids() == [job_id]
    assert standing.answer is not None
    assert standing.answer.claims[0].run == 2


async def test_who_was_called_off_claims_nothing(
    store: Store, heard: Heard, standing: Standing, nursery: trio.Nursery
) -> None:
    nursery.start_soon(standing.run)
    await trio.testing.wait_all_tasks_blocked()
    standing.scope.cancel()
    await standing.over.wait()
    job_id = await add(store)
    assert standing.answer is None
    assert await status(store, job_id) == "pending"
    assert [commit.looked for commit in heard.commits] == [False]
    assert [one.job.id for one in (await claims(store)).claims] == [job_id]
