"""Enqueueing: all or nothing, unique keys, idempotency, queues."""

import msgspec
import pytest
from store_kit import ANN, BEN, START_MS, Clock, Heard, add, claim, ended, enqueue, head, listed, new, shown, status

from jobctl.errors import IdempotencyMismatch, StoreUnavailable, TooLarge
from jobctl.model import MAX_QUEUES
from jobctl.store.base import Completed, Idempotency, Store

KEY = Idempotency("k", b"digest")
DAY_S = 24 * 3600


async def test_a_new_job_is_shown_as_it_was_asked_for(store: Store, clock: Clock) -> None:
    wanted = new(
        "mail",
        data=b'{"to":"x"}',
        queue="post",
        priority=7,
        max_attempts=5,
        timeout=2.5,
        unique_key="u",
        tags=("a", "ü 1"),
        scheduled_for=START_MS + 1500,
    )
    done = await enqueue(store, wanted)
    job = await shown(store, done.ids[0])
    assert done.created == 1
    assert done.existing == 0
    assert not done.replayed
    assert done.job == job
    assert msgspec.json.decode(msgspec.json.encode(job)) == {
        "id": job.id,
        "name": "mail",
        "queue": "post",
        "data": {"to": "x"},
        "status": "pending",
        "priority": 7,
        "attempts": 0,
        "maxAttempts": 5,
        "error": None,
        "result": None,
        "progress": None,
        "createdAt": "2026-09-21T14:13:20.000Z",
        "startedAt": None,
        "completedAt": None,
        "scheduledFor": "2026-09-21T14:13:21.500Z",
        "processingBy": None,
        "createdBy": "ann",
        "uniqueKey": "u",
        "timeout": 2.5,
        "tags": ["a", "ü 1"],
        "version": 1,
        "cancelRequested": False,
    }


async def test_ids_are_uuid7_and_stand_in_the_order_asked_for(store: Store) -> None:
    done = await enqueue(store, *(new(f"n{i}") for i in range(50)))
    assert len(set(done.ids)) == done.created == 50
    assert all(job_id[14] == "7" and len(job_id) == 36 for job_id in done.ids)
    assert [(await shown(store, job_id)).name for job_id in done.ids[:3]] == ["n0", "n1", "n2"]
    assert done.job is None


async def test_an_empty_batch_is_nothing(store: Store) -> None:
    done = await enqueue(store)
    assert (done.ids, done.created, done.existing, done.job) == ((), 0, 0, None)


async def test_a_batch_that_cannot_be_made_whole_is_not_made_at_all(store: Store, heard: Heard) -> None:
    await enqueue(store, *(new(queue=f"q{i}") for i in range(MAX_QUEUES - 2)))
    heard.clear()
    before = await head(store)
    with pytest.raises(TooLarge) as caught:
        await enqueue(store, new(queue="one-more"), new(queue="too-many"))
    assert caught.value.field == "queue"
    assert await head(store) == before
    assert not heard.events
    assert not [change for commit in heard.commits for change in commit.queues]
    assert "one-more" not in (await store.stats(owner=None)).value.by_queue
    await enqueue(store, new(queue="one-more"))  # the place is still free
    with pytest.raises(TooLarge):
        await enqueue(store, new(queue="too-many"))
    await enqueue(store, new(queue="q0"))


async def test_a_new_queue_is_told(store: Store, heard: Heard) -> None:
    await enqueue(store, new(queue="post"), new(queue="post"))
    await enqueue(store, new(queue="post"))
    assert [(c.name, c.paused) for commit in heard.commits for c in commit.queues] == [("post", False)]


async def test_there_is_a_default_queue_from_the_start(store: Store) -> None:
    (queue,) = (await store.queues()).value
    assert (queue.name, queue.paused, queue.concurrency, queue.counts.total) == ("default", False, None, 0)


# --- unique keys ---------------------------------------------------------------------------------------------------


async def test_a_live_unique_key_gives_the_job_that_has_it(store: Store) -> None:
    first = await add(store, unique_key="k", queue="a")
    done = await enqueue(store, new("other", unique_key="k", queue="b"))
    assert (done.ids, done.created, done.existing) == ((first,), 0, 1)
    assert done.job == await shown(store, first)
    assert len(await listed(store)) == 1


async def test_a_unique_key_belongs_to_one_owner(store: Store) -> None:
    assert await add(store, unique_key="k") != await add(store, unique_key="k", owner=BEN)


async def test_a_unique_key_is_free_again_once_its_job_has_ended(store: Store) -> None:
    first = await ended(store, unique_key="k")
    second = await add(store, unique_key="k")
    assert second != first
    await store.cancel(second, owner=ANN)
    third = await add(store, unique_key="k")
    await store.delete(third, owner=ANN)
    assert await add(store, unique_key="k") not in (first, second, third)


async def test_a_running_job_holds_its_unique_key(store: Store) -> None:
    first = await add(store, unique_key="k")
    await claim(store)
    assert await add(store, unique_key="k") == first


async def test_a_unique_key_counts_inside_a_batch(store: Store) -> None:
    done = await enqueue(store, new("a", unique_key="k"), new("b"), new("c", unique_key="k"), new("d", unique_key="l"))
    assert done.ids[0] == done.ids[2]
    assert (done.created, done.existing) == (3, 1)
    assert [job.name for job in await listed(store)] == ["d", "b", "a"]


# --- idempotency ---------------------------------------------------------------------------------------------------


async def test_the_same_key_and_request_make_one_job(store: Store, heard: Heard) -> None:
    first = await store.enqueue([new()], owner=ANN, idempotency=KEY)
    again = await store.enqueue([new()], owner=ANN, idempotency=KEY)
    assert not first.replayed
    assert again.replayed
    assert (again.ids, again.created, again.existing) == (first.ids, 1, 0)
    assert len(heard.events) == 1


