"""The PostgreSQL store: what processes that share a database do not do twice."""
# ruff: noqa: F811  (fixtures are imported by name)

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
import trio
from store_kit import ANN, add, claim, claims, enqueue, listed, new
from two_processes_kit import POOLED, WITH_NOTIFY, WITHOUT_NOTIFY, Two, two, until  # noqa: F401

from jobctl.errors import IdempotencyMismatch, UniqueKeyLive
from jobctl.store import postgres_claims
from jobctl.store.base import Claim, Completed, Idempotency, LogEntry
from jobctl.store.postgres import PostgresStore, open_postgres
from jobctl.store.postgres_link import SQL


async def test_no_job_is_claimed_by_two(two: Two) -> None:
    await enqueue(two[0], *(new(name="ab"[i % 2], queue=f"q{i % 3}", priority=i % 4) for i in range(300)))
    taken: list[str] = []

    async def take(store: PostgresStore) -> None:
        while found := (await claims(store, 7)).claims:
            taken.extend(one.job.id for one in found)

    async with trio.open_nursery() as nursery:
        for store in two:
            for _ in range(3):
                nursery.start_soon(take, store)
    assert len(taken) == len(set(taken)) == 300


async def test_a_claim_passes_by_what_another_holds(two: Two, postgres_url: str) -> None:
    ids = [await add(two[0]) for _ in range(3)]
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT 1 FROM job WHERE id = %s FOR UPDATE", (ids[0],))
        with trio.fail_after(20):
            assert [one.job.id for one in (await claims(two[1], 2)).claims] == ids[1:]
            found = await claims(two[0], 2)
            assert (found.claims, found.more) == ((), True)
        other.rollback()
    assert (await claim(two[1])).job.id == ids[0]


async def test_a_claim_leaves_what_another_has_claimed_since_it_began(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees the database as it was when it began, and locks what it has chosen a moment later."""
    async with (
        open_postgres(postgres_url, options=WITHOUT_NOTIFY) as slow,
        open_postgres(postgres_url, options=WITHOUT_NOTIFY) as quick,
    ):
        await add(quick)
        paused = SQL["claim"].replace(
            "FROM share, LATERAL (",
            "FROM (SELECT share.* FROM share, (SELECT pg_sleep(0.5)) AS pause OFFSET 0) AS share, LATERAL (",
        )
        assert paused != SQL["claim"]
        found: list[Any] = []

        async def late() -> None:
            found.append(await claims(slow))

        with monkeypatch.context() as patch:
            patch.setattr(postgres_claims, "SQL", {**SQL, "claim": paused})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(late)
                await trio.sleep(0.1)
                patch.undo()
                assert len((await claims(quick)).claims) == 1
        assert found[0].claims == ()


STALE: dict[str, Callable[[PostgresStore, Claim], Awaitable[bool]]] = {
    "progress": lambda store, one: store.progress(one.job.id, one.run, 0.5, None),
    "log": lambda store, one: store.append_logs(one.job.id, one.run, [LogEntry(1, "log", "x")]),
    "process": lambda store, one: store.record_process(one.job.id, one.run, 1, 1),
    "finish": lambda store, one: store.finish(one.job.id, one.run, Completed()),
}


@pytest.mark.parametrize("what", STALE)
async def test_a_run_that_was_taken_over_can_do_nothing_more(two: Two, what: str) -> None:
    """The one that claimed it remembers the row, and must find out that it is another's now."""
    await add(two[0], max_attempts=5)
    one = await claim(two[0])
    assert (await two[1].rescue()).jobs == (one.job.id,)
    again = await claim(two[1])
    assert (again.job.id, again.run) == (one.job.id, 2)
    before = (await two[1].job(one.job.id, owner=None)).value
    assert not await STALE[what](two[0], one)
    assert (await two[1].job(one.job.id, owner=None)).value == before
    assert (await two[1].logs(one.job.id, owner=None)).value.last == 0
    assert await two[1].finish(again.job.id, again.run, Completed(b'"right"'))
    assert bytes((await two[0].job(one.job.id, owner=None)).value.result) == b'"right"'


async def test_a_unique_key_makes_one_job_whoever_asks(two: Two) -> None:
    answers = []

    async def ask(store: PostgresStore, n: int) -> None:
        answers.append(await store.enqueue([new(unique_key=f"k{n}"), new()], owner=ANN))

    async with trio.open_nursery() as nursery:
        for n in range(20):
            for store in two:
                nursery.start_soon(ask, store, n)
    assert sum(each.created for each in answers) == 60
    assert len(await listed(two[0])) == 60


async def test_an_idempotency_key_makes_one_job_whoever_asks(two: Two) -> None:
    answers: list[Any] = []

    async def ask(store: PostgresStore, n: int, text: bytes) -> None:
        try:
            answers.append(await store.enqueue([new()], owner=ANN, idempotency=Idempotency(f"k{n}", text)))
        except IdempotencyMismatch as error:
            answers.append(error)

    async with trio.open_nursery() as nursery:
        for n in range(4):
            for store in two:
                nursery.start_soon(ask, store, n, b"same" if n < 2 else bytes([two.index(store)]))
    assert len(await listed(two[0])) == 4
    assert sum(isinstance(each, IdempotencyMismatch) for each in answers) == 2


async def test_a_retry_by_hand_and_a_new_job_of_the_key_cannot_both_live(two: Two) -> None:
    for n in range(5):
        key = f"k{n}"
        first = await add(two[0], unique_key=key)
        await two[0].cancel(first, owner=ANN)
        outcomes: list[Any] = []

        async def retry(job: str = first, into: list[Any] = outcomes) -> None:
            try:
                into.append(await two[0].retry(job, owner=ANN))
            except UniqueKeyLive as error:
                into.append(error)

        async def anew(key: str = key, into: list[Any] = outcomes) -> None:
            into.append(await two[1].enqueue([new(unique_key=key)], owner=ANN))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(retry)
            nursery.start_soon(anew)
        live = [job for job in await listed(two[0]) if job.unique_key == key and job.status == "pending"]
        assert len(live) == 1
        assert len(outcomes) == 2


async def test_changes_of_one_job_at_once_are_each_done_or_refused(two: Two) -> None:
    for _ in range(5):
        job = await add(two[0])
        answers = []

        async def change(store: PostgresStore, action: str, job: str = job, into: list[Any] = answers) -> None:
            done = await store.act(action, [job], owner=None, statuses=())  # type: ignore[arg-type]
            into.append(done.changed)

        async with trio.open_nursery() as nursery:
            for store in two:
                nursery.start_soon(change, store, "cancel")
                nursery.start_soon(change, store, "retry")
        assert 1 <= sum(answers) <= 4
