"""Claiming: order, delays, queues, limits, names that nobody here can run."""

import pytest
from store_kit import ANN, BEN, START_MS, Clock, Heard, add, claim, claims, enqueue, head, new, shown, started, status

from jobctl.errors import NotFound, TooLarge
from jobctl.store.base import Completed, Failed, Store


async def order(store: Store, slots: int = 10) -> list[str]:
    return [one.job.name for one in (await claims(store, slots)).claims]


async def test_a_claim_starts_a_run(store: Store, clock: Clock, heard: Heard) -> None:
    job_id = await add(store, data=b'{"x":1}')
    clock.forward(2)
    answer = await claims(store)
    (one,) = answer.claims
    assert (one.run, one.data) == (1, b'{"x":1}')
    assert one.job == await shown(store, job_id)
    assert (one.job.status, one.job.processing_by, one.job.started_at) == (
        "running",
        "host:1",
        "2026-09-21T14:13:22.000Z",
    )
    assert (one.job.attempts, one.job.version) == (0, 2)
    assert (answer.next_due, answer.more) == (None, False)
    assert [(event.status_before, event.status) for event in heard.events] == [
        (None, "pending"),
        ("pending", "running"),
    ]


async def test_a_claimed_job_is_not_claimed_again(store: Store) -> None:
    await started(store)
    assert not (await claims(store)).claims


async def test_higher_priority_runs_first_then_older(store: Store, clock: Clock) -> None:
    await enqueue(store, new("low", priority=-1), new("old"), new("urgent", priority=5))
    clock.forward(1)
    await enqueue(store, new("young"), new("also-urgent", priority=5))
    assert await order(store) == ["urgent", "also-urgent", "old", "young", "low"]


async def test_no_more_jobs_are_claimed_than_there_are_slots(store: Store) -> None:
    await enqueue(store, *(new(f"n{i}") for i in range(5)))
    first = await claims(store, 3)
    assert [one.job.name for one in first.claims] == ["n0", "n1", "n2"]
    assert first.more
    second = await claims(store, 3)
    assert [one.job.name for one in second.claims] == ["n3", "n4"]
    assert not second.more


# --- time ----------------------------------------------------------------------------------------------------------


async def test_a_delayed_job_is_not_claimed_before_its_time(store: Store, clock: Clock) -> None:
    await add(store, scheduled_for=START_MS + 5000)
    answer = await claims(store)
    assert (answer.claims, answer.next_due, answer.more) == ((), START_MS + 5000, False)
    clock.forward(4.999)
    assert not (await claims(store)).claims
    clock.forward(0.001)
    answer = await claims(store)
    assert len(answer.claims) == 1
    assert answer.next_due is None


async def test_next_due_is_the_earliest(store: Store, clock: Clock) -> None:
    await enqueue(store, *(new(scheduled_for=START_MS + 1000 * n) for n in (30, 10, 20)))
    assert (await claims(store)).next_due == START_MS + 10_000
    clock.forward(10)
    assert (await claims(store)).next_due == START_MS + 20_000


async def test_a_time_that_has_passed_is_now(store: Store) -> None:
    await add(store, scheduled_for=START_MS)
    await add(store, scheduled_for=1)
    assert len((await claims(store)).claims) == 2


async def test_a_job_that_fell_due_stands_by_priority_and_age(store: Store, clock: Clock) -> None:
    await enqueue(store, new("old", scheduled_for=START_MS + 1), new("young"), new("urgent", priority=1))
    clock.forward(1)
    assert await order(store) == ["urgent", "old", "young"]


async def test_many_that_fall_due_at_once_are_all_claimed(store: Store, clock: Clock) -> None:
    await enqueue(store, *(new(scheduled_for=START_MS + 1) for _ in range(1200)))
    clock.forward(1)
    seen = 0
    for _ in range(10):
        answer = await claims(store, 1000)
        seen += len(answer.claims)
        if not answer.more:
            break
    assert seen == 1200


async def test_a_clock_that_is_set_back_loses_no_job(store: Store, clock: Clock) -> None:
    await add(store, scheduled_for=START_MS + 1000)
    one = await started(store)
    clock.forward(-3600)
    await store.finish(one.job.id, one.run, Failed("x", delay=1))
    assert not (await claims(store)).claims
    clock.forward(1)
    assert (await claim(store)).job.id == one.job.id
    clock.forward(3600)
    assert len((await claims(store)).claims) == 1


