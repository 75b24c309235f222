"""Several servers and workers share one database: one order of events, commands that reach everywhere, one leader."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest
import trio

from tests.faults.many import Many, Member, following, many
from tests.postgres_kit import Cluster

__all__ = ["many"]
pytestmark = [pytest.mark.faults, pytest.mark.slow]


async def events(member: Member, since: str) -> list[int]:
    """Numbers of the log after a position, as that server tells them."""
    found: list[int] = []
    while True:
        told = (await member.get(f"/api/events?since={since}&limit=500")).json()["data"]
        assert told["recovered"]
        if not told["events"]:
            return found
        found += [each["seq"] for each in told["events"]]
        since = told["position"]


async def position(member: Member) -> str:
    return str((await member.get("/api/jobs/stats")).headers["X-Jobctl-Position"])


async def test_a_watcher_hears_all_that_happens_anywhere_in_one_order_and_goes_on_at_another_server(many: Many) -> None:
    a, b = await many.start(), await many.start()
    await many.start(kind="work")
    start = await position(a)
    epoch, _, seq = start.rpartition(":")

    async def enqueue(at: Member, n: int) -> None:
        for _ in range(n):
            await at.post("/api/jobs/batch", [{"name": "quick"}] * 10)

    async def done(total: int) -> bool:
        stats = (await b.get("/api/jobs/stats")).json()["data"]
        return bool(stats["completed"] == total)

    async with following(a, start) as heard:
        async with trio.open_nursery() as nursery:
            for at in (a, b):
                nursery.start_soon(enqueue, at, 10)
        await many.until(lambda: done(200))
        head = int((await position(b)).rpartition(":")[2])
        await many.until(lambda: heard and heard[-1][0] >= head)
    seqs = [each for each, _ in heard]
    assert seqs == list(range(int(seq) + 1, seqs[-1] + 1)), "a number is missing, or comes twice"
    assert seqs == await events(b, start)
    assert [what for _, what in heard].count("completed") == 200

    assert a.signal(signal.SIGTERM) == 0
    await enqueue(b, 5)
    async with following(b, f"{epoch}:{seqs[-1]}") as rest:
        await many.until(lambda: done(250))
        head = int((await position(b)).rpartition(":")[2])
        await many.until(lambda: rest and rest[-1][0] >= head)
    assert [each for each, _ in rest] == list(range(seqs[-1] + 1, head + 1))


async def test_a_cancel_reaches_a_job_that_runs_on_another_server(many: Many) -> None:
    a = await many.start(handlers=False)
    b = await many.start("--config", str(settings(many, "cancel_grace = 0.1")))
    job_id = await a.enqueue("hold", {"gate": str(many.gate)})
    await many.until(lambda: a.is_there(job_id, status="running", on=b))
    await many.until(lambda: many.marks("begin"))
    answer = await a.post(f"/api/jobs/{job_id}/cancel")
    assert answer.json()["data"]["cancelRequested"] is True
    await many.until(lambda: a.is_there(job_id, status="cancelled"))
    assert [each.pid for each in many.marks("told")] == [b.pid]


async def test_a_pause_holds_for_every_server_until_it_is_taken_back_at_another(many: Many) -> None:
    a, b = await many.start(handlers=False), await many.start()
    await a.enqueue("quick", queue="slow")
    await a.post("/api/queues/slow/pause")
    held = await a.enqueue("quick", queue="slow")
    other = await a.enqueue("quick")
    await many.until(lambda: b.is_there(other, status="completed"))
    assert (await b.job(held))["status"] == "pending"
    await b.post("/api/queues/slow/resume")
    await many.until(lambda: a.is_there(held, status="completed"))


async def test_every_server_lists_all_processes_and_says_where_each_job_runs(many: Many) -> None:
    a = await many.start(handlers=False)
    b = await many.start(kind="work")
    job_id = await a.enqueue("hold", {"gate": str(many.gate)})
    await many.until(lambda: a.is_there(job_id, status="running", on=b))

    async def told() -> bool:
        return [(each["kind"], each["pid"], each["running"]) for each in await a.workers()] == [
            ("serve", a.pid, 0), ("work", b.pid, 1)
        ]  # fmt: skip

    await many.until(told)
    assert [each["leader"] for each in await a.workers()].count(True) == 1
    many.gate.touch()
    await many.until(lambda: a.is_there(job_id, status="completed"))
    assert b.signal(signal.SIGTERM) == 0
    assert [each["pid"] for each in await a.workers()] == [a.pid], "who leaves in order is not listed any more"


async def test_a_stop_in_order_gives_running_jobs_to_others_at_once_and_without_an_attempt(many: Many) -> None:
    a = await many.start("--config", str(settings(many, "grace = 0.5")), handlers=True)
    job_id = await a.enqueue("hold", {"gate": str(many.gate)})
    await many.until(lambda: a.is_there(job_id, status="running", on=a))
    b = await many.start()
    assert a.signal(signal.SIGTERM) == 0
    await many.until(lambda: b.is_there(job_id, status="running", on=b))
    assert (await b.job(job_id))["attempts"] == 0


async def test_a_function_that_looks_whether_it_is_to_stop_is_waited_for(many: Many) -> None:
    a = await many.start("--config", str(settings(many, "grace = 0.5")), handlers=True)
    job_id = await a.enqueue("polite")
    await many.until(lambda: a.is_there(job_id, status="running", on=a))
    b = await many.start()
    assert a.signal(signal.SIGTERM) == 0
    await many.until(lambda: b.is_there(job_id, status="running", on=b))
    assert [each.pid for each in many.marks("end")] == [a.pid]
    assert [each["pid"] for each in await b.workers()] == [b.pid], "it has left in order"
    assert (await b.job(job_id))["attempts"] == 0


async def test_a_stop_in_order_gives_a_job_in_a_thread_to_others_once_its_process_has_ended(many: Many) -> None:
    slow_to_stop = """grace = 0.5\n[commands.nap]\nargv = ["/bin/sh", "-c", "trap '' TERM; sleep 60; sleep 60"]"""
    a = await many.start("--config", str(settings(many, slow_to_stop)), handlers=True)
    job_id, nap = await a.enqueue("deaf", {"gate": str(many.gate)}), await a.enqueue("nap")
    for each in (job_id, nap):
        await many.until(lambda each=each: a.is_there(each, status="running", on=a))
    b = await many.start()
    assert a.signal(signal.SIGTERM) == 0
    await many.until(lambda: b.is_there(job_id, status="running", on=b))
    assert many.marks("step", pid=a.pid)[-1].at < many.marks("begin", pid=b.pid)[0].at, "it ran twice at once"
    assert (await b.job(job_id))["attempts"] == 0


# --- the lead ------------------------------------------------------------------------------------------------------


async def test_a_leader_that_is_killed_in_mid_tick_is_replaced_and_the_tick_has_one_job(many: Many) -> None:
    members = [await many.start(), await many.start()]
    a = members[0]
    for name in ("each", "other"):
        fields = {"name": name, "cron": "* * * * *", "jobName": "quick", "missed": "once", "tags": [name]}
        answer = await a.post("/api/jobs/schedules", fields)
        assert answer.status_code == 201, answer.text
    await a.post("/api/jobs/schedules/other/disable")
    leading = next(each["pid"] for each in await a.workers() if each["leader"])
    leader, other = sorted(members, key=lambda each: each.pid != leading)
    before = many.query("SELECT count(*) FROM job WHERE tags LIKE '%each%'")[0][0]
    with psycopg.connect(many.url) as lock:
        lock.execute("UPDATE schedule SET next_run = next_run - 60000 WHERE name = 'each'")  # it is due
        lock.commit()
        lock.execute("SELECT 1 FROM schedule WHERE name = 'each' FOR UPDATE")
        await other.post("/api/jobs/schedules/other/enable")  # so that the leader looks
        await many.until(lambda: many.query(WAITING)[0][0])
        leader.signal(signal.SIGKILL)
        lock.rollback()

    async def replaced() -> bool:
        workers = await other.workers()
        return any(each["leader"] and each["pid"] == other.pid for each in workers)

    with trio.fail_after(20):
        await many.until(replaced)
    await many.until(lambda: many.query("SELECT count(*) FROM job WHERE tags LIKE '%each%'")[0][0] > before)
    jobs, ticks = many.query(
        "SELECT (SELECT count(*) FROM job WHERE tags LIKE '%each%'), "
        "(SELECT count(*) FROM schedule_tick WHERE schedule = 'each')"
    )[0]
    assert jobs == ticks, "a tick has had two jobs, or none"


WAITING = """
SELECT EXISTS (
    SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
        AND query LIKE '%schedule%'
)
"""


# --- rolling upgrades ----------------------------------------------------------------------------------------------


async def test_servers_of_this_version_go_on_with_the_schema_of_the_next_and_start_with_it(
    many: Many, cluster: Cluster
) -> None:
    many.url = cluster.create("jobctl_upgrade")
    a = await many.start()
    before = await a.enqueue("quick")
    await many.until(lambda: a.is_there(before, status="completed"))
    ((version,),) = many.query("SELECT max(version) FROM jobctl_schema")
    many.query("ALTER TABLE job ADD COLUMN colour text NOT NULL DEFAULT 'red'")
    many.query(f"INSERT INTO jobctl_schema (version, works_with) VALUES ({version + 1}, {version})")
    after = await a.enqueue("quick")
    await many.until(lambda: a.is_there(after, status="completed"))
    b = await many.start()
    last = await b.enqueue("quick")
    await many.until(lambda: a.is_there(last, status="completed"))


async def test_a_server_does_not_start_with_a_schema_that_it_cannot_use(many: Many, cluster: Cluster) -> None:
    many.url = cluster.create("jobctl_newer")
    a = await many.start()
    assert a.signal(signal.SIGTERM) == 0
    many.query("INSERT INTO jobctl_schema (version, works_with) VALUES (1000, 999)")
    process = a.spawn()
    assert process.wait(60) == 2
    assert "newer jobctl" in a.log().splitlines()[-1]


def settings(many: Many, text: str) -> Path:
    path = many.folder / "jobctl.toml"
    path.write_text(text + "\n")
    return path
