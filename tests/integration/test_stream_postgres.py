"""The stream of a server that has not read, in time, what others have written to the database and pruned."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import httpx2
import pytest
import trio
from stream_kit import numbers

from jobctl.errors import StoreUnavailable
from jobctl.model import NewJob
from jobctl.store.postgres import PostgresStore, open_postgres
from jobctl.store.postgres_link import SQL, Link
from jobctl.store.postgres_settings import PostgresOptions
from jobctl.stream import hub as hubs
from tests.kit import LOOPBACK, Running, StartServer

JOBS = 6


@pytest.fixture
async def server(start_server: StartServer, postgres_url: str) -> Running:
    return await start_server(db=postgres_url, durability="full")


@pytest.fixture
async def elsewhere(postgres_url: str) -> AsyncIterator[PostgresStore]:
    """Another process on the same database."""
    async with open_postgres(postgres_url, options=PostgresOptions(pool_size=2)) as store:
        yield store


@contextmanager
def reading_nothing(server: Running) -> Iterator[None]:
    """The server hears of no commit until the end of the block."""
    lock: threading.Lock = server.store.tail._lock  # type: ignore[attr-defined]
    with lock:
        yield


async def miss(server: Running, elsewhere: PostgresStore) -> None:
    """Jobs that nobody here can run come, and their events are gone before the server has read them."""
    with reading_nothing(server):
        await elsewhere.enqueue([NewJob(name="nobody") for _ in range(JOBS)], owner="root")
        await elsewhere.make_queues(["new"])
        await elsewhere.retention.prune_events(keep=0)


async def test_whoever_follows_live_costs_the_database_nothing(
    server: Running, elsewhere: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tail reads for all of them."""
    reads: list[str] = []
    plain, by_tail = PostgresStore._read_in_thread, Link.ask

    def read(self: PostgresStore, *arguments: Any) -> Any:
        reads.append("for a viewer")
        return plain(self, *arguments)

    def ask(self: Link, *statements: Any) -> Any:
        reads.extend("events" for sql, _ in statements if sql == SQL["events_after"])
        return by_tail(self, *statements)

    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(server.peer()) for _ in range(30)]
        for n, peer in enumerate(peers):
            await peer.say(type="subscribe_jobs", stats=True, filter={"queues": ["default"]} if n % 2 else None)
            await peer.hear_until("job_stats_update")
        monkeypatch.setattr(PostgresStore, "_read_in_thread", read)
        monkeypatch.setattr(Link, "ask", ask)
        await elsewhere.enqueue([NewJob(name="nobody") for _ in range(JOBS)], owner="root")
        for peer in peers:
            assert await numbers(peer, JOBS) == [*range(1, JOBS + 1)]
    assert set(reads) == {"events"}
    assert len(reads) < len(peers) / 2, "as often as others have committed, and been heard of"


async def test_whoever_follows_is_resynced_and_told_the_right_counts(
    server: Running, elsewhere: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, counters = [StoreUnavailable("not now")], server.store.counters

    async def once_in_vain() -> Any:
        if first:
            raise first.pop()
        return await counters()

    monkeypatch.setattr(server.store, "counters", once_in_vain)
    monkeypatch.setattr(hubs, "COUNT_AGAIN_S", 0.01)
    await server.enqueue(name="nobody")
    async with server.peer() as peer, server.peer() as late:
        await peer.say(type="subscribe_jobs", stats=True)
        while (message := await peer.hear())["type"] != "job_stats_update":
            pass
        assert (message["seq"], message["stats"]["pending"]) == (1, 1)
        await miss(server, elsewhere)
        while (message := await peer.hear())["type"] != "resync":
            assert message["type"] == "job_stats_update"
        assert message == {"type": "resync", "seq": 1 + JOBS, "epoch": server.store.epoch}
        while (message := await peer.hear())["type"] != "job_stats_update":
            pass
        assert (message["seq"], message["stats"]["pending"]) == (1 + JOBS, 1 + JOBS)
        assert "new" in message["stats"]["byQueue"]
        await late.say(type="subscribe_jobs", since=3, epoch=server.store.epoch)
        answer = await late.hear_until("jobs_subscribed")
        assert (answer["recovered"], answer["seq"]) == (False, 1 + JOBS)
        await server.enqueue(name="nobody")
        for each in (peer, late):
            assert (await each.hear_until("job_update"))["seq"] == 2 + JOBS


async def test_who_waits_for_an_event_is_told_that_some_are_gone(
    server: Running, elsewhere: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = []
    looked, events = trio.Event(), server.store.events

    async def look(*arguments: Any, **options: Any) -> Any:
        page = await events(*arguments, **options)
        looked.set()
        return page

    monkeypatch.setattr(server.store, "events", look)
    headers = {"Authorization": f"Bearer {server.token()}"}

    async def wait() -> None:
        async with httpx2.AsyncClient(base_url=f"http://{LOOPBACK}:{server.port}", headers=headers) as http:
            answer = await http.get(
                "/api/events", params={"since": f"{server.store.epoch}:0", "wait": 30}, timeout=40
            )
            answers.append(answer.json()["data"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await looked.wait()
        await miss(server, elsewhere)
        with trio.fail_after(10):
            while not answers:
                await trio.sleep(0.002)
    assert (answers[0]["recovered"], answers[0]["events"]) == (False, [])
    assert answers[0]["position"] == f"{server.store.epoch}:{JOBS}"
