"""Two users and an admin on the stream: of what is ann's bob hears nothing, by whatever he subscribes to."""

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from jobctl.engine.registry import Registry
from jobctl.protocol.messages import KNOWN_SERVER_TYPES
from tests.kit import Peer, Running, StartServer, until

CANARY = "annsCanary"

MESSAGES = {
    "auth_required": "everybody",
    "connected": "who signs in",
    "auth_failed": "who does not",
    "jobs_subscribed": "who asks; it carries the head of the whole log, which tells how much happens, not what",
    "jobs_unsubscribed": "who asks",
    "job_update": "the job's owner, and admins",
    "job_deleted": "the job's owner, and admins",
    "jobs_pruned": "those who lost jobs, with their own count; admins",
    "job_stats_update": "each with his own counts; admins with all",
    "schedules_update": "admins",
    "workers_update": "admins",
    "job_log": "the job's owner, and admins",
    "pong": "who asks",
    "token_expiring": "whose token it is",
    "resync": "who is behind",
    "error": "whose message it was",
}
"""Who hears what. The rows about jobs are tried below."""


def test_every_message_of_the_server_has_a_row() -> None:
    assert set(MESSAGES) == set(KNOWN_SERVER_TYPES)


class Ear:
    """A peer, and all that it has heard."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.heard: list[dict[str, Any]] = []

    async def run(self) -> None:
        while True:
            raw = await self.peer.socket.get_message()
            self.heard.append(json.loads(raw))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.heard if each["type"] == kind]

    async def caught_up(self) -> None:
        """All that was said before now has been heard."""
        before = len(self.of("pong"))
        await self.peer.say(type="ping")
        await until(lambda: len(self.of("pong")) > before)


@pytest.fixture
async def server(start_server: StartServer) -> Running:
    registry = Registry(accept_unknown=True)

    @registry.job("work")
    async def work(ctx: Any, **_: object) -> dict[str, str]:
        ctx.log(CANARY)
        ctx.progress(0.5, CANARY)
        return {CANARY: CANARY}

    @registry.job("fail", max_attempts=1)
    async def fail(ctx: Any, **_: object) -> None:
        raise ValueError(CANARY)

    return await start_server(registry)


def subscriptions(server: Running, ids: list[str]) -> list[dict[str, Any]]:
    """Every filter that could lead to jobs of ann's, from now on and from the beginning."""
    filters: list[dict[str, Any] | None] = [
        None, {}, {"ids": ids}, {"names": ["work", "fail", "later"]}, {"queues": [CANARY]}, {"tags": [CANARY]},
        {"statuses": ["pending", "running", "retrying", "completed", "failed", "cancelled"]}, {"mine": True},
        {"mine": False},
    ]  # fmt: skip
    start = {"since": 0, "epoch": server.store.epoch}
    return [
        {"filter": each, "conflate": conflate, "schedules": True, "workers": True} | more
        for each in filters
        for more in ({}, start)
        for conflate in (False, True)
    ]


async def live_through(server: Running) -> None:
    """All that can become of jobs of ann's."""
    fields: dict[str, Any] = {"owner": "ann", "queue": CANARY, "tags": (CANARY,)}
    (work,) = await server.enqueue(1, name="work", **fields)
    (fail,) = await server.enqueue(1, name="fail", max_attempts=1, **fields)
    ids = await server.enqueue(3, name="later", data=json.dumps({CANARY: 1}).encode(), **fields)
    await until(lambda: ended(server, work, fail))
    await server.store.cancel(ids[0], owner="ann")
    await server.store.retry(fail, owner="ann")
    await until(lambda: ended(server, fail))
    await server.store.delete(ids[1], owner="ann")
    await server.store.set_paused(CANARY, True)
    await server.store.set_paused(CANARY, False)
    await pruned(server)


async def pruned(server: Running) -> None:
    """All that is completed is gone."""
    await trio.sleep(0.005)  # what ended in this very millisecond is not over yet
    await server.store.retention.prune_jobs("completed", older_than=0.0)


