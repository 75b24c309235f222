"""What is acknowledged is on the disk, whatever becomes of its caller; and the orderly stop."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from sqlite_kit import Gate
from store_kit import Clock, add, check_invariants, listed

from jobctl.errors import StoreUnavailable
from jobctl.store.sqlite import SqliteStore, open_store


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    async with open_store(tmp_path / "jobs.db", state_dir=tmp_path / "state") as opened:
        opened.clock = clock
        yield opened
        await check_invariants(opened)


# --- callers -------------------------------------------------------------------------------------------------------


async def test_a_cancelled_caller_neither_loses_nor_doubles_its_write(store: SqliteStore) -> None:
    gate = Gate(store)
    async with trio.open_nursery() as nursery:
        await gate.hold(nursery)
        with trio.CancelScope() as scope:
            nursery.start_soon(open_after_cancel, scope, gate)
            job_id = await add(store)
            assert scope.cancel_called
        assert not scope.cancelled_caught
        assert [job.id for job in await listed(store)] == [job_id]


async def open_after_cancel(scope: trio.CancelScope, gate: Gate) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    gate.open()


async def test_a_caller_cancelled_beforehand_writes_nothing(store: SqliteStore) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await add(store)
    assert scope.cancelled_caught
    assert await listed(store) == []


async def test_a_close_finishes_the_writes_that_wait(tmp_path: Path) -> None:
    done: list[str] = []
    async with open_store(tmp_path / "jobs.db", state_dir=tmp_path / "state") as store:

        async def write() -> None:
            done.append(await add(store))

        async with trio.open_nursery() as nursery:
            gate = Gate(store)
            await gate.hold(nursery)
            for _ in range(20):
                nursery.start_soon(write)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(store.close)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(StoreUnavailable):
                await add(store)
            gate.open()
    assert len(done) == 20
    async with open_store(tmp_path / "jobs.db", state_dir=tmp_path / "state") as store:
        assert {job.id for job in await listed(store)} == set(done)


async def test_a_store_may_be_closed_twice_and_while_cancelled(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with open_store(tmp_path / "jobs.db", state_dir=tmp_path / "state") as store:
            await add(store)
            await store.close()
            scope.cancel()
    assert not (tmp_path / "jobs.db-wal").exists()


async def test_the_writer_thread_ends_with_the_store(tmp_path: Path) -> None:
    before = threading.active_count()
    for _ in range(3):
        async with open_store(tmp_path / "jobs.db", state_dir=tmp_path / "state") as store:
            await add(store)
        assert not store.committer._thread.is_alive()
    assert threading.active_count() <= before + 2  # trio keeps idle threads for a while


# --- durability ----------------------------------------------------------------------------------------------------

ENQUEUE = """
import os, sys, trio
from pathlib import Path
from jobctl.model import NewJob
from jobctl.store.sqlite import open_store
async def main():
    folder = Path(sys.argv[1])
    async with open_store(folder / "jobs.db", state_dir=folder / "state") as store:
        for i in range(int(sys.argv[2])):
            os.write(1, b"ask\\n")
            await store.enqueue([NewJob(name="mail")], owner="ann")
            os.write(1, b"told\\n")
trio.run(main)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows the syncs, and is not installed")
def test_every_enqueue_is_synced_before_it_is_acknowledged(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    traced = "trace=fdatasync,fsync,write,pwrite64"
    done = subprocess.run(
        ["strace", "-f", "-y", "-e", traced, "-o", trace, sys.executable, "-c", ENQUEUE, tmp_path, "10"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "ptrace" in done.stderr.lower() and done.returncode:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr
    story = ""
    for line in trace.read_text().splitlines():
        if re.search(r'write\(1<.*"ask', line):
            story += "A"
        elif re.search(r'write\(1<.*"told', line):
            story += "T"
        elif re.search(r"pwrite64\(\d+<[^>]*-wal>", line):
            story += "" if story.endswith("w") else "w"
        elif re.search(r"f(data)?sync\(\d+<[^>]*-wal>", line):
            story += "s"
    turns = re.findall(r"A([^AT]*)T", story)
    assert len(turns) == 10
    for turn in turns:
        assert turn.endswith("ws"), story  # written, then synced, then acknowledged