@pytest.mark.parametrize("delay", [None, 1000])
async def test_what_makes_work_is_told(store: Store, heard: Heard, delay: int | None) -> None:
    await add(store, scheduled_for=delay and START_MS + delay)
    assert heard.work
    heard.clear()
    await claims(store)
    assert not heard.work


# --- queues --------------------------------------------------------------------------------------------------------


async def test_a_paused_queue_gives_nothing_until_it_is_resumed(store: Store, heard: Heard) -> None:
    await enqueue(store, new("a", queue="post"), new("b"))
    paused = await store.set_paused("post", True)
    assert (paused.name, paused.paused, paused.counts.pending) == ("post", True, 1)
    answer = await claims(store)
    assert [one.job.name for one in answer.claims] == ["b"]
    assert not answer.more
    heard.clear()
    assert not (await store.set_paused("post", False)).paused
    assert heard.work
    assert await order(store) == ["a"]


async def test_a_pause_is_told_and_shown_once(store: Store, heard: Heard) -> None:
    await add(store, queue="post")
    heard.clear()
    for paused in (True, True, False, False):
        assert (await store.set_paused("post", paused)).paused == paused
        assert (await store.stats(owner=None)).value.by_queue["post"].paused == paused
        assert (await store.counters()).value.queues == {"default": False, "post": paused}
    assert [(c.name, c.paused) for commit in heard.commits for c in commit.queues] == [("post", True), ("post", False)]
    assert not heard.events


