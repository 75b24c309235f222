"""Leases on PostgreSQL: who is lost, who leads, what a rescue may take, and in which order things are seen."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import pytest
import trio
from store_kit import Heard, add, started, status
from test_conformance_workers import worker

from jobctl.errors import LeaseLost
from jobctl.store.base import Claims, Completed, Failed, Outcome, Released
from jobctl.store.postgres import PostgresStore, open_postgres
from jobctl.store.postgres_link import Link, connect
from jobctl.store.postgres_settings import PostgresOptions
from jobctl.store.postgres_workers import PostgresWorkers
from jobctl.store.workers import SHOWN_S, Beat

LEASE_S = 120.0


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    async with opened(postgres_url) as store:
        yield store


def opened(url: str) -> contextlib.AbstractAsyncContextManager[PostgresStore]:
    return open_postgres(url, options=PostgresOptions(lease=LEASE_S))


def sql(store: PostgresStore, text: str) -> None:
    """As if time had passed, or somebody else had done something."""
    with psycopg.connect(store.url, autocommit=True) as connection:
        connection.execute(text)  # type: ignore[arg-type]


def expire(store: PostgresStore, name: str, seconds: float = LEASE_S + 1) -> None:
    """So long ago its last heartbeat was."""
    moved = f"seen_at = seen_at - {seconds * 1000:.0f}, expires_at = expires_at - {seconds * 1000:.0f}"
    sql(store, f"UPDATE worker SET {moved} WHERE id = '{name}'")
    sql(store, f"UPDATE leader SET expires_at = 0 WHERE worker = '{name}'")


async def claim(store: PostgresStore, name: str, slots: int = 1) -> Claims:
    return await store.claim(slots, worker=name, limits={}, busy={})


async def states(store: PostgresStore) -> dict[str, str]:
    return {each.id: each.state for each in await store.workers.all()}


# --- leases --------------------------------------------------------------------------------------------------------


async def test_a_lease_that_has_ended_is_not_renewed(store: PostgresStore) -> None:
    await store.workers.join(worker("a"))
    expire(store, "a")
    beat = await store.workers.beat("a", running=1, lead=True)
    assert (beat.alive, beat.leader) == (False, False)
    assert await states(store) == {"a": "lost"}


async def test_a_heartbeat_that_is_missing_is_shown_before_the_lease_has_ended(store: PostgresStore) -> None:
    await store.workers.join(worker("a"))
    expire(store, "a", 30)
    assert await states(store) == {"a": "late"}
    assert (await store.workers.beat("a", running=0, lead=True)).alive
    assert await states(store) == {"a": "live"}


async def test_one_that_was_lost_is_shown_for_ten_minutes_and_forgotten_by_the_next_that_joins(
    store: PostgresStore
) -> None:
    await store.workers.join(worker("a"))
    await store.workers.join(worker("b"))
    expire(store, "a", SHOWN_S - 60)
    expire(store, "b", SHOWN_S + 60)
    sql(store, "UPDATE worker SET expires_at = 0")
    await store.workers.join(worker("c"))
    assert await states(store) == {"a": "lost", "c": "live"}
    with psycopg.connect(store.url) as connection:
        assert connection.execute("SELECT id FROM worker ORDER BY id").fetchall() == [("a",), ("c",)]


async def test_whose_lease_has_ended_claims_nothing(store: PostgresStore) -> None:
    await store.workers.join(worker("a"))
    job_id = await add(store)
    expire(store, "a")
    with pytest.raises(LeaseLost):
        await claim(store, "a")
    assert await status(store, job_id) == "pending"
    await store.workers.join(worker("b"))
    assert [each.job.processing_by for each in (await claim(store, "b")).claims] == ["b"]


# --- rescue --------------------------------------------------------------------------------------------------------


async def test_a_rescue_takes_the_runs_of_those_that_were_lost_and_no_other(postgres_url: str) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as two:
        ids = [await add(one) for _ in range(3)]
        await one.workers.join(worker("a"))
        await two.workers.join(worker("b"))
        await claim(one, "a")
        await claim(two, "b")
        assert (await two.left_running()).jobs == (await two.rescue()).jobs == ()
        expire(two, "a")
        assert (await two.left_running()).jobs == (ids[0],)
        assert (await two.rescue()).jobs == (ids[0],)
        assert [await status(two, each) for each in ids] == ["retrying", "running", "pending"]
        assert (await two.rescue()).jobs == ()


async def test_a_rescue_takes_the_runs_of_those_that_have_left(store: PostgresStore) -> None:
    await store.workers.join(worker("a"))
    job_id = await add(store)
    await claim(store, "a")
    await store.workers.leave("a")
    assert (await store.rescue()).jobs == (job_id,)


@pytest.mark.parametrize(
    ("outcome", "by_hand"),
    [(Released(), False), (Failed("timed out"), False), (Failed("timed out", retry=False), True), (Completed(), True)],
)
async def test_a_held_job_waits_for_as_long_as_its_process_lives_and_no_longer(
    postgres_url: str, outcome: Outcome, by_hand: bool
) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as two:
        await one.workers.join(worker("a"))
        await two.workers.join(worker("b"))
        job_id = await add(one)
        (claimed,) = (await claim(one, "a")).claims
        await one.finish(job_id, claimed.run, outcome, held=True)
        if by_hand:
            await two.retry(job_id, owner=None)
        assert (await two.left_running()).held == ()
        await two.rescue()
        assert not (await claim(two, "b")).claims
        expire(two, "a")
        assert (await two.left_running()).held == (job_id,)
        heard = Heard(two)
        await two.rescue()
        assert heard.work
        assert [each.job.id for each in (await claim(two, "b")).claims] == [job_id]


async def test_the_end_of_a_run_that_was_rescued_changes_nothing(postgres_url: str) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as two:
        await one.workers.join(worker("a"))
        job_id = await add(one, max_attempts=3)
        (stale,) = (await claim(one, "a")).claims
        expire(two, "a")
        await two.rescue()
        await two.workers.join(worker("b"))
        (fresh,) = (await claim(two, "b")).claims
        assert not await one.finish(job_id, stale.run, Completed(b"1"))
        assert not await one.progress(job_id, stale.run, 0.5, None)
        job = (await two.job(job_id, owner=None)).value
        assert (job.status, job.processing_by, job.result) == ("running", "b", None)
        assert await two.finish(job_id, fresh.run, Completed(b"2"))


async def test_a_heartbeat_that_waits_for_a_rescue_comes_too_late(store: PostgresStore) -> None:
    """Its lease stood when it was sent; the rescue, which was first, has ended it."""
    await store.workers.join(worker("a"))
    beats: list[Beat] = []

    async def beat() -> None:
        beats.append(await store.workers.beat("a", running=0, lead=True))

    await overtaken(store, "UPDATE worker SET expires_at = 0 WHERE id = 'a'", beat)
    assert (beats[0].alive, beats[0].leader) == (False, False)


async def test_a_rescue_that_waits_for_a_heartbeat_leaves_its_runs_alone(store: PostgresStore) -> None:
    await store.workers.join(worker("a"))
    job_id = await add(store)
    await claim(store, "a")
    expire(store, "a")
    await overtaken(store, "UPDATE worker SET expires_at = expires_at * 2 WHERE id = 'a'", store.rescue)
    assert await status(store, job_id) == "running"


async def overtaken(store: PostgresStore, change: str, what: Callable[[], Awaitable[object]]) -> None:
    """Do ``what`` so that it waits for a change of somebody else's, which is then committed."""
    with psycopg.connect(store.url) as connection:
        connection.execute(change)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(what)
            await waits(store)
            connection.commit()


