"""When the event log may be trusted to go on, and when it must begin a new epoch."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from store_kit import add, all_events, enqueue, listed, new

from jobctl.errors import ConfigError, StartupError
from jobctl.store import epoch as epochs
from jobctl.store import sqlite
from jobctl.store.backup import back_up
from jobctl.store.check import check
from jobctl.store.sqlite import SqliteStore, open_store

CRASH = """
import os, signal, sys, trio
from pathlib import Path
from jobctl.model import NewJob
from jobctl.store.sqlite import open_store
async def main():
    folder = Path(sys.argv[1])
    async with open_store(folder / "jobs.db", state_dir=folder / "state", durability=sys.argv[2]) as store:
        for _ in range(5):
            await store.enqueue([NewJob(name="mail")], owner="ann")
        await store.claim(2, worker="w", limits={}, busy={})
        print(store.epoch, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
trio.run(main)
"""


def opened(folder: Path, durability: str = "full"):  # type: ignore[no-untyped-def]
    return open_store(folder / "jobs.db", state_dir=folder / "state", durability=durability)


async def epoch_of(folder: Path) -> str:
    async with opened(folder) as store:
        return store.epoch


async def write(folder: Path, jobs: int = 1) -> str:
    """Open, enqueue, stop cleanly."""
    async with opened(folder) as store:
        await enqueue(store, *(new() for _ in range(jobs)))
        return store.epoch


def crash(folder: Path, durability: str) -> str:
    """A server that enqueues five jobs, starts two, and is killed."""
    done = subprocess.run(
        [sys.executable, "-c", CRASH, folder, durability],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.strip()


def copy(store: SqliteStore, to: Path) -> None:
    """A copy of the live files, as a backup program may make it."""
    to.mkdir()
    for name in ("jobs.db", "jobs.db-wal"):
        shutil.copy(store.path.with_name(name), to / name)


def put_back(copied: Path, folder: Path) -> None:
    for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
        folder.joinpath(name).unlink(missing_ok=True)
    for each in copied.iterdir():
        shutil.copy(each, folder / each.name)


async def test_a_clean_stop_keeps_the_epoch(tmp_path: Path) -> None:
    first = await write(tmp_path)
    assert await write(tmp_path) == first
    assert await write(tmp_path, jobs=3) == first


@pytest.mark.parametrize(("durability", "same"), [("full", True), ("normal", False)])
async def test_a_kill_keeps_the_epoch_only_where_every_commit_was_synced(
    tmp_path: Path, durability: str, same: bool
) -> None:
    killed = crash(tmp_path, durability)
    async with opened(tmp_path) as store:
        assert (store.epoch == killed) == same
        assert len(await listed(store)) == 5
        assert len((await store.rescue()).jobs) == 2
        assert [event.seq for event in await all_events(store)] == list(range(1, 10))


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_start_that_is_killed_half_way_keeps_the_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """The database and the mark are two files: between their changes, neither may disown the other."""
    before, calls = await write(tmp_path), 0
    real = epochs.write_mark

    def write_mark(path: Path, mark: epochs.Mark) -> None:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise KeyboardInterrupt
        real(path, mark)

    with monkeypatch.context() as patch:
        patch.setattr(epochs, "write_mark", write_mark)
        with pytest.raises(KeyboardInterrupt):
            await epoch_of(tmp_path)
    assert calls == nth
    assert await epoch_of(tmp_path) == before


async def test_a_crash_counts_for_the_durability_that_was_in_force(tmp_path: Path) -> None:
    killed = crash(tmp_path, "normal")
    async with opened(tmp_path, "full") as store:
        assert store.epoch != killed
    assert crash(tmp_path, "full") == store.epoch
    async with opened(tmp_path, "normal") as again:
        assert again.epoch == store.epoch


async def test_a_clean_stop_keeps_the_epoch_whatever_the_durability(tmp_path: Path) -> None:
    async with opened(tmp_path, "normal") as store:
        await add(store)
    assert await epoch_of(tmp_path) == store.epoch


async def test_a_copy_of_an_earlier_start_begins_a_new_epoch(tmp_path: Path) -> None:
    first = await write(tmp_path)
    shutil.copytree(tmp_path, tmp_path / "backup", ignore=shutil.ignore_patterns("state", "*.lock"))
    await write(tmp_path)
    put_back(tmp_path / "backup", tmp_path)
    assert await epoch_of(tmp_path) != first


async def test_a_copy_of_an_earlier_start_is_recognised_though_nothing_was_written_since(tmp_path: Path) -> None:
    first = await write(tmp_path)
    shutil.copytree(tmp_path, tmp_path / "backup", ignore=shutil.ignore_patterns("state", "*.lock"))
    await epoch_of(tmp_path)
    put_back(tmp_path / "backup", tmp_path)
    assert await epoch_of(tmp_path) != first


@pytest.mark.parametrize("by", ["backup", "clean copy", "a new file"])
async def test_the_log_of_a_killed_server_is_not_applied_to_a_file_copied_over_its_database(
    tmp_path: Path, by: str
) -> None:
    """``cp b.db jobs.db``, and nobody thought of ``jobs.db-wal``."""
    path, other = tmp_path / "jobs.db", tmp_path / "b.db"
    first = await write(tmp_path, jobs=60)
    if by == "backup":
        back_up(path, other)
    elif by == "clean copy":
        shutil.copy(path, other)
    else:
        other.touch()
    assert crash(tmp_path, "full") == first
    log = path.with_name("jobs.db-wal").read_bytes()
    assert len(log) > 0
    path.write_bytes(other.read_bytes())
    if by != "a new file":
        assert (check(path).problems, check(path).jobs) == ((), 60)
    async with opened(tmp_path) as store:
        assert store.epoch != first
        assert len(await listed(store)) == (0 if by == "a new file" else 60)
        await add(store)
    assert check(path).problems == ()
    (kept,) = tmp_path.glob("jobs.db.replaced-*-wal")
    assert kept.read_bytes() == log


async def test_a_log_that_belongs_to_its_database_stays(tmp_path: Path) -> None:
    crash(tmp_path, "full")
    assert check(tmp_path / "jobs.db").jobs == 5
    async with opened(tmp_path) as store:
        assert len(await listed(store)) == 5
    assert not list(tmp_path.glob("*replaced*"))


async def test_a_stop_is_clean_though_another_program_reads_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log can then not be taken away, and it is no error."""
    monkeypatch.setattr(sqlite, "BUSY_MS", 10)  # as long as it is waited for the reader, who does not leave
    async with opened(tmp_path, "normal") as store:
        await add(store)
        reader = apsw.Connection(str(store.path))
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM job").fetchall() == [(1,)]
    assert await epoch_of(tmp_path) == store.epoch
    reader.close()


async def test_a_start_that_another_program_holds_up_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_MS", 10)
    await write(tmp_path)
    reader = apsw.Connection(str(tmp_path / "jobs.db"))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM job").fetchall()
    with pytest.raises(StartupError, match="another program"):
        await write(tmp_path)
    reader.close()
    await write(tmp_path)


async def test_a_copy_of_the_same_start_with_fewer_events_begins_a_new_epoch(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await add(store)
        copy(store, tmp_path / "backup")
        await add(store)
    put_back(tmp_path / "backup", tmp_path)
    async with opened(tmp_path) as restored:
        assert len(await listed(restored)) == 1
        assert restored.epoch != store.epoch


async def test_a_copy_put_back_after_a_kill_is_recognised_by_the_mark(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await add(store)
        copy(store, tmp_path / "backup")
        store._marked = 0.0  # as if a second had passed
        await add(store)
        shutil.copytree(tmp_path / "state", tmp_path / "killed")
    shutil.rmtree(tmp_path / "state")
    shutil.copytree(tmp_path / "killed", tmp_path / "state")
    put_back(tmp_path / "backup", tmp_path)
    assert await epoch_of(tmp_path) != store.epoch


async def test_after_a_new_epoch_the_log_can_be_trusted_again(tmp_path: Path) -> None:
    await write(tmp_path)
    shutil.rmtree(tmp_path / "state")
    second = await write(tmp_path)
    assert await write(tmp_path) == second


@pytest.mark.parametrize("mark", [None, b"", b"{}", b"not JSON", b'{"epoch":"x","boot":"y","seq":0}', b"[" * 100_000])
async def test_without_a_mark_of_its_own_the_log_is_not_trusted(tmp_path: Path, mark: bytes | None) -> None:
    first = await write(tmp_path)
    (path,) = (tmp_path / "state" / "marks").iterdir()
    if mark is None:
        path.unlink()
    else:
        path.write_bytes(mark)
    assert await epoch_of(tmp_path) != first


async def test_a_new_file_begins_a_new_epoch(tmp_path: Path) -> None:
    first = await write(tmp_path)
    for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert await epoch_of(tmp_path) != first


async def test_two_databases_have_their_own_marks(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with (
        open_store(tmp_path / "a.db", state_dir=state) as a,
        open_store(tmp_path / "b.db", state_dir=state) as b,
    ):
        await enqueue(a, new(), new(), new())
    async with open_store(tmp_path / "b.db", state_dir=state) as again:
        assert again.epoch == b.epoch != a.epoch


async def test_the_mark_follows_the_log_and_is_exact_after_a_stop(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        path = epochs.mark_path(tmp_path / "state", store.path)
        await add(store)
        store._marked = 0.0
        await add(store)
        assert epochs.read_mark(path) == epochs.Mark(store.epoch, store._boot, 2)
        await add(store)
    assert epochs.read_mark(path) == epochs.Mark(store.epoch, store._boot, 3)


async def test_a_mark_is_written_when_the_store_falls_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobctl.store.committer.IDLE_AFTER_S", 0.01)
    monkeypatch.setattr(sqlite, "MARK_EVERY_S", 1e9)
    async with opened(tmp_path) as store:
        path = epochs.mark_path(tmp_path / "state", store.path)
        await add(store)
        for _ in range(500):
            if epochs.read_mark(path) == epochs.Mark(store.epoch, store._boot, 1):
                break
            await trio_sleep()
        else:
            pytest.fail("no mark was written")


async def trio_sleep() -> None:
    import trio

    await trio.sleep(0.01)


async def test_a_mark_is_never_ahead_of_what_was_committed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await add(store)

        def fail(tx) -> None:  # type: ignore[no-untyped-def]
            flush = tx.flush

            def flush_and_fail() -> None:
                flush()
                raise OSError("at the last moment")

            tx.flush = flush_and_fail
            tx.seq += 5

        with pytest.raises(Exception, match="nothing was kept"):
            await store.committer.submit(fail)
        store._write_mark()
        assert epochs.read_mark(store._mark) == epochs.Mark(store.epoch, store._boot, 1)


async def test_a_state_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(ConfigError, match="state_dir"):
        await epoch_of(tmp_path)
