"""The disk is full, fails, is read-only or pulled away: nothing is acknowledged that is not kept, and it recovers."""

from __future__ import annotations

import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import httpx2
import pytest
import trio

from jobctl.engine.registry import Registry
from jobctl.model import JobQuery
from jobctl.store import committer
from tests.faults.disk import Disk, between
from tests.faults.process import Server
from tests.kit import LOOPBACK, Running, StartServer, until

pytestmark = [pytest.mark.slow, pytest.mark.faults]

EVERY = 23
"""A transaction of an enqueue is about ten writes and a sync: half of them fail."""


@pytest.fixture
def disk() -> Iterator[Disk]:
    with between() as made:
        made.recording = False
        yield made


@pytest.fixture
async def served(
    disk: Disk, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> tuple[Running, list[trio.Event]]:
    """A server on that disk. Jobs named ``held`` end when the last event of the list, one that each adds, is set."""
    monkeypatch.setattr(committer, "IDLE_AFTER_S", 0.05)  # how soon it looks by itself whether the disk is well again
    gates: list[trio.Event] = []
    registry = Registry(accept_unknown=True)

    @registry.job("held")
    async def held(ctx: object) -> str:
        gates.append(trio.Event())
        await gates[-1].wait()
        return "done"

    return await start_server(registry, durability="full"), gates


@pytest.fixture
async def http(served: tuple[Running, list[trio.Event]]) -> AsyncIterator[httpx2.AsyncClient]:
    server, _ = served
    headers = {"Authorization": f"Bearer {server.token()}"}
    async with httpx2.AsyncClient(base_url=f"http://{LOOPBACK}:{server.port}", headers=headers) as client:
        yield client


async def post(http: httpx2.AsyncClient, **fields: Any) -> httpx2.Response:
    return await http.post("/api/jobs", json={"name": "noop", **fields})


async def ids(server: Running) -> set[str]:
    return {job.id for job in (await server.store.jobs(JobQuery(limit=200))).value.jobs}


def on(kinds: tuple[str, ...], suffix: str, error: Callable[[], Exception]) -> Callable[[str, str], None]:
    def fail(kind: str, name: str) -> None:
        if kind in kinds and name.endswith(suffix):
            raise error()

    return fail


FAULTS = {
    "full": on(("write",), "", lambda: apsw.FullError("no space left")),
    "EIO on write": on(("write",), "-wal", lambda: apsw.IOError("write")),
    "EIO on sync": on(("sync",), "-wal", lambda: apsw.IOError("sync")),
    "read-only": on(("write", "truncate"), "", lambda: apsw.ReadOnlyError("read-only file system")),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_disk_that_fails_is_told_of_and_recovered_from(
    served: tuple[Running, list[trio.Event]], http: httpx2.AsyncClient, disk: Disk, fault: str
) -> None:
    server, gates = served
    async with server.peer() as peer:
        await peer.say(type="subscribe_jobs", stats=False)
        await peer.hear_until("jobs_subscribed")
        before = (await post(http, name="held")).json()["data"]["id"]
        await until(lambda: len(gates) == 1)
        disk.fail = FAULTS[fault]
        async with trio.open_nursery() as together:  # whole groups fail
            answers: list[httpx2.Response] = []

            async def ask() -> None:
                answers.append(await post(http))

            for _ in range(20):
                together.start_soon(ask)
        assert {answer.status_code for answer in answers} == {503}
        for answer in answers:
            assert answer.json()["code"] == "store_unavailable"
            assert int(answer.headers["Retry-After"]) >= 1
        ready = await http.get("/readyz")
        assert ready.status_code == 503
        assert "the database cannot take writes" in ready.json()["reasons"][0]
        assert (await http.get("/api/jobs")).status_code == 200  # reading goes on
        gates[0].set()  # a job ends while its end cannot be written
        await trio.sleep(0.1)
        assert (await http.get(f"/api/jobs/{before}")).json()["data"]["status"] == "running"
        disk.fail = lambda _kind, _name: None
        await until(lambda: server.store.trouble is None)  # nobody writes, and it is seen all the same
        assert (await http.get("/readyz")).status_code == 200

        async def completed() -> bool:
            return (await http.get(f"/api/jobs/{before}")).json()["data"]["status"] == "completed"

        await until(completed)
        after = await post(http)
        assert after.status_code == 201
        assert await ids(server) == {before, after.json()["data"]["id"]}
        seen = [(await peer.hear_until("job_update"))["seq"] for _ in range(4)]
        assert seen == [1, 2, 3, 4]


async def test_an_answer_is_given_only_for_what_was_kept_whenever_the_disk_fails(
    served: tuple[Running, list[trio.Event]], http: httpx2.AsyncClient, disk: Disk
) -> None:
    """Of what is asked of the disk, one thing in a while fails: the answers and the table agree."""
    server, _ = served
    count = 0

    def fail(kind: str, name: str) -> None:
        nonlocal count
        count += 1
        if not count % EVERY:
            raise apsw.IOError("once in a while")

    told: list[tuple[int, str | None]] = []

    async def ask(n: int) -> None:
        answer = await post(http, data={"n": n})
        told.append((answer.status_code, answer.json().get("data", {}).get("id")))

    disk.fail = fail
    for batch in range(15):
        async with trio.open_nursery() as together:
            for n in range(3):
                together.start_soon(ask, batch * 3 + n)
    disk.fail = lambda _kind, _name: None
    await until(lambda: server.store.trouble is None)
    assert {status for status, _ in told} == {201, 503}
    assert await ids(server) == {job_id for status, job_id in told if status == 201}
    page = await server.store.events(0, limit=500)
    assert [event.seq for event in page.events] == list(range(1, page.head + 1))


@pytest.mark.parametrize("suffix", ["", "-wal"])
async def test_a_file_that_is_moved_away_stops_the_acknowledging_until_it_is_back(
    served: tuple[Running, list[trio.Event]], http: httpx2.AsyncClient, suffix: str, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """SQLite writes on into a file that has no name any more, and whoever restarts finds nothing of it."""
    server, _ = served
    first = (await post(http)).json()["data"]["id"]
    file, away = tmp_path / f"jobs.db{suffix}", tmp_path / "away"
    file.rename(away)
    answer = await post(http)
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    ready = await http.get("/readyz")
    assert ready.status_code == 503
    assert f"{file} was moved or deleted" in ready.json()["reasons"][0]
    assert (await post(http)).status_code == 503
    told = [record.getMessage() for record in caplog.records if "moved or deleted" in record.getMessage()]
    assert len(told) == 1
    away.rename(file)
    await until(lambda: server.store.trouble is None)
    second = await post(http)
    assert second.status_code == 201
    assert await ids(server) == {first, second.json()["data"]["id"]}


async def test_another_file_in_the_databases_place_is_not_taken_for_it(
    served: tuple[Running, list[trio.Event]], http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    server, _ = served
    await post(http)
    copied = (tmp_path / "jobs.db").read_bytes()
    (tmp_path / "jobs.db").unlink()
    (tmp_path / "jobs.db").write_bytes(copied)
    assert (await post(http)).status_code == 503
    await trio.sleep(0.2)  # it looks again meanwhile
    assert server.store.trouble is not None
    assert (await post(http)).status_code == 503
    assert (tmp_path / "jobs.db").read_bytes() == copied


# --- a process of its own, and limits of the system ----------------------------------------------------------------


async def test_a_file_that_may_not_grow_is_no_end_and_growing_again_needs_no_restart(tmp_path: Path) -> None:
    """``RLIMIT_FSIZE`` is a disk that is full for this process alone."""
    async with Server(tmp_path).running() as server:
        kept = [await server.post("/api/jobs", {"name": "noop", "delay": 3600})]
        assert kept[0].status_code == 201
        size = (tmp_path / "jobs.db-wal").stat().st_size
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size + 20_000, resource.RLIM_INFINITY))
        refused = None
        for _ in range(50):
            answer = await server.post("/api/jobs", {"name": "noop", "delay": 3600, "data": {"x": "y" * 9000}})
            if answer.status_code != 201:
                refused = answer
                break
            kept.append(answer)
        assert refused is not None
        assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
        assert refused.headers["Retry-After"]
        assert (await server.get("/readyz")).status_code == 503
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

        async def ready() -> bool:
            return (await server.get("/readyz")).status_code == 200

        await until(ready)
        kept.append(await server.post("/api/jobs", {"name": "noop", "delay": 3600}))
        server.signal(signal.SIGKILL)
        await server.start()
        listed = (await server.get("/api/jobs?limit=200")).json()["data"]["jobs"]
        assert {job["id"] for job in listed} == {answer.json()["data"]["id"] for answer in kept}

