"""Schedules and prunings on the stream, against a real server."""

from __future__ import annotations

import time
from typing import Any

import httpx2
import pytest
import trio

from jobctl.engine.schedules import next_run
from jobctl.model import NewJob
from jobctl.protocol import messages
from jobctl.schedule import ScheduleSpec
from jobctl.stream import schedules
from tests.kit import LOOPBACK, Peer, RawPeer, Running, StartServer, until


async def add(server: Running, name: str = "nightly", **fields: Any) -> None:
    spec = ScheduleSpec(**{"name": name, "cron": "@yearly", "timezone": "UTC", "job_name": "noop"} | fields)
    # Its real next run: the scheduler's first look sets any other right, which is a change of its own.
    await server.store.schedules.add(spec, created_by="root", next_run=next_run(spec, int(time.time() * 1000)))


async def subscribe(peer: Peer, **fields: Any) -> dict[str, Any]:
    await peer.say(type="subscribe_jobs", **{"stats": False} | fields)
    return await peer.hear_until("jobs_subscribed")


async def quiet(peer: Peer) -> list[str]:
    """What has come by the time that a ping is answered."""
    await peer.say(type="ping")
    heard = []
    while (message := await peer.hear())["type"] != "pong":
        heard.append(message["type"])
    return heard


async def end(server: Running, n: int, owner: str) -> None:
    """Jobs of ``owner`` that ended a minute ago."""
    now = server.store.clock  # type: ignore[attr-defined]
    server.store.clock = lambda: int(time.time() * 1000) - 60_000  # type: ignore[attr-defined]
    jobs = [NewJob(name="past", queue="past") for _ in range(n)]
    ids = (await server.store.enqueue(jobs, owner=owner)).ids
    for job_id in ids:
        await server.store.cancel(job_id, owner=owner)
    server.store.clock = now  # type: ignore[attr-defined]


# --- schedules -----------------------------------------------------------------------------------------------------


async def test_whoever_asks_gets_all_schedules_at_once_and_again_when_they_change(server: Running) -> None:
    await add(server)
    async with server.peer() as peer:
        await subscribe(peer, schedules=True)
        first = await peer.hear_until("schedules_update")
        assert [each["name"] for each in first["schedules"]] == ["nightly"]
        assert first.keys() == {"type", "schedules", "timestamp"}
        assert first["schedules"][0]["jobName"] == "noop"
        await add(server, "other")
        second = await peer.hear_until("schedules_update")
        assert [each["name"] for each in second["schedules"]] == ["nightly", "other"]
        await server.store.schedules.trigger("other", NewJob(name="noop"))
        third = await peer.hear_until("schedules_update")
        assert third["schedules"][1]["runCount"] == 1
        await server.store.schedules.remove("other")
        assert len((await peer.hear_until("schedules_update"))["schedules"]) == 1


async def test_a_snapshot_never_names_a_job_that_the_stream_has_not_told_yet(server: Running) -> None:
    await add(server)
    async with server.peer() as peer:
        await subscribe(peer, schedules=True)
        await peer.hear_until("schedules_update")
        await trio.sleep(schedules.EVERY_S)
        server.service.hub._not_before = trio.current_time() + 0.3  # as after a flush that took long
        await server.store.schedules.trigger("nightly", NewJob(name="noop"))
        while (told := await peer.hear())["type"] == "schedules_update":  # of a change before, on a busy machine
            assert told["schedules"][0]["lastJobId"] is None
        assert told["type"] == "job_update"
        assert (await peer.hear_until("schedules_update"))["schedules"][0]["lastJobId"] == told["job"]["id"]


async def test_who_does_not_ask_gets_none(server: Running) -> None:
    async with server.peer() as peer:
        await subscribe(peer)
        await add(server)
        await trio.sleep(2 * schedules.EVERY_S)
        assert await quiet(peer) == []


async def test_a_burst_of_changes_is_few_snapshots_and_the_last_is_the_truth(server: Running) -> None:
    async with server.peer() as peer:
        await subscribe(peer, schedules=True)
        await peer.hear_until("schedules_update")
        began, seen = trio.current_time(), 0
        for n in range(40):
            await add(server, f"s{n:02}")
        while len((await peer.hear_until("schedules_update"))["schedules"]) < 40:
            seen += 1
        assert seen <= (trio.current_time() - began) / schedules.EVERY_S + 1


async def test_nothing_is_sent_while_nothing_changes(server: Running) -> None:
    await add(server)
    async with server.peer() as peer:
        await subscribe(peer, schedules=True)
        await peer.hear_until("schedules_update")
        await server.enqueue()
        state = (await server.store.schedules.one("nightly")).value
        await server.store.schedules.set_enabled("nightly", True, next_run=state.next_run)
        await trio.sleep(2 * schedules.EVERY_S)
        assert await quiet(peer) == ["job_update"]