async def waits(store: PostgresStore) -> None:
    """Somebody waits for a lock."""
    with psycopg.connect(store.url, autocommit=True) as connection, trio.fail_after(20):
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while not (row := connection.execute(query).fetchone()) or row[0] == 0:
            await trio.sleep(0.01)


# --- the lead ------------------------------------------------------------------------------------------------------


async def lead(store: PostgresStore, name: str) -> bool:
    return (await store.workers.beat(name, running=0, lead=True)).leader


async def test_one_leads_and_another_takes_over_when_it_is_not_heard_any_more(postgres_url: str) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as two:
        await one.workers.join(worker("a"))
        await two.workers.join(worker("b"))
        assert [await lead(one, "a"), await lead(two, "b"), await lead(one, "a")] == [True, False, True]
        assert [each.leader for each in await two.workers.all()] == [True, False]
        sql(one, "UPDATE leader SET expires_at = 0")  # its term has run out
        assert [await lead(two, "b"), await lead(one, "a")] == [True, False]


async def test_who_leaves_gives_the_lead_up_at_once(postgres_url: str) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as two:
        await one.workers.join(worker("a"))
        await two.workers.join(worker("b"))
        assert await lead(one, "a")
        await one.workers.leave("a")
        assert await lead(two, "b")


async def test_who_does_not_want_to_lead_does_not(store: PostgresStore) -> None:
    await store.workers.join(worker("a"))
    assert not (await store.workers.beat("a", running=0, lead=False)).leader


async def test_of_many_that_ask_at_once_one_leads(postgres_url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(postgres_url)) for _ in range(6)]
        for n, store in enumerate(stores):
            await store.workers.join(worker(str(n)))
        for _ in range(5):
            sql(stores[0], "UPDATE leader SET expires_at = 0")
            leaders: list[bool] = []

            async def ask(store: PostgresStore, name: str, leaders: list[bool] = leaders) -> None:
                leaders.append(await lead(store, name))

            async with trio.open_nursery() as nursery:
                for n, store in enumerate(stores):
                    nursery.start_soon(ask, store, str(n))
            assert sum(leaders) == 1


async def test_heartbeats_go_through_while_the_queue_waits_for_a_lock(store: PostgresStore) -> None:
    await store.workers.join(worker("a"))
    one = await started(store)
    with psycopg.connect(store.url) as connection:
        connection.execute("UPDATE job SET error = error")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.finish, one.job.id, one.run, Completed(b"1"))
            await waits(store)
            with trio.fail_after(5):
                assert (await store.workers.beat("a", running=1, lead=True)).alive
            connection.rollback()


async def test_a_connection_that_is_made_when_all_is_over_is_closed(postgres_url: str) -> None:
    """A heartbeat on its way is left alone when the server stops."""
    begun, over = threading.Event(), threading.Event()
    made: list[Link] = []

    def slow(name: str) -> Link:
        begun.set()
        over.wait(10)
        made.append(connect(postgres_url, PostgresOptions(), name))
        return made[0]

    workers = PostgresWorkers(slow, lambda: None, LEASE_S, joined=lambda _: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(workers.leave, "host:1")
        await trio.to_thread.run_sync(begun.wait)
        nursery.cancel_scope.cancel()
    workers.close()
    over.set()
    try:
        with trio.fail_after(10):
            while not (made and made[0].broken):
                await trio.sleep(0.005)
    finally:
        for link in made:
            link.close()