async def ended(server: Running, *ids: str) -> bool:
    jobs = [(await server.store.job(each, owner=None)).value for each in ids]
    return all(job.status.value in ("completed", "failed") for job in jobs)


async def test_bob_hears_nothing_of_anns_by_any_subscription(server: Running) -> None:
    known = await server.enqueue(1, name="later", owner="ann", queue=CANARY, tags=(CANARY,))
    asked = subscriptions(server, list(known))
    async with AsyncExitStack() as stack:
        ears = [Ear(await stack.enter_async_context(server.peer("bob", "user"))) for _ in asked]
        hers = Ear(await stack.enter_async_context(server.peer("ann", "user")))
        all_of_it = Ear(await stack.enter_async_context(server.peer()))
        async with trio.open_nursery() as nursery:
            for ear in (*ears, hers, all_of_it):
                nursery.start_soon(ear.run)
            for ear, wanted in zip(ears, asked, strict=True):
                await ear.peer.say(type="subscribe_jobs", **wanted)
                await ear.peer.say(type="subscribe_logs", id=known[0], after=0)
                await ear.peer.say(type="subscribe_logs", id="01890000-0000-7000-8000-000000000000", after=0)
            for ear in (hers, all_of_it):
                await ear.peer.say(type="subscribe_jobs", since=0, epoch=server.store.epoch)
            await live_through(server)
            for ear in (*ears, hers, all_of_it):
                await ear.caught_up()
            for kind in ("job_update", "job_deleted", "jobs_pruned", "job_stats_update"):
                assert hers.of(kind), f"ann hears {kind}"
                assert all_of_it.of(kind), f"the admin hears {kind}"
            nursery.cancel_scope.cancel()
    for ear, wanted in zip(ears, asked, strict=True):
        said = json.dumps(ear.heard)
        assert CANARY not in said, wanted
        assert not any(job_id in said for job_id in known), wanted
        assert {each["type"] for each in ear.heard} <= {"jobs_subscribed", "job_stats_update", "pong", "error"}, wanted
        logs = [each for each in ear.of("error") if each["code"] == "not_found"]
        assert len(logs) == 2
        assert logs[0] == logs[1], "a log of ann's is to him as one that is not there"
        for counts in ear.of("job_stats_update"):
            assert (counts["stats"]["total"], counts["stats"]["byQueue"]) == (0, {}), wanted


async def test_each_hears_of_a_pruning_what_he_lost_himself(server: Running) -> None:
    for owner, n in (("ann", 2), ("bob", 3)):
        ids = await server.enqueue(n, name="work", owner=owner)
        await until(lambda ids=ids: ended(server, *ids))
    async with server.peer("ann", "user") as ann, server.peer("bob", "user") as bob, server.peer("eve", "user") as eve:
        for peer in (ann, bob, eve):
            await peer.say(type="subscribe_jobs", stats=False)
            await peer.hear_until("jobs_subscribed")
        await pruned(server)
        assert (await ann.hear_until("jobs_pruned"))["count"] == 2
        assert (await bob.hear_until("jobs_pruned"))["count"] == 3
        await eve.say(type="ping")
        assert (await eve.hear())["type"] == "pong", "she has lost none"


async def test_a_peer_that_signs_in_as_somebody_else_leaves_all_behind(server: Running) -> None:
    """What was subscribed as ann is not heard as bob, nor what was on its way."""
    (held,) = await server.enqueue(1, name="later", owner="ann", queue=CANARY)
    async with server.peer("ann", "user") as peer:
        await peer.say(type="subscribe_jobs", since=0, epoch=server.store.epoch)
        await peer.say(type="subscribe_logs", id=held, after=0)
        await peer.hear_until("job_update")
        await peer.say(type="auth", token=server.token("bob", "user"))
        await peer.hear_until("connected")
        await server.store.cancel(held, owner="ann")
        await server.enqueue(1, name="later", owner="ann", queue=CANARY)
        await peer.say(type="ping")
        heard = await peer.hear()
        assert heard["type"] == "pong", heard
