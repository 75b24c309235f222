"""The client against a real server."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from client_kit import no_jitter, reading, seqs, unused_port  # noqa: F401

from jobctl.client import Client, Resynced
from jobctl.errors import ApiError, NotFound, Unreachable, WaitTimeout
from jobctl.protocol.messages import JobDeleted, JobStatsUpdate, JobUpdate
from tests.kit import Running, StartServer, until


def connect(server: Running, subject: str = "root", role: str = "admin", **options: Any) -> Client:
    return Client(server.service.url, lambda: server.token(subject, role), **options)


@asynccontextmanager
async def both(server: Running) -> AsyncIterator[Client]:
    async with connect(server) as client:
        yield client


async def test_every_operation_reaches_the_server(server: Running) -> None:
    async with both(server) as client:
        made = await client.enqueue("noop", {"x": 1}, queue="q", tags=["t"], priority=3, delay=60, unique_key="u")
        again = await client.enqueue("noop", {"x": 2}, queue="q", unique_key="u")
        assert again.id == made.id
        assert (made.queue, made.tags, made.priority, made.data) == ("q", ("t",), 3, {"x": 1})
        batch = await client.enqueue_batch([{"name": "noop"}, {"name": "noop", "data": {"y": 1}, "max_attempts": 1}])
        assert batch.created == 2
        assert (await client.get(batch.ids[1])).max_attempts == 1
        page = await client.list(queues=["q", "nope"], statuses=["pending"], tags=["t"], limit=1)
        assert [each.id for each in page.jobs] == [made.id]
        assert (await client.stats()).by_queue["q"].pending == 1
        assert {each.name for each in await client.queues()} >= {"default", "q"}
        await client.pause("q")
        assert (await client.stats()).by_queue["q"].paused
        await client.resume("q")
        assert (await client.cancel(made.id)).status == "cancelled"
        assert (await client.retry(made.id)).status == "pending"
        assert await client.logs(made.id) == ()
        assert isinstance(await client.handlers(), dict | list)
        await client.delete(made.id)
        with pytest.raises(ApiError) as caught:
            await client.get(made.id)
        assert (caught.value.status, caught.value.problem_code) == (404, "not_found")


async def test_updates_deletions_and_counts_arrive_as_they_happen(server: Running) -> None:
    async with both(server) as client, client.watch(queues=["q"], stats=True) as updates:
        await updates.start()
        assert updates.live
        made = await client.enqueue("noop", queue="q")
        await client.enqueue("noop", queue="other")
        await client.cancel(made.id)
        await client.delete(made.id)
        found: list[Any] = []
        with trio.fail_after(20):
            while len([each for each in found if not isinstance(each, JobStatsUpdate)]) < 3:
                found.append(await anext(updates))
                assert json.loads(updates.text or "")["type"]
        kinds = [type(each) for each in found if not isinstance(each, JobStatsUpdate)]
        assert kinds == [JobUpdate, JobUpdate, JobDeleted]
        assert any(isinstance(each, JobStatsUpdate) for each in found)


async def test_a_watch_resumes_where_another_left_off(server: Running) -> None:
    async with both(server) as client:
        async with client.watch() as updates:
            await updates.start()
            first = await client.enqueue("noop")
            assert (await anext(updates)).job.id == first.id  # type: ignore[union-attr]
            place = str(updates.position)
        ids = [(await client.enqueue("noop")).id for _ in range(3)]
        async with client.watch(since=place) as updates:
            with trio.fail_after(20):
                assert [(await anext(updates)).job.id for _ in ids] == ids  # type: ignore[union-attr]


async def test_the_server_restarts_and_the_watch_goes_on(
    start_server: StartServer, unused_port: int, no_jitter: None
) -> None:
    server = await start_server(port=unused_port)
    async with both(server) as client, client.watch() as updates:
        await updates.start()
        await client.enqueue("noop")
        assert (await seqs(updates, 1)) == [1]
        async with reading(updates):
            await server.stop()
            await until(lambda: not updates.live)
        assert updates.reason
        server = await start_server(port=unused_port)
        await client.enqueue("noop")
        assert (await seqs(updates, 1)) == [2]


async def test_wait_returns_the_final_jobs_in_order_whole(start_server: StartServer) -> None:
    from jobctl.engine.registry import Registry

    registry = Registry(accept_unknown=True)

    @registry.job("work")
    async def work(ctx: Any, n: int) -> str:
        await trio.sleep(0.02 * n)
        if n == 2:
            raise ValueError("two")
        return "x" * 10_000

    server = await start_server(registry)
    async with both(server) as client:
        ids = [(await client.enqueue("work", {"n": n}, max_attempts=1)).id for n in (3, 2, 0)]
        jobs = await client.wait(ids, timeout=10)
        assert [each.id for each in jobs] == ids
        assert [each.status for each in jobs] == ["completed", "failed", "completed"]
        assert jobs[0].result == "x" * 10_000
        assert await client.wait(ids, timeout=10) == jobs  # they have ended already
        assert await client.wait([]) == ()


async def test_wait_times_out(server: Running) -> None:
    async with both(server) as client:
        made = await client.enqueue("noop")
        with pytest.raises(WaitTimeout):
            await client.wait([made.id], timeout=0.1)


async def test_wait_tells_of_what_does_not_exist_or_goes(server: Running, nursery: trio.Nursery) -> None:
    async with both(server) as client:
        with pytest.raises(NotFound):
            await client.wait(["01890000-0000-7000-8000-000000000000"], timeout=1)
        made = await client.enqueue("noop")

        async def delete() -> None:
            await trio.sleep(0.1)
            await server.store.delete(made.id, owner=None)

        nursery.start_soon(delete)
        with pytest.raises(NotFound, match=made.id):
            await client.wait([made.id], timeout=5)


async def test_lost_updates_of_a_real_server_are_resynced(server: Running) -> None:
    async with both(server) as client:
        made = await client.enqueue("noop", queue="q")
        async with client.watch(queues=["q"], since="another-epoch:1") as updates:
            with trio.fail_after(20):
                state = await anext(updates)
                assert isinstance(state, Resynced)
                assert [each.id for each in state.jobs] == [made.id]
                await client.cancel(made.id)
                assert (await anext(updates)).job.status == "cancelled"  # type: ignore[union-attr]
        async with client.watch(ids=[made.id, "01890000-0000-7000-8000-000000000000"], since="x:1") as updates:
            state = await anext(updates)
            assert isinstance(state, Resynced)
            assert len(state.missing) == 1


async def test_a_user_follows_only_what_it_created(server: Running) -> None:
    async with connect(server, "ann", "user") as ann, both(server) as root, ann.watch(mine=True) as updates:
        await updates.start()
        await root.enqueue("noop")
        made = await ann.enqueue("noop")
        with trio.fail_after(20):
            assert (await anext(updates)).job.id == made.id  # type: ignore[union-attr]
        with pytest.raises(ApiError) as caught:
            await ann.pause("default")
        assert caught.value.status == 403


async def test_a_stream_outlives_its_tokens(start_server: StartServer) -> None:
    server = await start_server()
    given: list[float] = []

    def token() -> str:
        given.append(time.time())
        return server.token(ttl=1.5)  # expiring is told 60 s ahead: at once

    async with Client(server.service.url, token) as client, client.watch() as updates:
        await updates.start()
        with trio.move_on_after(1.7):
            await anext(updates)
        made = await client.enqueue("noop")
        with trio.fail_after(20):
            assert (await anext(updates)).job.id == made.id  # type: ignore[union-attr]
    assert len(given) >= 2


async def test_it_speaks_tls(start_server: StartServer, tmp_path: Any) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    chain, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    certificate.private_key_pem.write_to_path(key)
    server = await start_server(certfile=chain, keyfile=key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    url = f"https://localhost:{server.port}"
    async with Client(url, server.token(), tls=context) as client, client.watch() as updates:
        await updates.start()
        made = await client.enqueue("noop")
        assert (await anext(updates)).job.id == made.id  # type: ignore[union-attr]
    async with Client(url, server.token(), patience=0) as stranger:
        with pytest.raises(Unreachable):
            await stranger.stats()
        with pytest.raises(Unreachable):
            await anext(stranger.watch())


async def test_a_thousand_updates_arrive_in_order_through_reconnects(server: Running, no_jitter: None) -> None:
    async with both(server) as client, client.watch() as updates:
        await updates.start()
        found: list[int] = []
        await server.enqueue(1000)
        with trio.fail_after(20):
            while len(found) < 1000:
                found.append((await anext(updates)).seq)  # type: ignore[union-attr]
                if len(found) % 250 == 0 and updates._connection is not None:
                    updates._connection.abandon()
        assert found == list(range(1, 1001))
        assert client.connections >= 3
