"""The main job end to end, by the commands that people use: a file of real jobs, watched to the end by everybody.

``ACCEPTANCE_JOBS=10000 ACCEPTANCE_STALL=20 pytest tests/integration/test_main_job.py`` is the long form.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import warm

from jobctl import auth
from jobctl.protocol import messages
from tests.kit import LOOPBACK, RawPeer, until

JOBS = int(os.environ.get("ACCEPTANCE_JOBS", "600"))
STALL_S = float(os.environ.get("ACCEPTANCE_STALL", "2"))
SLOW_BYTES_PER_S = 256 * 1024
LIMIT_S = 60 + JOBS / 20
ROOT = Path(__file__).parents[2]


APP = ("--app", "tests.acceptance_tasks")
Process = subprocess.Popen[bytes] | warm.Command


class Served:
    """``jobctl serve`` in a process of its own, on a port that stays the same over restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind((LOOPBACK, 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("JOBCTL_")},
            "JOBCTL_STATE_DIR": str(self.state),
            "PYTHONPATH": str(ROOT),
        }
        self.process: Process | None = None
        self.log = folder / "server.log"
        self._before = 0
        self.children: list[warm.Command] = []

    def command(self, *words: str, stdout: int, stderr: int, **more: Any) -> warm.Command:
        return warm.Command(
            [*words], cwd=self.folder, env=self.environment, stdout=stdout, stderr=stderr, **more
        )

    async def start(self, *under: str) -> None:
        """Start the server, under another program if one is named."""
        words = ["serve", "--port", str(self.port), "--db", "jobs.db", *APP]
        with self.log.open("ab") as log:
            self._before = log.tell()
            if under:
                self.process = subprocess.Popen(  # noqa: ASYNC220
                    [*under, sys.executable, "-m", "jobctl", *words], cwd=self.folder, env=self.environment,
                    stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            else:
                self.process = self.command(*words, stdout=log.fileno(), stderr=log.fileno(), start_new_session=True)
        await until(self._listens, 30)

    def _listens(self) -> bool:
        """It has said so. Its port answers before that, and before there is a secret."""
        assert self.process is not None
        said = self.log.read_bytes()[self._before :]
        assert self.process.poll() is None, said.decode()
        return b"listens on" in said

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def token(self, ttl: float = 900) -> str:
        secret = auth.read_secret(self.state)
        assert secret is not None
        return auth.mint(secret, subject="root", role="admin", ttl=ttl)

    def get(self, path: str) -> tuple[Any, str]:
        """The ``data`` and the position of a GET."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token()}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"], answer.headers["X-Jobctl-Position"]

    def post(self, path: str, body: Any) -> int:
        """The status of a POST."""
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token()}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)

    def run(self, *words: str) -> warm.Command:
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            child = self.command(*words, stdout=out.fileno(), stderr=err.fileno())
        self.children.append(child)
        return child

    async def finish(self, child: warm.Command) -> list[str]:
        """Wait for a command that must succeed; its words on stdout."""
        await until(lambda: child.poll() is not None, LIMIT_S)
        assert child.returncode == 0, (self.folder / "err").read_text()
        return (self.folder / "out").read_text().split()

    def clean_up(self) -> None:
        """End whatever still runs, what was started under another program too."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
        for child in (*self.children, *filter(None, [self.process])):
            if child.poll() is None:
                child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(10)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    server = Served(tmp_path)
    await server.start()
    try:
        yield server
    finally:
        server.clean_up()


class Watcher:
    """``jobctl watch --json`` from the start of the log, with its output in a file."""

    def __init__(self, served: Served, url: str, name: str, epoch: str) -> None:
        self.path = served.folder / f"{name}.ndjson"
        with self.path.open("wb") as out, (served.folder / f"{name}.err").open("wb") as err:
            self.process = served.command(
                "watch", "--json", "--since", f"{epoch}:0", "--url", url, stdout=out.fileno(), stderr=err.fileno()
            )
        served.children.append(self.process)

    def numbers(self) -> list[int]:
        lines = self.path.read_bytes().split(b"\n")[:-1]
        return [json.loads(line)["seq"] for line in lines]

    def last(self) -> int:
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - 65536))
            lines = file.read().split(b"\n")
        return int(json.loads(lines[-2])["seq"]) if len(lines) > 1 else 0

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(10)


