"""Handlers that misbehave: their own jobs fail, the server and everybody else's work go on."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import httpx2
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


async def is_running(server: Server, job_id: str) -> bool:
    """Whether it runs, for the first time."""
    job = (await server.get(f"/api/jobs/{job_id}")).json()["data"]
    return (job["status"], job["attempts"]) == ("running", 0)


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


async def test_threads_that_the_interpreter_waits_for_do_not_outlive_the_stop(tmp_path: Path) -> None:
    server = Server(tmp_path, app=APP)
    try:
        await server.start(JOBCTL_GRACE="0.1")
        job_id = await enqueue(server, "pool")
        await until(lambda: is_running(server, job_id), 30)
        assert await trio.to_thread.run_sync(server.signal, signal.SIGTERM) == 0
        assert f"jobs whose handlers do not let themselves be stopped: {job_id}" in server.log()
        await server.start()
        await until(lambda: is_running(server, job_id), 30)
    finally:
        server.clean_up()


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
        for name in ("recurses", "sinks", "nests"):
            endless = await run(server, name)
            assert endless["status"] == "failed"
            assert "RecursionError: maximum recursion depth exceeded" in endless["error"].split("\n")[0]
        in_the_loop = await log_of(server, await run(server, "chats"))
        dropped = [int(found[1]) for line in in_the_loop if (found := re.match(r"\((\d+) lines dropped", line))]
        assert in_the_loop.count("x" * 1000) + sum(dropped) == 12_000, "lines went, and it was not said"
        assert len(in_the_loop) == in_the_loop.count("x" * 1000) + len(dropped)
        in_a_thread = await log_of(server, await run(server, "chats-in-a-thread"))
        assert in_a_thread[-1] == "(log cut: this run has written 10 MiB)"
        assert {*in_a_thread[:-1]} == {"x" * 1000}
        assert 9.5 * 1024**2 < len(in_a_thread) * 1000 <= 10 * 1024**2
        assert (await run(server, "leaks"))["status"] == "completed"
        assert (await run(server, "noop"))["status"] == "completed"
        await until(lambda: memory_of(server.pid) < before + 100 * 1024**2)
        assert server.signal(signal.SIGTERM) == 0
    finally:
        server.clean_up()


async def log_of(server: Server, job: dict[str, Any]) -> list[str]:
    """All of it, without a gap."""
    assert job["status"] == "completed", job
    lines: list[dict[str, Any]] = []
    path = f"/api/jobs/{job['id']}/logs"
    while page := (await server.get(f"{path}?after={len(lines)}&limit=1000")).json()["data"]["lines"]:
        lines += page
    assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["text"] for line in lines]


async def test_a_hoarder_takes_its_own_job_along_or_the_process_and_nobodys_work(tmp_path: Path) -> None:
    """At the limit anybody's next request for memory fails, not only the hoarder's; a supervisor is there."""
    server = Server(tmp_path, app=APP)
    async with server.running():
        before = memory_of(server.pid)
        limit = 2 * 1024**3
        resource.prlimit(server.pid, resource.RLIMIT_AS, (limit, limit))
        greedy = await enqueue(server, "hoards", maxAttempts=2)
        others: set[str] = set()
        deaths = 0
        with trio.fail_after(120):
            while True:
                assert server.process is not None
                if server.process.poll() is not None:
                    deaths += 1
                    assert deaths <= 2
                    await server.start()
                    resource.prlimit(server.pid, resource.RLIMIT_AS, (limit, limit))
                with contextlib.suppress(httpx2.TransportError):
                    answer = await server.post("/api/jobs", {"name": "noop"})
                    if answer.status_code == 201:
                        others.add(answer.json()["data"]["id"])
                    if (await server.get(f"/api/jobs/{greedy}")).json()["data"]["status"] in ENDED:
                        break
        job = await ended(server, greedy)
        assert (job["status"], job["attempts"]) == ("failed", 2)
        for other in others:
            assert (await ended(server, other))["status"] == "completed"
        await until(lambda: memory_of(server.pid) < before + 200 * 1024**2)


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
    (tmp_path / "jobctl.toml").write_text("[stream]\nping_interval = 0.5\ndead_after = 3.0\n")
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
                await run(server, "blocks", data={"seconds": 5.0})
                assert "(blocks) blocks it" in server.log()
            else:
                server.signal(signal.SIGSTOP)
                await trio.sleep(5.0)
                server.signal(signal.SIGCONT)
            await run(server, "noop")
            head = int((await server.get("/api/jobs")).headers["X-Jobctl-Position"].split(":")[1])
            await until(lambda: seen and seen[-1] == head)  # a cut connection would have raised
            assert seen == list(range(1, head + 1))
            nursery.cancel_scope.cancel()