async def test_a_replay_shows_the_job_as_it_is_now(store: Store) -> None:
    first = await store.enqueue([new()], owner=ANN, idempotency=KEY)
    one = await claim(store)
    await store.finish(one.job.id, one.run, Completed(b"5"))
    again = await store.enqueue([new()], owner=ANN, idempotency=KEY)
    assert again.job == await shown(store, first.ids[0])


async def test_a_replay_after_the_job_was_deleted_is_answered_like_the_first_time(store: Store) -> None:
    first = await store.enqueue([new(data=b'{"x":[1,2]}')], owner=ANN, idempotency=KEY)
    await store.delete(first.ids[0], owner=ANN)
    again = await store.enqueue([new(data=b'{"x":[1,2]}')], owner=ANN, idempotency=KEY)
    assert again.replayed
    assert again.ids == first.ids
    assert msgspec.json.encode(again.job) == msgspec.json.encode(first.job)
    assert await listed(store) == []


async def test_a_batch_is_replayed_whole(store: Store) -> None:
    batch = [new(unique_key="k"), new(unique_key="k"), new()]
    first = await store.enqueue(batch, owner=ANN, idempotency=KEY)
    await store.delete(first.ids[2], owner=ANN)
    again = await store.enqueue(batch, owner=ANN, idempotency=KEY)
    assert (again.ids, again.created, again.existing, again.job) == (first.ids, 2, 1, None)


async def test_a_key_used_for_another_request_is_refused(store: Store) -> None:
    await store.enqueue([new()], owner=ANN, idempotency=KEY)
    with pytest.raises(IdempotencyMismatch):
        await store.enqueue([new("other")], owner=ANN, idempotency=Idempotency("k", b"another"))
    assert len(await listed(store)) == 1


async def test_a_key_belongs_to_one_owner(store: Store) -> None:
    first = await store.enqueue([new()], owner=ANN, idempotency=KEY)
    other = await store.enqueue([new()], owner=BEN, idempotency=Idempotency("k", b"another"))
    assert not other.replayed
    assert other.ids != first.ids


@pytest.mark.parametrize(("after_s", "replayed"), [(DAY_S - 0.001, True), (DAY_S, False)])
async def test_a_key_is_remembered_for_a_day(store: Store, clock: Clock, after_s: float, replayed: bool) -> None:
    await store.enqueue([new()], owner=ANN, idempotency=KEY)
    clock.forward(after_s)
    done = await store.enqueue([new()], owner=ANN, idempotency=KEY)
    assert done.replayed == replayed


async def test_a_key_that_was_used_up_stands_for_the_new_request(store: Store, clock: Clock) -> None:
    await store.enqueue([new()], owner=ANN, idempotency=KEY)
    clock.forward(DAY_S)
    other = Idempotency("k", b"another")
    second = await store.enqueue([new()], owner=ANN, idempotency=other)
    assert (await store.enqueue([new()], owner=ANN, idempotency=other)).ids == second.ids


async def test_a_failed_enqueue_leaves_its_key_unused(store: Store) -> None:
    await enqueue(store, *(new(queue=f"q{i}") for i in range(MAX_QUEUES - 1)))
    with pytest.raises(TooLarge):
        await store.enqueue([new(queue="x")], owner=ANN, idempotency=KEY)
    assert not (await store.enqueue([new()], owner=ANN, idempotency=KEY)).replayed


# --- sizes ---------------------------------------------------------------------------------------------------------


async def test_large_data_and_results_are_whole_only_where_one_job_is_asked_for(store: Store) -> None:
    data, result = b'{"x":"%s"}' % (b"d" * 4100), b'"%s"' % (b"r" * 4100)
    done = await enqueue(store, new(data=data))
    assert done.job is not None
    assert bytes(done.job.data) == data
    one = await claim(store)
    assert (one.data, one.job.data, one.job.omitted) == (data, None, ("data",))
    await store.finish(one.job.id, one.run, Completed(result))
    whole = await shown(store, one.job.id)
    assert (bytes(whole.data), bytes(whole.result), whole.omitted) == (data, result, msgspec.UNSET)
    (row,) = await listed(store)
    assert (row.data, row.result, row.omitted) == (None, None, ("data", "result"))
    last = (await store.history(one.job.id, owner=ANN)).value[-1]
    told = msgspec.json.decode(last.body)
    assert (told["data"], told["result"], told["omitted"]) == (None, None, ["data", "result"])


@pytest.mark.parametrize(("size", "omitted"), [(4096, msgspec.UNSET), (4097, ("data",))])
async def test_four_kib_is_the_most_that_a_list_shows(store: Store, size: int, omitted: object) -> None:
    await add(store, data=b'{"x":"%s"}' % (b"d" * (size - 8)))
    assert (await listed(store))[0].omitted == omitted


async def test_text_of_every_kind_comes_back_as_it_went_in(store: Store) -> None:
    odd = "naïve 'quote' \"double\" 100% _ \\ 漢字 🎉"
    job_id = await add(store, tags=(odd,), unique_key=odd, owner=odd)
    job = await shown(store, job_id, owner=odd)
    assert (job.tags, job.unique_key, job.created_by) == ((odd,), odd, odd)


async def test_what_cannot_be_stored_fails_alone(store: Store) -> None:
    with pytest.raises(Exception) as caught:
        await add(store, tags=("\ud800",))
    assert not isinstance(caught.value, StoreUnavailable)
    assert await status(store, await add(store)) == "pending"


async def test_a_job_without_an_owner_is_refused(store: Store) -> None:
    await add(store)
    with pytest.raises(ValueError, match="owner"):
        await add(store, owner="")
    assert (await store.stats(owner="")).value.total == 0