async def test_whoever_has_a_snapshot_gets_none_because_somebody_else_wants_one(server: Running) -> None:
    async with server.peer() as first, server.peer() as second:
        for peer in (first, second):
            await subscribe(peer, schedules=True)
            await peer.hear_until("schedules_update")
        assert await quiet(first) == []


async def test_unsubscribing_ends_them_too(server: Running) -> None:
    async with server.peer() as peer:
        await subscribe(peer, schedules=True)
        await peer.hear_until("schedules_update")
        await peer.say(type="unsubscribe_jobs")
        await peer.hear_until("jobs_unsubscribed")
        await add(server)
        await trio.sleep(2 * schedules.EVERY_S)
        assert await quiet(peer) == []
    await until(lambda: not server.service.hub.schedules._followers)


async def test_schedules_are_for_admins_and_a_users_subscription_stands_without_them(server: Running) -> None:
    await add(server)
    async with server.peer("ann", "user") as peer:
        await subscribe(peer, schedules=True)
        told = await peer.hear()
        assert told == {"type": "error", "code": "forbidden", "message": "schedules are for admins"}
        await add(server, "other")
        await trio.sleep(2 * schedules.EVERY_S)
        assert await quiet(peer) == []
        await server.enqueue(owner="ann")
        assert (await peer.hear())["type"] == "job_update"


async def test_many_schedules_are_sent_without_their_data(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "INLINE_ALL", 2000)
    for n in range(5):
        await add(server, f"s{n}", data=b'{"x":1}')
    async with server.peer() as peer:
        await subscribe(peer, schedules=True)
        told = (await peer.hear_until("schedules_update"))["schedules"]
        assert {(each["data"], *each["omitted"]) for each in told} == {(None, "data")}


async def test_a_snapshot_waits_for_what_was_before_it(start_server: StartServer) -> None:
    server = await start_server(stream={"outbox_bytes": 4 * 1024 * 1024})
    peer = await RawPeer.open(server.port, server.token())
    await peer.say(messages.SubscribeJobs(stats=False, schedules=True))
    while (await peer.hear())["type"] != "schedules_update":
        pass
    await server.enqueue(400, data=b'{"x":"%s"}' % (b"x" * 3500))  # not more than fits
    for n in range(3):
        await add(server, f"s{n}")
        await trio.sleep(2 * schedules.EVERY_S)
    heard = [await peer.hear() for _ in range(401)]
    assert [each["type"] for each in heard[:400]] == ["job_update"] * 400
    assert [each["name"] for each in heard[400]["schedules"]] == ["s0", "s1", "s2"], "only the latest"
    await peer.stream.aclose()


async def test_a_slow_reader_gets_the_latest_snapshot_when_it_reads_again(start_server: StartServer) -> None:
    server = await start_server(stream={"outbox_bytes": 16384})
    peer = await RawPeer.open(server.port, server.token())
    await peer.say(messages.SubscribeJobs(stats=False, schedules=True))
    while (await peer.hear())["type"] != "schedules_update":
        pass
    for n in range(60):
        await server.enqueue(5, data=b'{"x":"%s"}' % (b"x" * 3500))
        await add(server, f"s{n:02}", data=b'{"x":"%s"}' % (b"x" * 1000))
    await trio.sleep(2 * schedules.EVERY_S)
    latest: list[str] = []
    updates = 0
    with trio.fail_after(20):
        while len(latest) < 60 or updates < 300:
            message = await peer.hear()
            if message["type"] == "schedules_update":
                latest = [each["name"] for each in message["schedules"]]
            elif message["type"] == "job_update":
                updates += 1
    assert (latest[-1], updates) == ("s59", 300)
    await peer.stream.aclose()


# --- prunings ------------------------------------------------------------------------------------------------------


async def test_each_subscriber_is_told_of_its_own_pruned_jobs(server: Running) -> None:
    await end(server, 3, "ann")
    await end(server, 2, "ben")
    async with server.peer() as root, server.peer("ann", "user") as ann, server.peer("eve", "user") as eve:
        for peer in (root, ann, eve):
            await subscribe(peer)
        pruned = await server.store.retention.prune_jobs("cancelled", older_than=30)
        assert pruned.count == 5
        told = await root.hear()
        assert told.keys() == {"type", "statuses", "finishedBefore", "count", "seq", "timestamp"}
        assert (told["type"], told["count"], told["statuses"], told["seq"]) == ("jobs_pruned", 5, ["cancelled"], 11)
        mine = await ann.hear()
        assert mine == told | {"count": 3}
        assert await quiet(eve) == []
        await eve.say(type="ping")
        assert (await eve.hear())["seq"] == 11, "its position moves on all the same"