class CuttingProxy:
    """Passes TCP on, and cuts every connection when told to."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.cuts = 0
        self._scopes: set[trio.CancelScope] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host=LOOPBACK)
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()
            await trio.serve_listeners(self._pass_on, listeners, handler_nursery=nursery)

    def cut(self) -> bool:
        """Whether there was a connection to cut."""
        found = bool(self._scopes)
        for scope in self._scopes:
            scope.cancel()
        self.cuts += found
        return found

    async def _pass_on(self, client: trio.SocketStream) -> None:
        with trio.CancelScope() as scope, contextlib.suppress(OSError, trio.BrokenResourceError):
            self._scopes.add(scope)
            try:
                server = await trio.open_tcp_stream(LOOPBACK, self.target)
                async with client, server, trio.open_nursery() as nursery:
                    nursery.start_soon(self._copy, client, server, scope)
                    nursery.start_soon(self._copy, server, client, scope)
            finally:
                self._scopes.discard(scope)

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await sink.send_all(data)
        scope.cancel()


def write_jobs(path: Path, n: int) -> None:
    """``n`` jobs over the standard library's own files."""
    library = sorted(Path(json.__file__).parents[1].glob("*.py"))
    with path.open("w") as file:
        for i in range(n):
            job = {"name": "digest", "data": {"path": str(library[i % len(library)])}, "tags": [f"n{i}"]}
            file.write(json.dumps(job) + "\n")


async def read_at(peer: RawPeer, numbers: list[int], head: int, rate: float) -> None:
    """Read updates up to ``head`` at ``rate`` bytes a second."""
    began, taken = trio.current_time(), 0
    while not numbers or numbers[-1] < head:
        message = await peer.hear()
        taken += len(json.dumps(message, separators=(",", ":")))
        if message["type"] == "job_update":
            numbers.append(message["seq"])
        ahead = taken / rate - (trio.current_time() - began)
        if ahead > 0.05:
            await trio.sleep(ahead)


async def follow(served: Served, epoch: str) -> RawPeer:
    peer = await RawPeer.open(served.port, served.token(), buffer=32768)
    await peer.say(messages.SubscribeJobs(stats=False, since=0, epoch=epoch))
    assert (await peer.hear())["recovered"] is True
    return peer


