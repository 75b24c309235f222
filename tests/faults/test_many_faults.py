"""A server is frozen, killed, or cut off from the database: its jobs run again elsewhere, and never twice at once."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import trio

from jobctl.engine import proc
from jobctl.engine.lease import EX_TEMPFAIL
from tests.faults.many import Many, Member, following, many
from tests.faults.network import Relay
from tests.postgres_kit import Cluster

__all__ = ["many"]
pytestmark = [pytest.mark.faults, pytest.mark.slow]


async def running(many: Many, at: Member, on: Member, name: str) -> str:
    """A job that runs on that server."""
    job_id = await at.enqueue(name, {"gate": str(many.gate)})
    await many.until(lambda: at.is_there(job_id, status="running", on=on))
    await many.until(lambda: many.marks("begin", pid=on.pid))
    return job_id


async def ended_by(many: Many, at: Member, job_id: str, on: Member) -> None:
    """The job ends, once, where it runs now."""
    many.gate.touch()
    await many.until(lambda: at.is_there(job_id, status="completed"))
    job = await at.job(job_id)
    assert job["result"] == on.pid
    assert [each.pid for each in many.marks("end")] == [on.pid]


async def relayed(many: Many, nursery: trio.Nursery) -> tuple[Relay, str]:
    """A way to the database that can be cut, and its URL."""
    port = int(many.url.rpartition(":")[2].partition("/")[0])
    relay = Relay(port)
    await nursery.start(relay.run)
    return relay, many.url.replace(f":{port}/", f":{relay.port}/")


async def is_back(at: Member, member: Member) -> bool:
    """Whether it has a lease again, another than the one that was lost."""
    mine = [each["state"] for each in await at.workers() if each["pid"] == member.pid]
    return mine == ["live"] and "goes on under a new lease" in member.log()


async def test_what_a_frozen_server_ran_runs_elsewhere_and_when_it_thaws_its_handler_takes_no_step_more(
    many: Many
) -> None:
    a, b = await many.start(handlers=False), await many.start()
    job_id = await running(many, a, b, "hold")
    c = await many.start()
    b.signal(signal.SIGSTOP)
    await many.until(lambda: a.is_there(job_id, status="running", on=c))
    thawed = time.monotonic()
    b.signal(signal.SIGCONT)
    await many.until(lambda: many.marks("told", pid=b.pid))
    assert not [each for each in many.marks("step", "end", pid=b.pid) if each.at > thawed]
    await many.until(lambda: is_back(a, b))
    assert await a.is_there(job_id, status="running", on=c), "the end of the run that was lost has changed something"
    await ended_by(many, a, job_id, on=c)
    again = await b.enqueue("quick")
    await many.until(lambda: a.is_there(again, status="completed"))


async def test_a_function_in_a_thread_ends_with_its_process_when_that_thaws(many: Many) -> None:
    a, b = await many.start(handlers=False), await many.start()
    job_id = await running(many, a, b, "deaf")
    c = await many.start()
    b.signal(signal.SIGSTOP)
    await many.until(lambda: a.is_there(job_id, status="running", on=c))
    b.signal(signal.SIGCONT)
    assert b.process is not None
    with trio.fail_after(30):
        assert await trio.to_thread.run_sync(b.process.wait, 30) == EX_TEMPFAIL
    assert "ends itself" in b.log()
    await ended_by(many, a, job_id, on=c)


async def test_a_handler_that_blocks_the_event_loop_ends_with_its_process_before_it_runs_elsewhere(many: Many) -> None:
    a, b = await many.start(handlers=False), await many.start(kind="work")
    job_id = await running(many, a, b, "block")
    c = await many.start()
    await many.until(lambda: many.marks("begin", pid=c.pid))
    many.gate.touch()
    assert many.marks("step", pid=b.pid)[-1].at < many.marks("begin", pid=c.pid)[0].at, "it ran twice at once"
    assert b.process is not None
    assert await trio.to_thread.run_sync(b.process.wait, 30) == EX_TEMPFAIL
    assert "the event loop does not turn" in b.log()
    await ended_by(many, a, job_id, on=c)
    assert (await a.job(job_id))["attempts"] == 2


async def test_a_clean_up_that_blocks_the_event_loop_ends_with_its_process_too_and_so_do_all_others(
    many: Many, nursery: trio.Nursery
) -> None:
    relay, url = await relayed(many, nursery)
    a = await many.start(handlers=False)
    b = await many.start(kind="work", url=url)
    await running(many, a, b, "deaf")
    await a.enqueue("clings", {"gate": str(many.gate)})
    await many.until(lambda: len(many.marks("begin", pid=b.pid)) == 2)
    c = await many.start(kind="work")
    relay.stopped = True
    await many.until(lambda: len(many.marks("begin", pid=c.pid)) == 2)
    many.gate.touch()
    last = {each.job_id: each.at for each in many.marks("step", pid=b.pid)}
    for begun in many.marks("begin", pid=c.pid):
        assert last[begun.job_id] < begun.at, "it ran twice at once"
    assert b.process is not None
    assert await trio.to_thread.run_sync(b.process.wait, 30) == EX_TEMPFAIL


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
async def test_the_programs_of_a_server_that_was_lost_have_ended_before_they_run_elsewhere(
    many: Many, how: signal.Signals
) -> None:
    marks = many.folder / "programs"
    toml = many.folder / "jobctl.toml"
    toml.write_text(f"""[commands.nap]\nargv = ["/bin/sh", "-c", "echo $$ >> {marks}; exec sleep 600"]\n""")
    a = await many.start(handlers=False)
    b = await many.start("--config", str(toml), handlers=False)
    job_id = await a.enqueue("nap")
    await many.until(lambda: a.is_there(job_id, status="running", on=b))
    await many.until(lambda: len(pids(marks)) == 1)
    c = await many.start("--config", str(toml), handlers=False)
    b.signal(how)
    await many.until(lambda: len(pids(marks)) == 2)
    first, second = pids(marks)
    assert not alive(first), "the program runs twice at once"
    assert alive(second)
    assert await a.is_there(job_id, status="running", on=c)
    if how is signal.SIGSTOP:
        b.signal(signal.SIGCONT)
    await a.post(f"/api/jobs/{job_id}/cancel")
    await many.until(lambda: a.is_there(job_id, status="cancelled"))
    await many.until(lambda: not alive(second))


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def alive(pid: int) -> bool:
    stat = proc.read_stat(pid)
    return stat is not None and stat.state not in "ZX"


async def test_a_server_that_is_cut_off_stops_its_runs_before_others_start_them_and_joins_again(
    many: Many, nursery: trio.Nursery
) -> None:
    relay, url = await relayed(many, nursery)
    a = await many.start(handlers=False)
    b = await many.start(url=url)
    job_id = await running(many, a, b, "hold")
    c = await many.start()
    async with following(b) as heard:
        relay.stopped = True
        await many.until(lambda: a.is_there(job_id, status="running", on=c))
        told, begun = many.marks("told", pid=b.pid), many.marks("begin", pid=c.pid)
        assert told, "its handler was not told to stop"
        assert told[0].at < begun[0].at, "the job ran twice at once"
        ready = await b.get("/readyz")
        assert ready.status_code == 503
        assert "database" in ready.json()["detail"]
        relay.stopped = False
        await many.until(lambda: is_back(a, b))
        await ended_by(many, a, job_id, on=c)
        await many.until(lambda: heard and heard[-1][1] == "completed")
    assert [each for each, _ in heard] == list(range(heard[0][0], heard[-1][0] + 1))
    assert (await b.get("/readyz")).status_code == 200


async def test_the_database_dies_and_comes_back_under_servers_and_their_watchers(many: Many) -> None:
    cluster = Cluster.make()
    cluster.start()
    try:
        many.url = cluster.create("jobs")
        a, b = await many.start(), await many.start()
        ids = [await a.enqueue("quick") for _ in range(5)]
        held = await a.enqueue("hold", {"gate": str(many.gate)})
        await many.until(lambda: a.is_there(held, status="running"))
        async with following(b, f"{(await b.get('/api/server')).json()['data']['epoch']}:0") as heard:
            await trio.to_thread.run_sync(cluster.stop, "immediate")
            assert (await a.post("/api/jobs", {"name": "quick"})).status_code == 503
            await trio.to_thread.run_sync(cluster.start)

            async def answers() -> bool:
                answer = await a.post("/api/jobs", {"name": "quick"})
                ids.extend([answer.json()["data"]["id"]] if answer.status_code == 201 else [])
                return answer.status_code == 201

            await many.until(answers)
            many.gate.touch()
            for each in (*ids, held):
                await many.until(lambda each=each: b.is_there(each, status="completed"))
            head = int((await b.get("/api/jobs/stats")).headers["X-Jobctl-Position"].rpartition(":")[2])
            await many.until(lambda: heard and heard[-1][0] >= head)
        assert [each for each, _ in heard] == list(range(1, head + 1))
        assert len(many.marks("begin")) == len(many.marks("end")) == 1, "an outage shorter than the lease stops nothing"
    finally:
        many.clean_up()
        cluster.remove()


async def test_runs_of_a_server_that_was_killed_are_tried_again_and_count_as_an_attempt(many: Many) -> None:
    a, b = await many.start(handlers=False), await many.start()
    job_id = await running(many, a, b, "hold")
    c = await many.start(kind="work")
    b.signal(signal.SIGKILL)
    await many.until(lambda: a.is_there(job_id, status="running", on=c))
    assert (await a.job(job_id))["attempts"] == 1
    states = {each["pid"]: each["state"] for each in await a.workers()}
    assert states == {a.pid: "live", b.pid: "lost", c.pid: "live"}
    await ended_by(many, a, job_id, on=c)
