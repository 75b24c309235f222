"""The whole server out of file descriptors: it sheds who only waits, what runs goes on, and it recovers by itself."""

from __future__ import annotations

import contextlib
import resource
import signal
from pathlib import Path

import pytest
import trio

from jobctl.protocol import messages
from jobctl.store.check import check
from tests.faults.process import Server
from tests.kit import LOOPBACK, RawPeer, until

pytestmark = [pytest.mark.slow, pytest.mark.faults]
APP = "tests.faults.bad_tasks"
SPARE = 12
"""Descriptors that the server has left when the crowd comes."""
CROWD = 60
EACH = 8
"""Jobs of each kind."""


def descriptors(server: Server) -> int:
    return sum(1 for _ in Path(f"/proc/{server.pid}/fd").iterdir())


async def one_of_the_crowd(server: Server) -> None:
    """Begin a request, never end it, and come back whenever thrown out."""
    while True:
        with contextlib.suppress(OSError):
            async with await trio.open_tcp_stream(LOOPBACK, server.port) as stream:
                await stream.send_all(b"GET /api/jobs HTTP/1.1\r\n")
                await stream.receive_some(1)
        await trio.sleep(0.05)


async def test_work_goes_on_without_a_free_descriptor_and_comes_in_again_afterwards(tmp_path: Path) -> None:
    (tmp_path / "jobctl.toml").write_text('[commands.tool]\nargv = ["true"]\n')
    async with Server(tmp_path, app=APP).running() as server, trio.open_nursery() as nursery:
        peer = await RawPeer.open(server.port, server.token(), buffer=65536)
        seen: list[int] = []

        async def watch() -> None:
            await peer.say(messages.SubscribeJobs(stats=False))
            while True:
                with trio.move_on_after(1):
                    message = await peer.hear()
                    if message["type"] == "job_update":
                        seen.append(message["seq"])

        nursery.start_soon(watch)
        await server.get("/api/jobs")
        # They fall due while there is no descriptor to be had.
        delayed = [
            {"name": name, "delay": 1.5 + n / 10, "maxAttempts": 9}
            for n in range(EACH)
            for name in ("noop", "leaks", "tool")
        ]
        answer = await server.post("/api/jobs/batch", delayed)
        assert answer.status_code == 201, answer.text
        before = descriptors(server)
        _, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (before + SPARE, hard))
        answered = 0
        async with trio.open_nursery() as crowd:
            for _ in range(CROWD):
                crowd.start_soon(one_of_the_crowd, server)
            await until(lambda: "cannot accept connections" in server.log())

            async def all_that_needs_no_descriptor_has_ended() -> bool:
                nonlocal answered
                listed = await server.get("/api/jobs?limit=200")  # which needs one: a connection
                answered += listed.status_code == 200
                ends = [job["status"] for job in listed.json()["data"]["jobs"] if job["name"] != "tool"]
                assert len(ends) == 2 * EACH
                return set(ends) == {"completed"}

            await until(all_that_needs_no_descriptor_has_ended, 30)
            crowd.cancel_scope.cancel()
        assert answered > 3
        assert server.log().count("cannot accept connections") == 1, "it fills the log"
        assert "cannot start true: Too many open files" in server.log(), "the crowd was too small"
        assert (await server.post("/api/jobs", {"name": "noop"})).status_code == 201

        async def all_has_ended() -> bool:
            stats = (await server.get("/api/jobs/stats")).json()["data"]
            return stats["completed"] == 3 * EACH + 1  # what could not start was tried again

        await until(all_has_ended, 60)
        await until(lambda: descriptors(server) <= before + 3)
        head = int((await server.get("/api/jobs")).headers["X-Jobctl-Position"].split(":")[1])
        await until(lambda: len(seen) == head)
        assert seen == list(range(1, head + 1))
        nursery.cancel_scope.cancel()
        await peer.stream.aclose()
        assert server.signal(signal.SIGTERM) == 0
    report = check(tmp_path / "jobs.db")
    assert report.ok, report.problems
