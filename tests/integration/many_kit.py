"""What the tests of many servers share: a PostgreSQL database, PgBouncer before it, and servers as real processes.

Import the fixtures by name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from deployment_kit import CONFIGS, given, program
from proxied_kit import free_port, running

from jobctl import auth
from tests.kit import LOOPBACK, until
from tests.postgres_kit import Cluster, somebody

SECRET = "s" * 48
POOLED = 4
"""Connections of PgBouncer's."""
TASKS = """
import time, trio
from jobctl import job

@job("noop")
async def noop(ctx):
    pass

@job("slow")
async def slow(ctx, seconds=0.05):
    await trio.sleep(seconds)
"""


@pytest.fixture
def new_database(cluster: Cluster) -> str:
    """One in which nothing has ever been done."""
    return cluster.create("many_" + os.environ.get("PYTEST_XDIST_WORKER", "main"))


@pytest.fixture
async def pooled(cluster: Cluster, new_database: str, tmp_path: Path) -> AsyncIterator[str]:
    """The same database through PgBouncer as in ``configs/``, with fewer connections than its clients have."""
    folder, port = tmp_path / "pgbouncer", free_port()
    folder.mkdir()
    name = new_database.rpartition("/")[2]
    config = folder / "pgbouncer.ini"
    where = f"host={LOOPBACK} port={cluster.port} user=jobctl"
    example = given(
        (CONFIGS / "many-servers" / "pgbouncer.ini").read_text(),
        ("jobctl = host=10.0.0.20 port=5432 dbname=jobctl", f"{name} = {where}"),
        ("listen_addr = 10.0.0.21", f"listen_addr = {LOOPBACK}\nunix_socket_dir ="),
        ("listen_port = 6432", f"listen_port = {port}"),
        ("auth_type = scram-sha-256", "auth_type = any"),
        ("default_pool_size = 20", f"default_pool_size = {POOLED}"),
    )
    config.write_text(example)
    who = somebody()  # it does not run as root either
    if who:
        os.chown(folder, who["user"], who["group"])
        for parent in [tmp_path, *tmp_path.parents]:  # and must come to its folder
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
    async with running([program("pgbouncer", in_ci=True), str(config)], folder, port, user=who):
        yield f"postgresql://jobctl@{LOOPBACK}:{port}/{name}"


class Process:
    """A server as a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port
        self.token = auth.mint(SECRET.encode(), subject="root", role="admin")

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(30)

    async def get(self, path: str) -> Any:
        async with self._http() as http:
            answer = await http.get(path)
            assert answer.status_code == 200, answer.text
            return answer.json()["data"]

    async def post(self, path: str, body: object = None) -> Any:
        async with self._http() as http:
            answer = await http.post(path, json=body)
            assert answer.status_code in {200, 201}, answer.text
            return answer.json()["data"]

    async def metric(self, name: str) -> float:
        async with self._http() as http:
            lines = (await http.get("/metrics")).text.splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))

    def _http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=f"http://{LOOPBACK}:{self.port}", headers={"Authorization": f"Bearer {self.token}"}, timeout=20
        )


StartProcess = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start_process(new_database: str, tmp_path: Path) -> AsyncIterator[StartProcess]:
    """Starts servers on the test's database, and ends them with the test. Settings as lines of jobctl.toml."""
    started: list[Process] = []

    async def start(*settings: str, db: str = new_database) -> Process:
        port = free_port()
        folder = tmp_path / f"server-{port}"
        folder.mkdir()
        (folder / "tasks.py").write_text(TASKS)
        lines = [f'db = "{db}"', f"port = {port}", f'state_dir = "{folder}/state"', 'app = "tasks"', *settings]
        (folder / "jobctl.toml").write_text("\n".join(lines) + "\n")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBCTL_")}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        with (folder / "log").open("w+b") as log:
            process = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-m", "jobctl", "serve"], cwd=folder, stdout=log, stderr=log,
                env=environment | {"JOBCTL_SECRET": SECRET}, start_new_session=True,
            )  # fmt: skip
            one = Process(process, port)
            started.append(one)
            await until(lambda: process.poll() is not None or _ready(port), 40)
            log.seek(0)
            assert process.poll() is None, log.read().decode()
        return one

    yield start
    for each in started:
        with contextlib.suppress(ProcessLookupError):
            each.process.kill()
        await trio.to_thread.run_sync(each.process.wait)


async def _ready(port: int) -> bool:
    try:
        async with httpx2.AsyncClient(timeout=2) as http:
            return (await http.get(f"http://{LOOPBACK}:{port}/readyz")).status_code == 200
    except httpx2.HTTPError:
        return False
