"""Handlers that misbehave: their own jobs fail, the server and everybody else's work go on."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from jobctl.protocol import messages
from tests.faults.process import Server
from tests.kit import RawPeer, until

pytestmark = [pytest.mark.slow, pytest.mark.faults]
APP = "tests.faults.bad_tasks"
ENDED = ("completed", "failed", "cancelled")


async def ended(server: Server, job_id: str) -> dict[str, Any]:
    """The job once it has ended."""
    found: dict[str, Any] = {}

    async def over() -> bool:
        found.update((await server.get(f"/api/jobs/{job_id}")).json()["data"])
        return found["status"] in ENDED

    await until(over, 60)
    return found


async def run(server: Server, name: str, **fields: Any) -> dict[str, Any]:
    """The job's end."""
    return await ended(server, await enqueue(server, name, **fields))


async def enqueue(server: Server, name: str, **fields: Any) -> str:
    answer = await server.post("/api/jobs", {"name": name, "maxAttempts": 1, **fields})
    assert answer.status_code == 201, answer.text
    job_id: str = answer.json()["data"]["id"]
    return job_id


def memory_of(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


async def test_a_poison_job_ends_failed_after_its_attempts_under_a_supervisor(tmp_path: Path) -> None:
    """``os._exit`` takes the server along each time; whoever starts it again sees an end to it."""
    server = Server(tmp_path, app=APP)
    async with server.running():
        poison = await enqueue(server, "exits", maxAttempts=3)
        for _ in range(3):
            assert server.process is not None
            await until(lambda: server.process.poll() is not None, 30)
            assert server.process.returncode == 3
            await server.start()
        job = await ended(server, poison)
        assert (job["status"], job["attempts"]) == ("failed", 3)
        assert job["error"] == "the server stopped while this job ran"
        assert (await run(server, "noop"))["status"] == "completed"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space hold on Linux")
async def test_one_server_survives_all_of_them(tmp_path: Path) -> None:
    server = Server(tmp_path, app=APP)
    try:
        await server.start()
        before = memory_of(server.pid)
        limit = 2 * 1024**3
        resource.prlimit(server.pid, resource.RLIMIT_AS, (limit, limit))
        greedy = await run(server, "eats")
        assert (greedy["status"], greedy["error"].split("\n")[0]) == ("failed", "MemoryError")
        huge = await run(server, "huge")
        assert huge["status"] == "failed"
        assert huge["error"].startswith("the result has 100,000,002 bytes")
        chatty = await run(server, "chats")
        assert chatty["status"] == "completed"
        assert (await run(server, "leaks"))["status"] == "completed"
        assert (await run(server, "noop"))["status"] == "completed"
        await until(lambda: memory_of(server.pid) < before + 100 * 1024**2)
        assert server.signal(signal.SIGTERM) == 0
    finally:
        server.clean_up()


async def test_a_child_that_a_handler_left_behind_does_not_keep_the_server_from_starting_again(tmp_path: Path) -> None:
    """A fork has the database's lock and the port; neither may outlive the server."""
    server = Server(tmp_path, app=APP)
    child = None
    try:
        await server.start()
        job = await run(server, "forks")
        assert job["status"] == "completed"
        child = job["result"]
        os.kill(child, 0)
        server.signal(signal.SIGKILL)
        await server.start()
        assert (await run(server, "noop"))["status"] == "completed"
    finally:
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        server.clean_up()


@pytest.mark.parametrize("how", ["a handler blocks the loop", "the process is stopped"])
async def test_whoever_answered_while_nobody_could_hear_it_is_not_dead(tmp_path: Path, how: str) -> None:
    """The loop stands for longer than a silent peer may be silent; those that were not silent stay connected."""
    (tmp_path / "jobctl.toml").write_text("[stream]\nping_interval = 0.2\ndead_after = 1.0\n")
    async with Server(tmp_path, app=APP).running() as server:
        peer = await RawPeer.open(server.port, server.token(), buffer=65536)
        async with peer.stream, trio.open_nursery() as nursery:
            seen: list[int] = []

            async def read() -> None:
                await peer.say(messages.SubscribeJobs(stats=False))
                while True:
                    with trio.move_on_after(0.1):
                        message = await peer.hear()
                        if message["type"] == "job_update":
                            seen.append(message["seq"])
                        continue
                    await peer.say(messages.Ping())

            nursery.start_soon(read)
            await run(server, "noop")
            if how.startswith("a handler"):
                await run(server, "blocks", data={"seconds": 2.5})
                assert "(blocks) blocks it" in server.log()
            else:
                server.signal(signal.SIGSTOP)
                await trio.sleep(2.5)
                server.signal(signal.SIGCONT)
            await run(server, "noop")
            head = int((await server.get("/api/jobs")).headers["X-Jobctl-Position"].split(":")[1])
            await until(lambda: seen and seen[-1] == head)  # a cut connection would have raised
            assert seen == list(range(1, head + 1))
            nursery.cancel_scope.cancel()
