"""What the stream tells besides updates: lines of a log, and counts."""

from __future__ import annotations

from jobctl.store.base import LogEntry
from tests.kit import Running, StartServer


async def test_log_lines_are_followed_from_the_start_or_from_now(server: Running) -> None:
    (job_id,) = await server.hold()
    await server.store.append_logs(job_id, 1, [LogEntry(1000 * i, "log", f"line {i}") for i in range(3)])
    async with server.peer() as late, server.peer() as early:
        await late.say(type="subscribe_logs", id=job_id)
        await early.say(type="subscribe_logs", id=job_id, after=1)
        first = await early.hear()
        assert [line["n"] for line in first["lines"]] == [2, 3]
        await late.say(type="ping")
        assert (await late.hear())["type"] == "pong"
        await server.store.append_logs(job_id, 1, [LogEntry(5000, "stderr", "more")])
        for peer in (late, early):
            message = await peer.hear()
            assert (message["type"], message["lines"][0]["n"], message["lines"][0]["text"]) == ("job_log", 4, "more")
        await early.say(type="unsubscribe_logs", id=job_id)
        await early.say(type="ping")
        await early.hear()
        await server.store.append_logs(job_id, 1, [LogEntry(6000, "log", "unseen")])
        assert (await late.hear())["lines"][0]["text"] == "unseen"
        await early.say(type="ping")
        assert (await early.hear())["type"] == "pong"


async def test_ten_thousand_log_lines_arrive_in_order(server: Running) -> None:
    (job_id,) = await server.hold()
    async with server.peer() as peer:
        await peer.say(type="subscribe_logs", id=job_id, after=0)
        for start in range(0, 10_000, 1000):
            lines = [LogEntry(1, "stdout", f"{n} {'é' * 50}") for n in range(start, start + 1000)]
            await server.store.append_logs(job_id, 1, lines)
        seen: list[int] = []
        while len(seen) < 10_000:
            seen += [line["n"] for line in (await peer.hear())["lines"]]
        assert seen == list(range(1, 10_001))


async def test_counts_equal_the_database_after_many_changes(server: Running) -> None:
    async with server.peer() as peer:
        await peer.say(type="subscribe_jobs")
        await server.hold(10)
        ids = await server.enqueue(20)
        for job_id in ids[10:]:
            await server.store.cancel(job_id, owner=None)
        for job_id in ids[15:]:
            await server.store.delete(job_id, owner=None)
        truth = await server.store.stats(owner=None)
        while True:
            stats = await peer.hear_until("job_stats_update")
            if stats["seq"] == truth.position.seq:
                break
        assert (stats["stats"]["pending"], stats["stats"]["running"], stats["stats"]["cancelled"]) == (10, 10, 5)
        assert stats["stats"]["total"] == truth.value.total == 25


async def test_pausing_a_queue_shows_in_the_counts(server: Running) -> None:
    async with server.peer() as peer:
        await peer.say(type="subscribe_jobs")
        await peer.hear_until("job_stats_update")
        await server.store.set_paused("default", True)
        stats = await peer.hear_until("job_stats_update")
        assert stats["stats"]["byQueue"]["default"]["paused"] is True


async def test_a_configured_queue_is_there_and_can_be_paused_before_its_first_job(start_server: StartServer) -> None:
    server = await start_server(queues={"reports": {"concurrency": 1}, "default": {"concurrency": 2}})
    async with server.peer() as peer:
        await peer.say(type="subscribe_jobs")
        shown = (await peer.hear_until("job_stats_update"))["stats"]["byQueue"]
        assert {name: each["paused"] for name, each in shown.items()} == {"default": False, "reports": False}
        await server.store.set_paused("reports", True)
        shown = (await peer.hear_until("job_stats_update"))["stats"]["byQueue"]
        assert shown["reports"]["paused"] is True
    assert [each.name for each in (await server.store.queues()).value] == ["default", "reports"]