async def test_a_queue_that_does_not_exist_cannot_be_paused(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.set_paused("nowhere", True)


async def test_a_queue_can_be_made_before_its_first_job(store: Store, heard: Heard) -> None:
    assert await store.make_queues(("post", "default", "fax")) == ("post", "fax")
    assert [(each.name, each.paused) for commit in heard.commits for each in commit.queues] == [
        ("post", False), ("fax", False),
    ]  # fmt: skip
    assert (await store.set_paused("post", True)).paused
    assert await store.make_queues(("post",)) == ()
    assert [(each.name, each.paused) for each in (await store.queues()).value] == [
        ("default", False), ("fax", False), ("post", True),
    ]  # fmt: skip
    job = await add(store, queue="post")
    assert (await claims(store)).claims == ()
    await store.set_paused("post", False)
    assert [each.job.id for each in (await claims(store)).claims] == [job]


async def test_more_queues_than_there_may_be_are_not_made(store: Store) -> None:
    with pytest.raises(TooLarge):
        await store.make_queues([f"q{n}" for n in range(1000)])
    assert [each.name for each in (await store.queues()).value] == ["default"]
    assert len(await store.make_queues([f"q{n}" for n in range(999)])) == 999


async def test_a_delayed_job_of_a_paused_queue_waits_for_both(store: Store, clock: Clock) -> None:
    await add(store, queue="post", scheduled_for=START_MS + 1000)
    await store.set_paused("post", True)
    clock.forward(2)
    assert not (await claims(store)).claims
    await store.set_paused("post", False)
    assert len((await claims(store)).claims) == 1


async def test_a_pause_outlives_a_restart(open_store) -> None:  # type: ignore[no-untyped-def]
    async with open_store() as store:
        await add(store, queue="post")
        await store.set_paused("post", True)
    async with open_store() as store:
        assert not (await claims(store)).claims
        assert (await store.queues()).value[1].paused


async def test_a_limited_queue_runs_no_more_than_its_limit(store: Store) -> None:
    await enqueue(store, *(new("a", queue="post") for _ in range(5)), *(new("b") for _ in range(5)))
    first = await claims(store, 8, limits={"post": 2})
    assert sorted(one.job.name for one in first.claims) == ["a", "a", "b", "b", "b", "b", "b"]
    assert not (await claims(store, 8, limits={"post": 2}, busy={"post": 2, "default": 5})).claims
    assert await claim_names(store, limits={"post": 2}, busy={"post": 1}) == ["a"]


async def claim_names(store: Store, **arguments: object) -> list[str]:
    return [one.job.name for one in (await claims(store, **arguments)).claims]  # type: ignore[arg-type]


async def test_more_runs_than_the_limit_allows_claim_nothing(store: Store) -> None:
    await add(store, queue="post")
    assert not (await claims(store, limits={"post": 1}, busy={"post": 3})).claims


async def test_a_queue_without_a_limit_takes_every_free_slot_however_busy_it_is(store: Store) -> None:
    await enqueue(store, *(new() for _ in range(10)))
    assert len((await claims(store, 4, busy={"default": 6})).claims) == 4


async def test_a_queue_at_its_limit_does_not_ask_for_another_claim(store: Store) -> None:
    await enqueue(store, *(new(queue="post") for _ in range(3)))
    answer = await claims(store, limits={"post": 2})
    assert len(answer.claims) == 2
    assert not answer.more
    assert len((await claims(store, limits={"post": 2}, busy={"post": 1})).claims) == 1


async def test_slots_are_shared_out_over_queues_however_long_they_are(store: Store) -> None:
    await enqueue(store, *(new("a", queue="long") for _ in range(100)))
    await enqueue(store, new("b", queue="short"), new("b", queue="short"), new("c", queue="other"))
    assert sorted(await order(store, 6)) == ["a", "a", "a", "b", "b", "c"]


async def test_queues_take_turns_when_there_is_one_slot(store: Store) -> None:
    await enqueue(store, *(new(q, queue=q) for q in ("a", "b", "c") for _ in range(10)))
    turns = [(await claim(store)).job.name for _ in range(9)]
    assert sorted(turns[:3]) == sorted(turns[3:6]) == sorted(turns[6:]) == ["a", "b", "c"]


async def test_a_high_priority_in_one_queue_does_not_starve_another(store: Store) -> None:
    await enqueue(store, *(new("a", queue="a", priority=9) for _ in range(10)), new("b", queue="b"))
    assert sorted(await order(store, 2)) == ["a", "b"]


async def test_slots_that_a_short_queue_leaves_go_to_the_others(store: Store) -> None:
    await enqueue(store, *(new("a", queue="a") for _ in range(20)), new("b", queue="b"))
    assert sorted(await order(store, 10)) == ["a"] * 9 + ["b"]


# --- names ---------------------------------------------------------------------------------------------------------


async def test_jobs_that_nobody_can_run_wait_without_being_in_the_way(store: Store, heard: Heard) -> None:
    await enqueue(store, new("old", priority=9))
    await store.set_known(frozenset({"mail"}))
    await enqueue(store, new("strange", priority=9), new("mail"))
    assert await order(store) == ["mail"]
    assert await order(store) == []
    heard.clear()
    await store.set_known(frozenset({"mail", "strange"}))
    assert heard.work
    assert await order(store) == ["strange"]
    await store.set_known(None)
    assert await order(store) == ["old"]


async def test_waiting_for_a_handler_changes_nothing_that_is_seen(store: Store) -> None:
    job_id = await add(store, name="strange")
    before = await head(store), await shown(store, job_id)
    await store.set_known(frozenset())
    await store.set_known(None)
    assert (await head(store), await shown(store, job_id)) == before


async def test_a_delayed_job_that_nobody_can_run_waits_beyond_its_time(store: Store, clock: Clock) -> None:
    await store.set_known(frozenset({"mail"}))
    await add(store, name="strange", scheduled_for=START_MS + 1000)
    clock.forward(2)
    assert (await claims(store)).claims == ()
    assert (await claims(store)).next_due is None
    await store.set_known(frozenset({"strange"}))
    assert await order(store) == ["strange"]


async def test_becoming_known_does_not_make_a_delayed_job_early(store: Store, clock: Clock) -> None:
    await store.set_known(frozenset())
    await add(store, scheduled_for=START_MS + 1000)
    await store.set_known(None)
    assert await order(store) == []
    clock.forward(1)
    assert await order(store) == ["mail"]


async def test_a_retried_job_that_nobody_can_run_any_more_waits(store: Store) -> None:
    one = await started(store)
    await store.set_known(frozenset())
    await store.finish(one.job.id, one.run, Failed("x"))
    assert await order(store) == []
    await store.set_known(None)
    assert await order(store) == ["mail"]


async def test_becoming_known_frees_no_held_job(store: Store) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Failed("x"), held=True)
    await store.set_known(frozenset())
    await store.set_known(None)
    assert await order(store) == []


async def test_an_ended_job_is_not_claimed_because_its_name_became_known(store: Store) -> None:
    one = await started(store)
    await store.finish(one.job.id, one.run, Completed())
    cancelled = await add(store, owner=BEN)
    await store.cancel(cancelled, owner=BEN)
    await store.set_known(frozenset())
    await store.set_known(None)
    assert await order(store) == []
    assert await status(store, cancelled) == "cancelled"
    assert await names_of(store) == {ANN, BEN}


async def names_of(store: Store) -> set[str]:
    return {owner for owner, _, _ in (await store.counters()).value.counts}
