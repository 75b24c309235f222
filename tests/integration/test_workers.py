"""Who runs jobs, as the API, the stream and the command line show it. Several processes: see test_many_servers."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
import trio
from cli_kit import Cli, cli
from rest_kit import Api, api, make_api, user

from jobctl import __version__
from jobctl.client import Client
from jobctl.engine import lease
from jobctl.engine.registry import Registry
from jobctl.model import JobQuery
from jobctl.schedule import ScheduleSpec, ScheduleState
from jobctl.store.workers import NewWorker
from tests.kit import Peer, Running, StartServer, until

__all__ = ["api", "cli", "make_api"]


@pytest.fixture
async def known(server: Running, cli: Cli) -> Running:
    cli.url = f"http://127.0.0.1:{server.port}"
    return server


def worker(name: str = "host:1", **fields: Any) -> NewWorker:
    return NewWorker(**{
        "id": name, "kind": "work", "host": "host", "pid": 1, "version": "1", "slots": 4, "handlers": ("mail",)
    } | fields)  # fmt: skip


async def test_a_server_is_listed_with_its_slots_and_what_it_can_run(server: Running) -> None:
    async with Client(f"http://127.0.0.1:{server.port}", token=server.token()) as client:
        (here,) = await client.workers()
    assert here.id == f"{socket.gethostname()}:{os.getpid()}"
    assert (here.kind, here.host, here.pid, here.version) == ("serve", socket.gethostname(), os.getpid(), __version__)
    assert (here.slots, here.state, here.leader, here.handlers) == (10, "live", True, ("hold",))


async def test_a_heartbeat_tells_how_many_slots_are_in_use(server: Running) -> None:
    await server.hold(2)

    async def counted() -> bool:
        return [each.running for each in await server.store.workers.all()] == [2]

    await until(counted)


async def test_a_job_is_shown_where_it_runs_by_that_workers_id(server: Running) -> None:
    (job_id,) = await server.hold()
    (here,) = await server.store.workers.all()
    assert (await server.store.job(job_id, owner=None)).value.processing_by == here.id


async def test_workers_are_for_admins(api: Api) -> None:
    await api.store.workers.join(worker())
    (await api.get("/api/workers", bearer=user("ann"))).problem(403, "forbidden")
    (await api.get("/api/workers?x=1")).problem(422, "invalid")
    (told,) = (await api.get("/api/workers")).data["workers"]
    assert told.keys() == {
        "id", "kind", "host", "pid", "version", "startedAt", "seenAt", "state", "slots", "running", "leader", "handlers"
    }  # fmt: skip


async def test_the_list_of_workers_is_304_until_it_changes(api: Api) -> None:
    await api.store.workers.join(worker())
    tag = (await api.get("/api/workers")).headers["etag"]
    assert (await api.get("/api/workers", headers=[("If-None-Match", tag)])).status == 304
    await api.store.workers.beat("host:1", running=3, lead=True)
    assert (await api.get("/api/workers", headers=[("If-None-Match", tag)])).status == 200


async def test_a_worker_that_has_left_is_not_listed(start_server: StartServer) -> None:
    server = await start_server()
    assert len(await server.store.workers.all()) == 1
    await server.service.engine.drain()
    assert await server.store.workers.all() == ()


async def test_a_stop_that_is_cut_off_while_handlers_go_on_does_not_give_the_lease_up(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server()
    engine = server.service.engine
    abandoned: list[Any] = []
    with monkeypatch.context() as patched:
        patched.setattr(engine.runner, "drain", trio.sleep_forever)
        patched.setattr(type(engine.runner), "left", ("a run",))
        patched.setattr(engine.lease, "abandon", abandoned.append)
        with trio.move_on_after(0.05):
            await engine.drain()
        assert [each() for each in abandoned] == [True]
    assert len(await server.store.workers.all()) == 1


# --- the stream ----------------------------------------------------------------------------------------------------


async def subscribe(peer: Peer, **options: Any) -> None:
    await peer.say(type="subscribe_jobs", stats=False, **options)
    await peer.hear_until("jobs_subscribed")


async def test_whoever_asks_gets_all_workers_at_once_and_again_when_something_has_changed(server: Running) -> None:
    await until(lambda: server.service.engine.lease.workers)
    async with server.peer() as peer:
        await subscribe(peer, workers=True)
        first = await peer.hear_until("workers_update")
        assert first.keys() == {"type", "workers", "timestamp"}
        assert [each["running"] for each in first["workers"]] == [0]
        await server.hold()
        assert [each["running"] for each in (await peer.hear_until("workers_update"))["workers"]] == [1]


async def test_heartbeats_alone_are_not_told(server: Running) -> None:
    own = server.service.engine.lease
    await until(lambda: own.workers)
    async with server.peer() as peer:
        await subscribe(peer, workers=True)
        seen = (await peer.hear_until("workers_update"))["workers"][0]["seenAt"]
        await own._beat()
        await until(lambda: own.workers[0].seen_at > seen)
        await own._beat()
        await peer.say(type="ping")
        assert (await peer.hear())["type"] == "pong"


async def test_users_are_refused_workers_and_get_their_jobs(server: Running) -> None:
    async with server.peer("ann", "user") as peer:
        await peer.say(type="subscribe_jobs", stats=False, workers=True)
        assert (await peer.hear())["type"] == "jobs_subscribed"
        told = await peer.hear()
        assert (told["type"], told["code"]) == ("error", "forbidden")
        await server.enqueue(owner="ann")
        assert (await peer.hear())["type"] == "job_update"


async def test_whoever_did_not_ask_hears_nothing_of_workers(server: Running) -> None:
    async with server.peer() as peer:
        await subscribe(peer, workers=False)
        await server.service.engine.lease._beat()
        await server.enqueue()
        assert (await peer.hear())["type"] == "job_update"


# --- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaves", [False, True], ids=["there", "just restarting"])
async def test_a_schedule_fires_where_another_process_has_its_handler(
    start_server: StartServer, postgres_url: str, leaves: bool
) -> None:
    registry = Registry()

    @registry.job("here")
    async def here(ctx: Any) -> None: ...

    server = await start_server(registry, db=postgres_url, durability="full")
    lease = server.service.engine.lease
    await until(lambda: lease.leader)
    await server.store.workers.join(worker("host:2", handlers=("far", "away")))
    await until(lambda: any(each.id == "host:2" for each in lease.workers))
    if leaves:
        await server.store.workers.leave("host:2")
        await until(lambda: all(each.id != "host:2" for each in lease.workers))
    for name in ("away", "nowhere"):
        spec = ScheduleSpec(name=name, cron="* * * * *", timezone="UTC", job_name=name, missed="once")
        await server.store.schedules.add(spec, created_by="root", next_run=server.store.clock() - 120_000)  # type: ignore[attr-defined]

    async def fired() -> bool:
        return len((await server.store.jobs(JobQuery())).value.jobs) == 1 and (await told("nowhere")).error is not None

    async def told(name: str) -> ScheduleState:
        return (await server.store.schedules.one(name)).value

    await until(fired)
    (job,) = (await server.store.jobs(JobQuery())).value.jobs
    assert (job.name, job.status) == ("away", "pending")
    assert (await told("away")).error is None
    assert "nowhere" in ((await told("nowhere")).error or "")


async def test_the_command_line_lists_workers(cli: Cli, known: Running) -> None:
    await until(lambda: known.service.engine.lease.workers)
    done = await cli("workers")
    header, row = done.out.splitlines()
    assert header.split() == ["ID", "KIND", "STATE", "BUSY", "HEARD", "UP", "VERSION", "HANDLERS"]
    assert row.startswith(f"{socket.gethostname()}:{os.getpid()}  serve  live, leads  0/")
    told = (await cli("workers", "--json")).json[0]["workers"]
    assert [each["pid"] for each in told] == [os.getpid()]


async def test_a_list_of_jobs_says_where_each_runs(cli: Cli, known: Running) -> None:
    (waits,) = await known.enqueue()
    (runs,) = await known.hold()
    lines = [line.split("\t") for line in (await cli("jobs", "list")).out.splitlines()]
    assert {line[0]: line[5] for line in lines} == {waits: "", runs: f"{socket.gethostname()}:{os.getpid()}"}


async def test_a_server_goes_on_being_heard(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.02)
    server = await start_server()
    seen: set[str] = set()

    async def heard() -> bool:
        seen.update(each.seen_at for each in await server.store.workers.all())
        return len(seen) > 4

    await until(heard)
