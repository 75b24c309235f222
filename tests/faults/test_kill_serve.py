"""``kill -9`` of a whole ``jobctl serve`` at its calls: clients that had an answer find their jobs, watchers resume."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from pathlib import Path

import apsw
import httpx2
import pytest
import trio

from jobctl.store.check import check
from tests.faults.killing import STRACE, Tracer
from tests.faults.process import Server
from tests.faults.soak import APP, Watcher
from tests.kit import until

pytestmark = [pytest.mark.slow, pytest.mark.faults]
POINTS = 6
LONG = 100
CALLS = {"pwrite64": 150, "fdatasync": 50, "sendto": 60, "recvfrom": 60, "epoll_wait": 150}


async def test_a_server_killed_under_load_keeps_its_word_to_clients_and_watchers(
    tmp_path: Path, long_form: bool
) -> None:
    if STRACE is None:
        if os.environ.get("CI"):
            pytest.fail("strace is needed in CI")
        pytest.skip("strace is not installed")
    seed = random.SystemRandom().randrange(2**32)
    draw, kept = random.Random(seed), set[str]()
    async with Server(tmp_path, app=APP).running() as server, trio.open_nursery() as nursery:
        epoch = (await server.get("/api/jobs")).headers["X-Jobctl-Position"].split(":")[0]
        watchers = [Watcher(server, epoch) for _ in range(3)]
        for watcher in watchers:
            nursery.start_soon(watcher.run)
        for _ in range(LONG if long_form else POINTS):
            syscall = draw.choice(list(CALLS))
            tracer = Tracer(server.pid, syscall, draw.randint(1, CALLS[syscall]))
            try:
                kept |= await post_until_it_dies(server)
            finally:
                tracer.close()
            await server.start()
            assert (await server.get("/api/jobs")).headers["X-Jobctl-Position"].split(":")[0] == epoch

        async def all_ended() -> bool:
            stats = (await server.get("/api/jobs/stats")).json()["data"]
            return not stats["pending"] + stats["running"] + stats["retrying"]

        await until(all_ended, 60)
        head = int((await server.get("/api/jobs")).headers["X-Jobctl-Position"].split(":")[1])
        await until(lambda: all(watcher.seq == head for watcher in watchers), 30)
        assert [watcher.broken for watcher in watchers] == [[], [], []], f"seed {seed}"
        nursery.cancel_scope.cancel()
        assert server.signal(signal.SIGTERM) == 0
    report = check(tmp_path / "jobs.db")
    assert report.ok, report.problems
    lost = kept - ids(tmp_path)
    assert not lost, f"seed {seed}: {len(lost)} of {len(kept)} acknowledged jobs are lost"
    assert len(kept) > POINTS


async def post_until_it_dies(server: Server) -> set[str]:
    """Enqueue until nobody answers any more; the ids that were answered."""
    assert server.process is not None
    kept: set[str] = set()
    with trio.fail_after(60):
        while server.process.poll() is None:
            try:
                answer = await server.post("/api/jobs/batch", [{"name": "work"}, {"name": "fail"}, {"name": "thread"}])
            except httpx2.TransportError:
                continue
            assert answer.status_code == 201
            kept |= {*answer.json()["data"]["ids"]}
    assert server.process.returncode == -signal.SIGKILL
    return kept


def ids(folder: Path) -> set[str]:
    with contextlib.closing(apsw.Connection(str(folder / "jobs.db"))) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM job")}
