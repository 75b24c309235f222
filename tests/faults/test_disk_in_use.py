"""The database's file in another program's hands, or no use at all: waited out, refused, or said in one clear line."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import httpx2
import pytest
import trio

from jobctl.model import JobQuery
from jobctl.store import committer, sqlite
from tests.faults.process import Server
from tests.kit import LOOPBACK, StartServer, until

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@contextlib.contextmanager
def locked(path: Path, how: str = "IMMEDIATE") -> Iterator[None]:
    """Another program writes, and does not come to an end."""
    with contextlib.closing(apsw.Connection(str(path))) as other:
        other.execute(f"BEGIN {how}")
        yield


async def test_a_lock_that_stays_fails_whole_groups_and_one_that_goes_is_waited_for(
    start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "IDLE_AFTER_S", 0.05)
    monkeypatch.setattr(sqlite, "BUSY_MS", 300)
    server = await start_server(durability="full")
    headers = {"Authorization": f"Bearer {server.token()}"}
    kept: list[str] = []
    async with httpx2.AsyncClient(base_url=f"http://{LOOPBACK}:{server.port}", headers=headers) as http:

        async def post() -> int:
            answer = await http.post("/api/jobs", json={"name": "noop"})
            if answer.status_code == 201:
                kept.append(answer.json()["data"]["id"])
            else:
                assert answer.json()["code"] == "store_unavailable"
                assert int(answer.headers["Retry-After"]) >= 1
            return answer.status_code

        with locked(tmp_path / "jobs.db"):
            assert {await post(), await post()} == {503}
            ready = await http.get("/readyz")
            assert ready.status_code == 503
            assert "locked" in ready.json()["reasons"][0]
            assert (await http.get("/api/jobs")).json()["data"]["jobs"] == []
        await until(lambda: server.store.trouble is None)
        assert (await http.get("/readyz")).status_code == 200
        async with trio.open_nursery() as nursery:
            with locked(tmp_path / "jobs.db"):
                nursery.start_soon(post)
                await trio.sleep(0.1)
                assert not kept
        assert len(kept) == 1, "it was refused, though the lock went in time"
        assert await post() == 201
    assert {job.id for job in (await server.store.jobs(JobQuery())).value.jobs} == {*kept}


# --- starts that cannot be -----------------------------------------------------------------------------------------


def a_folder(path: Path) -> contextlib.AbstractContextManager[None]:
    path.mkdir()
    return contextlib.nullcontext()


def text(path: Path) -> contextlib.AbstractContextManager[None]:
    path.write_text("no database " * 100)
    return contextlib.nullcontext()


def cut_short(path: Path) -> contextlib.AbstractContextManager[None]:
    path.write_bytes(path.read_bytes()[:5000])
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return contextlib.nullcontext()


def held(path: Path) -> contextlib.AbstractContextManager[None]:
    return locked(path, "EXCLUSIVE")


def as_it_is(path: Path) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


@pytest.mark.parametrize(
    ("spoil", "old", "under", "said"),
    [
        (a_folder, False, (), "jobs.db is a folder; choose a file with --db"),
        (text, False, (), "jobs.db is not a database; choose another file with --db"),
        (cut_short, True, (), "database disk image is malformed"),
        (held, True, (), "another program uses "),
        (as_it_is, False, ("prlimit", "--fsize=20000"), "disk I/O error"),
        (as_it_is, True, ("prlimit", "--nofile=9"), "Too many open files"),
    ],
    ids=["a folder", "a text", "cut short", "locked by another program", "no room", "no descriptors"],
)
async def test_a_start_that_cannot_be_says_why_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], contextlib.AbstractContextManager[None]], old: bool, under: tuple[str, ...],
    said: str,
) -> None:  # fmt: skip
    server = Server(tmp_path)
    try:
        if old:
            await server.start()
            assert (await server.post("/api/jobs", {"name": "noop"})).status_code == 201
            assert server.signal(signal.SIGTERM) == 0
            (tmp_path / "server.log").write_text("")
        with spoil(tmp_path / "jobs.db"):
            process = server.spawn(*under)
            with trio.fail_after(30):
                while process.poll() is None:
                    await trio.sleep(0.02)
        lines = server.log().splitlines()
        assert len(lines) == 1, server.log()
        assert said in lines[0]
        assert process.returncode == 2
    finally:
        server.clean_up()