async def test_everybody_sees_every_update_of_a_file_of_jobs_once_and_in_order(served: Served, tmp_path: Path) -> None:
    """Two ``watch --json``, one of them cut off three times; one that reads 256 KB/s; one that stops in the middle."""
    write_jobs(tmp_path / "jobs.ndjson", JOBS)
    epoch = served.get("/api/jobs")[1].split(":")[0]
    proxy = CuttingProxy(served.port)
    head = 3 * JOBS
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(proxy.run)
            steady = Watcher(served, served.url, "steady", epoch)
            cut = Watcher(served, f"http://{LOOPBACK}:{proxy.port}", "cut", epoch)
            slow, stalled = await follow(served, epoch), await follow(served, epoch)
            slow_numbers: list[int] = []
            stalled_numbers: list[int] = []
            async with slow.stream, stalled.stream, trio.open_nursery() as readers:
                readers.start_soon(read_at, slow, slow_numbers, head, SLOW_BYTES_PER_S)
                enqueue = served.run(
                    "enqueue", "--file", "jobs.ndjson", "--url", served.url, "--wait", "--wait-timeout", str(LIMIT_S)
                )
                while len(stalled_numbers) < JOBS // 4:
                    message = await stalled.hear()
                    if message["type"] == "job_update":
                        stalled_numbers.append(message["seq"])
                for k in range(3):
                    await until(lambda k=k: cut.last() >= head * (k + 1) // 8, LIMIT_S)
                    await until(proxy.cut, 30)
                await trio.sleep(STALL_S)
                readers.start_soon(read_at, stalled, stalled_numbers, head, 1e9)
                ids = await served.finish(enqueue)
                assert len(set(ids)) == JOBS
                await until(lambda: steady.last() == cut.last() == head, LIMIT_S)
            nursery.cancel_scope.cancel()
    steady.end()
    cut.end()
    assert proxy.cuts == 3
    everything = list(range(1, head + 1))
    assert steady.numbers() == everything
    assert cut.numbers() == everything
    assert slow_numbers == everything
    assert stalled_numbers == everything
    stats, _ = served.get("/api/jobs/stats")
    assert (stats["completed"], stats["total"]) == (JOBS, JOBS)
    assert served.end() == 0


async def test_a_server_killed_half_way_loses_no_acknowledged_job_and_no_watcher_misses_an_update(
    served: Served, tmp_path: Path
) -> None:
    write_jobs(tmp_path / "jobs.ndjson", JOBS)
    epoch = served.get("/api/jobs")[1].split(":")[0]
    with trio.fail_after(LIMIT_S):
        watchers = [Watcher(served, served.url, f"watcher{k}", epoch) for k in range(2)]
        first = {"name": "digest", "data": {"path": __file__}}
        assert await trio.to_thread.run_sync(served.post, "/api/jobs", first) == 201
        await until(lambda: all(watcher.last() == 3 for watcher in watchers), LIMIT_S)  # both are there
        enqueue = served.run("enqueue", "--file", "jobs.ndjson", "--url", served.url)
        await until(lambda: watchers[0].last() > JOBS * 3 // 2, LIMIT_S)
        served.end(signal.SIGKILL)
        await served.start()
        ids = await served.finish(enqueue)
        assert len(set(ids)) == JOBS

        def all_done() -> bool:
            return bool(served.get("/api/jobs/stats")[0]["completed"] == JOBS + 1)

        await until(all_done, LIMIT_S)
        position = served.get("/api/jobs/stats")[1]
        assert position.split(":")[0] == epoch
        head = int(position.split(":")[1])
        await until(lambda: all(watcher.last() == head for watcher in watchers), LIMIT_S)
    for watcher in watchers:
        watcher.end()
        assert watcher.numbers() == list(range(1, head + 1))
    found: set[str] = set()
    cursor = ""
    while True:
        page, _ = served.get(f"/api/jobs?limit=200{cursor}")
        found |= {job["id"] for job in page["jobs"]}
        if not page["hasMore"]:
            break
        cursor = f"&cursor={page['cursor']}"
    assert len(found) == JOBS + 1
    assert found > set(ids)


async def test_every_post_is_synced_to_the_disk_before_its_reply(tmp_path: Path) -> None:
    """Seen from outside: ``strace`` has a completed sync between any two 201s that leave the process."""
    strace = shutil.which("strace")
    if strace is None:
        if os.environ.get("CI"):
            pytest.fail("strace is needed in CI")
        pytest.skip("strace is not installed")
    n, trace = 12, tmp_path / "trace"
    served = Served(tmp_path)
    try:
        await served.start(strace, "-f", "-s", "24", "-e", "trace=fdatasync,fsync,sendto,write", "-o", str(trace))
        body = {"name": "digest", "data": {"path": "/nowhere"}, "delay": 3600}
        for _ in range(n):
            assert await trio.to_thread.run_sync(served.post, "/api/jobs", body) == 201
    finally:
        served.clean_up()
    synced = replied = 0
    for line in trace.read_text().splitlines():
        if "sync" in line and line.endswith("= 0"):
            synced += 1
        elif "HTTP/1.1 201" in line:
            replied += 1
            assert synced >= 1, f"reply {replied} left without a sync since the one before"
            synced = 0
    assert replied == n
