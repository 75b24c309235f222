"""Through PgBouncer in transaction mode, ``notify`` off: nothing is kept on a connection, and nobody is woken."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio
from many_kit import POOLED, new_database, pooled  # noqa: F401

from jobctl.engine.registry import Registry
from tests.kit import Peer, Running, StartServer, until
from tests.postgres_kit import Cluster

TOGETHER = 60


@pytest.fixture
def ran() -> list[tuple[str, str]]:
    """What the handlers did: which server, which job."""
    return []


@pytest.fixture
async def both(start_server: StartServer, pooled: str, tmp_path: Path, ran: list[tuple[str, str]]) -> list[Running]:
    """Two servers on one database, each with handlers of its own."""

    async def one(name: str) -> Running:
        registry = Registry()

        @registry.job("noop")
        async def noop(ctx: Any) -> None:
            ran.append((name, ctx.job_id))
            await trio.sleep(0.01)

        @registry.job("hold")
        async def hold(ctx: Any) -> None:
            ran.append((name, ctx.job_id))
            await trio.sleep_forever()

        return await start_server(
            registry, db=pooled, durability="full", accept_unknown=False, concurrency=5, cancel_grace=0.1,
            state_dir=tmp_path / "state", postgres={"notify": "off", "transaction_pooling": True, "pool_size": 3},
        )  # fmt: skip

    return [await one("a"), await one("b")]


async def subscribed(stack: AsyncExitStack, server: Running, **resume: Any) -> Peer:
    peer = await stack.enter_async_context(server.peer())
    await peer.say(type="subscribe_jobs", stats=False, **resume)
    peer.subscribed = await peer.hear_until("jobs_subscribed")
    return peer


async def updates(peer: Peer, ids: set[str], status: str) -> list[tuple[int, str, str]]:
    """Updates until each of the jobs has come to ``status``: number, job, status."""
    found: list[tuple[int, str, str]] = []
    left = set(ids)
    while left:
        message = await peer.hear_until("job_update")
        job = message["job"]
        found.append((message["seq"], job["id"], job["status"]))
        if job["status"] == status:
            left.discard(job["id"])
    return found


async def test_watchers_of_both_servers_see_the_same_in_one_order_and_no_job_runs_twice(
    both: list[Running], ran: list[tuple[str, str]]
) -> None:
    one, other = both
    async with AsyncExitStack() as stack:
        here, there = [await subscribed(stack, each) for each in both]
        ids: set[str] = set()
        for _ in range(TOGETHER // 6):
            ids |= {*await one.enqueue(3), *await other.enqueue(3)}
        seen = await updates(here, ids, "completed")
        assert await updates(there, ids, "completed") == seen
    numbers = [seq for seq, _, _ in seen]
    assert numbers == [*range(numbers[0], numbers[0] + 3 * TOGETHER)]
    assert sorted(job for _, job in ran) == sorted(ids), "each ran once"
    assert {name for name, _ in ran} == {"a", "b"}, "both took part"


async def test_a_watcher_goes_on_at_the_other_server(both: list[Running]) -> None:
    one, other = both
    async with AsyncExitStack() as stack:
        peer = await subscribed(stack, one)
        seen = await updates(peer, {*await other.enqueue(4)}, "completed")
        epoch = peer.subscribed["epoch"]
    missed = {*await one.enqueue(4)}
    async with AsyncExitStack() as stack:
        peer = await subscribed(stack, other, since=seen[-1][0], epoch=epoch)
        assert peer.subscribed["recovered"]
        seen += await updates(peer, missed, "completed")
    assert [seq for seq, _, _ in seen] == [*range(seen[0][0], seen[0][0] + 24)]


async def test_a_cancel_reaches_a_job_that_runs_on_the_other_server(
    both: list[Running], ran: list[tuple[str, str]]
) -> None:
    one, other = both
    ids = {*await one.enqueue(8, name="hold")}
    await until(lambda: len(ran) == 8)
    assert {name for name, _ in ran} == {"a", "b"}
    async with AsyncExitStack() as stack:
        peer = await subscribed(stack, one)
        for name, job_id in ran:
            asked = other if name == "a" else one  # of the server at which it does not run
            await asked.store.cancel(job_id, owner=None)
        await updates(peer, ids, "cancelled")
    assert not one.service.runner.live
    assert not other.service.runner.live


async def test_a_paused_queue_is_paused_at_the_other_server(both: list[Running], ran: list[tuple[str, str]]) -> None:
    one, other = both
    await one.store.set_paused("default", paused=True)
    ids = {*await other.enqueue(4)}
    async with AsyncExitStack() as stack:
        peer = await subscribed(stack, one)
        assert ran == []
        await other.store.set_paused("default", paused=False)
        await updates(peer, ids, "completed")


async def test_nothing_is_kept_on_a_connection(both: list[Running], new_database: str, cluster: Cluster) -> None:
    """A setting, a prepared statement, a lock or a LISTEN would be another process's with the next transaction."""
    await both[0].enqueue(10)
    await both[1].enqueue(10)
    await until(lambda: not both[0].service.runner.live and not both[1].service.runner.live)
    name = new_database.rpartition("/")[2]
    backends = f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}' AND state = 'idle'"
    held = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid IN ({backends})"
    assert cluster.execute(held) == [(0,)]
    listens = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND query ~* '^listen'"
    assert cluster.execute(listens) == [(0,)]
    async with AsyncExitStack() as stack:
        connect = partial(psycopg.connect, str(both[0].settings.db), autocommit=True)
        links = [stack.enter_context(connect()) for _ in range(POOLED)]
        for link in links:  # each has a connection of PgBouncer's while its transaction lasts
            link.execute("BEGIN")
        for link in links:
            assert link.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
            assert link.execute("SHOW statement_timeout").fetchone() == ("0",)
        for link in links:
            link.execute("ROLLBACK")
