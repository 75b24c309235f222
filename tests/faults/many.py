"""Several processes of jobctl on one PostgreSQL: started, frozen, killed and cut off, and what their jobs have done."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
import pytest
import trio

from jobctl import auth
from jobctl.client import Client
from tests.faults.process import Server
from tests.kit import until

LEASE_S: Final = 8.0
"""The shortest that the settings allow."""
PATIENCE_S: Final = 60.0
"""For what takes a lease at most; a busy machine is no failure."""
SECRET: Final = "a secret that all servers have in common"


class Mark(NamedTuple):
    """A line that a handler has written: see ``many_tasks``."""

    what: str
    at: float
    job_id: str
    attempt: int
    pid: int


class Member(Server):
    """``jobctl serve`` or ``jobctl work`` on the database at ``url``."""

    def __init__(self, folder: Path, url: str, *options: str, kind: str = "serve", app: str | None = None) -> None:
        folder.mkdir()
        super().__init__(folder, *options, app=app)
        self.kind = kind
        self._environment |= {
            "JOBCTL_DB": url,
            "JOBCTL_SECRET": SECRET,
            "JOBCTL_POSTGRES__LEASE": str(LEASE_S),
            "MANY_MARKS": str(folder.parent / "marks"),
        }

    def spawn(self, *under: str, **environment: str) -> subprocess.Popen[bytes]:
        port = ["--port", str(self.port)] if self.kind == "serve" else []
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*under, sys.executable, "-m", "jobctl", self.kind, *port, *self._options],
                cwd=self.folder, env=self._environment | environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        return self.process

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        return ("listens on" if self.kind == "serve" else "works as") in self.log()

    def token(self, subject: str = "root", role: str = "admin") -> str:
        return auth.mint(SECRET.encode(), subject=subject, role=role, ttl=900)

    def client(self) -> Client:
        """A client that is signed in as an admin."""
        return Client(self.url, token=self.token())

    async def job(self, job_id: str) -> dict[str, Any]:
        """A job, as this server sees it."""
        told: dict[str, Any] = (await self.get(f"/api/jobs/{job_id}")).json()["data"]
        return told

    async def enqueue(self, name: str, data: dict[str, Any] | None = None, **more: Any) -> str:
        """A new job's id."""
        answer = await self.post("/api/jobs", {"name": name, "data": data or {}, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["data"]["id"])

    async def workers(self) -> list[dict[str, Any]]:
        """All processes, as this server sees them."""
        return list((await self.get("/api/workers")).json()["data"]["workers"])

    async def is_there(self, job_id: str, *, status: str, on: Member | None = None) -> bool:
        """Whether the job has that status, and runs ``on`` that process."""
        job = await self.job(job_id)
        return job["status"] == status and (on is None or f":{on.pid}:" in (job["processingBy"] or ""))


class Many:
    """All of them, in ``folder``; ``url`` is the database's."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.members: list[Member] = []
        self.gate = folder / "gate"

    async def start(self, *options: str, kind: str = "serve", handlers: bool = True, url: str = "") -> Member:
        """Start another; without ``handlers`` it runs no jobs."""
        app = "tests.faults.many_tasks" if handlers else None
        folder = self.folder / f"member{len(self.members)}"
        member = Member(folder, url or self.url, *options, kind=kind, app=app)
        self.members.append(member)
        await member.start()
        return member

    def marks(self, *what: str, pid: int | None = None) -> list[Mark]:
        """What handlers have written."""
        path = self.folder / "marks"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        found = [Mark(word, float(at), job, int(n), int(by)) for word, at, job, n, by in lines]
        return [each for each in found if each.what in what and pid in (None, each.pid)]

    def query(self, sql: str) -> list[Any]:
        """Ask the database itself."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait; a member that has died is told with what it said last."""
        try:
            await until(condition, PATIENCE_S)
        except trio.TooSlowError:
            said = "\n".join(f"{each.folder.name}: {each.log()[-1500:]}" for each in self.members)
            raise AssertionError(f"this did not come true\n{said}") from None

    def clean_up(self) -> None:
        """Nothing is left running."""
        for each in self.members:
            each.clean_up()


@pytest.fixture
async def many(tmp_path: Path, postgres_url: str) -> AsyncIterator[Many]:
    made = Many(tmp_path, postgres_url)
    try:
        yield made
    finally:
        made.clean_up()


@contextlib.asynccontextmanager
async def following(member: Member, since: str | None = None) -> AsyncIterator[list[tuple[int, str]]]:
    """Whoever watches there: the numbers and what they were about, as they come."""
    heard: list[tuple[int, str]] = []
    async with member.client() as client, client.watch(since=since) as watch, trio.open_nursery() as nursery:

        async def read() -> None:
            async for update in watch:
                assert hasattr(update, "seq"), f"updates were lost: {update}"
                job = getattr(update, "job", None)
                heard.append((update.seq, job.status if job else type(update).__name__))

        nursery.start_soon(read)
        await until(lambda: watch.live, PATIENCE_S)
        yield heard
        nursery.cancel_scope.cancel()