async def test_a_filter_by_name_does_not_hide_that_jobs_are_gone(server: Running) -> None:
    await end(server, 2, "root")
    async with server.peer() as peer, server.peer() as mine:
        await subscribe(peer, filter={"names": ["other"]})
        await subscribe(mine, filter={"mine": True})
        await end(server, 1, "ann")
        await server.store.retention.prune_jobs("cancelled", older_than=30)
        assert (await peer.hear_until("jobs_pruned"))["count"] == 3
        assert (await mine.hear_until("jobs_pruned"))["count"] == 2


async def test_a_pruning_is_replayed_with_the_readers_own_count(server: Running) -> None:
    await end(server, 3, "ann")
    await end(server, 2, "ben")
    await server.store.retention.prune_jobs("cancelled", older_than=30)
    for subject, role, count in (("root", "admin", 5), ("ann", "user", 3), ("ben", "user", 2)):
        if subject == "ben":  # from the log
            server.service.hub._ring.clear()
        async with server.peer(subject, role) as peer:
            assert (await subscribe(peer, since=0, epoch=server.store.epoch))["recovered"] is True
            assert (await peer.hear_until("jobs_pruned"))["count"] == count


@pytest.mark.parametrize("late", [False, True])
async def test_the_stream_and_the_log_over_http_answer_alike_where_the_log_was_pruned(
    server: Running, late: bool
) -> None:
    """``late``: what is pruned has not yet been flushed."""
    await server.enqueue(10)
    if late:
        server.service.hub._not_before = trio.current_time() + 3600
        await server.enqueue(10)
    head = (await server.store.events(0, limit=1)).head
    assert (await server.store.retention.prune_events(keep=3)).count == head - 3
    if late:
        server.service.hub.flush()
    answers = {}
    async with httpx2.AsyncClient(base_url=f"http://{LOOPBACK}:{server.port}") as http:
        for since in (0, 1, head - 4, head - 3, head - 2, head):
            at = f"/api/events?since={server.store.epoch}:{since}"
            page = (await http.get(at, headers={"Authorization": f"Bearer {server.token()}"})).json()["data"]
            async with server.peer() as peer:
                await peer.say(type="subscribe_jobs", since=since, epoch=server.store.epoch, stats=False)
                told = await peer.hear_until("jobs_subscribed")
                updates = [(await peer.hear())["seq"] for _ in range(head - since)] if told["recovered"] else []
            answers[since] = told["recovered"]
            assert (told["recovered"], updates) == (page["recovered"], [each["seq"] for each in page["events"]])
    assert answers == {0: False, 1: False, head - 4: False, head - 3: True, head - 2: True, head: True}


async def test_counts_follow_a_pruning(server: Running) -> None:
    await end(server, 3, "ann")
    await server.enqueue(owner="ann")
    async with server.peer("ann", "user") as peer:
        await subscribe(peer, stats=True)
        assert (await peer.hear_until("job_stats_update"))["stats"]["total"] == 4
        await server.store.retention.prune_jobs("cancelled", older_than=30)
        stats = (await peer.hear_until("job_stats_update"))["stats"]
        assert (stats["total"], stats["cancelled"], stats["byQueue"]["default"]["pending"]) == (1, 0, 1)


async def test_whoever_comes_back_from_before_the_logs_start_is_not_recovered(server: Running) -> None:
    await server.enqueue(10)
    server.service.hub._ring.clear()  # as after a restart
    assert (await server.store.retention.prune_events(keep=4)).count == 6
    for since, recovered in ((5, False), (6, True)):
        async with server.peer() as peer:
            told = await subscribe(peer, since=since, epoch=server.store.epoch)
            assert (told["recovered"], told["seq"], told["head"]) == (recovered, since if recovered else 10, 10)
            if recovered:
                assert [(await peer.hear())["seq"] for _ in range(4)] == [7, 8, 9, 10]


async def test_a_reader_who_is_overtaken_by_a_pruning_is_told_to_fetch_anew(start_server: StartServer) -> None:
    server = await start_server(stream={"outbox_bytes": 8192})
    peer = await RawPeer.open(server.port, server.token())
    await peer.say(messages.SubscribeJobs(stats=False))
    assert (await peer.hear())["type"] == "jobs_subscribed"
    for _ in range(10):
        await server.enqueue(1000, data=b'{"x":"%s"}' % (b"x" * 500))
    await server.service.hub.reached(10_000)
    while (await server.store.retention.prune_events(keep=10)).more:
        pass
    with trio.fail_after(20):
        while (message := await peer.hear())["type"] == "job_update":
            pass
        assert (message["type"], message["seq"]) == ("resync", 10_000)
        await server.enqueue(1)
        assert (await peer.hear())["seq"] == 10_001
    await peer.stream.aclose()


