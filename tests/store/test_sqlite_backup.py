"""Backups, restores and checks of the SQLite store."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import apsw
import pytest
import trio
from store_kit import add, listed

from jobctl.errors import Conflict, DatabaseDamaged, DatabaseInUse, InvalidInput, NotADatabase, StartupError
from jobctl.model import NewJob
from jobctl.store import backup as backups
from jobctl.store.backup import back_up, restore, target
from jobctl.store.check import check
from jobctl.store.sqlite import SqliteStore, open_store


def opened(folder: Path):  # type: ignore[no-untyped-def]
    return open_store(folder / "jobs.db", state_dir=folder / "state")


async def backed_up(store: SqliteStore, to: Path, **more: Callable[[], None]) -> backups.Backup:
    return await trio.to_thread.run_sync(partial(back_up, store.path, to, **more))


# --- where a backup may go -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["backup.db", "", "./b.db", "../b.db", "~/b.db"])
def test_a_backup_needs_an_absolute_path(text: str) -> None:
    with pytest.raises(InvalidInput, match="absolute") as caught:
        target(text, None)
    assert caught.value.field == "path"


@pytest.mark.parametrize("text", ["/x\0.db", "\0.db"])
def test_a_nul_in_the_path_is_told_as_one(text: str) -> None:
    with pytest.raises(InvalidInput, match="NUL character"):
        target(text, None)


@pytest.mark.parametrize("name", ["jobs", "authorized_keys", "jobctl.service", "x.db.conf", "x.DB", ".db", "x.db\0"])
def test_a_backup_cannot_take_a_name_that_another_program_would_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        target(f"{tmp_path}/{name}", None)


def test_a_backup_replaces_nothing_not_even_a_broken_link(tmp_path: Path) -> None:
    (tmp_path / "there.db").write_text("precious")
    (tmp_path / "link.db").symlink_to(tmp_path / "nowhere")
    for name in ("there.db", "link.db"):
        with pytest.raises(InvalidInput, match="exists already"):
            target(str(tmp_path / name), None)
        with pytest.raises(InvalidInput, match="exists already"):
            back_up(tmp_path / "none.db", tmp_path / name)  # made between the look and the write
    assert (tmp_path / "there.db").read_text() == "precious"


def test_a_backup_stays_in_its_folder_whatever_links_say(tmp_path: Path) -> None:
    inside, outside = tmp_path / "backups", tmp_path / "outside"
    for each in (inside / "deeper", outside):
        each.mkdir(parents=True)
    (inside / "way_out").symlink_to(outside)
    (tmp_path / "way_in").symlink_to(inside)
    assert target(f"{inside}/deeper/a.db", inside) == inside / "deeper" / "a.db"
    assert target(f"{tmp_path}/way_in/a.db", inside) == inside / "a.db"
    for text in (f"{outside}/a.db", f"{inside}/way_out/a.db", f"{inside}/../outside/a.db", f"{tmp_path}/backups.db"):
        with pytest.raises(InvalidInput, match="backup_dir"):
            target(text, inside)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        target(f"{tmp_path}/nope/a.db", None)


# --- what is in it -------------------------------------------------------------------------------------------------


async def test_a_backup_is_one_private_file_that_holds_everything(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for _ in range(3):
            await add(store)
        done = await backed_up(store, tmp_path / "b.db")
    assert (done.path, done.epoch, done.seq) == (str(tmp_path / "b.db"), store.epoch, 3)
    assert done.size == (tmp_path / "b.db").stat().st_size
    assert stat.S_IMODE((tmp_path / "b.db").stat().st_mode) == 0o600
    assert sorted(each.name for each in tmp_path.glob("*b.db*")) == ["b.db"]
    report = check(tmp_path / "b.db")
    assert (report.ok, report.jobs, report.seq, report.copied_from) == (True, 3, 3, f"{store.epoch}:3")


async def test_a_backup_is_of_one_moment_though_the_server_goes_on_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each single page the server commits more, and the file is larger than one page."""
    monkeypatch.setattr(backups, "PAGES", 1)
    async with opened(tmp_path) as store:
        large = NewJob(name="mail", data=b'{"text":"%b"}' % (b"x" * 3000))
        await store.enqueue([large] * 20, owner="ann")
        between = 0

        def write() -> None:
            nonlocal between
            between += 1
            if between <= 30:
                trio.from_thread.run(add, store)

        done = await backed_up(store, tmp_path / "b.db", between=write)
        assert between > 20
        assert len(await listed(store)) > 40
    assert done.seq == 20
    report = check(tmp_path / "b.db")
    assert (report.problems, report.jobs, report.events) == ((), 20, 20)


async def test_a_backup_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await add(store)
        with trio.CancelScope() as scope:
            scope.cancel()
            await backed_up(store, tmp_path / "b.db", between=trio.from_thread.check_cancelled)
        assert scope.cancelled_caught
    assert not list(tmp_path.glob("*b.db*"))


async def test_a_backup_that_cannot_be_written_leaves_nothing_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    async with opened(tmp_path) as store:
        await add(store)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(InvalidInput, match="No space left"):
            await backed_up(store, tmp_path / "b.db")
        monkeypatch.undo()
    assert not list(tmp_path.glob("*b.db*"))


async def test_a_copy_of_a_damaged_database_is_no_backup(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for _ in range(100):
            await add(store)
    damage(store.path)
    with pytest.raises(DatabaseDamaged, match=r"is damaged .* no backup"):
        back_up(store.path, tmp_path / "b.db")
    assert not list(tmp_path.glob("*b.db*"))


async def test_a_backup_can_be_cancelled_while_its_pages_are_looked_at(tmp_path: Path) -> None:
    called = 0

    class CancelledError(Exception): ...

    def between() -> None:
        nonlocal called
        called += 1
        if called > 1:  # the first comes after the only piece of the copy
            raise CancelledError

    async with opened(tmp_path) as store:
        await store.enqueue([NewJob(name="mail", data=b'{"text":"%b"}' % (b"x" * 3000))] * 400, owner="ann")
    with pytest.raises(CancelledError):
        back_up(store.path, tmp_path / "b.db", between=between)
    assert not list(tmp_path.glob("*b.db*"))


# --- putting it back -----------------------------------------------------------------------------------------------


async def test_a_restored_backup_begins_a_new_epoch(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await add(store)
        await backed_up(store, tmp_path / "b.db")
        await add(store)
    done = await trio.to_thread.run_sync(partial(restore, tmp_path / "b.db", store.path, replace=True))
    assert done.seq == 1
    assert done.replaced is not None
    assert check(Path(done.replaced)).jobs == 2
    async with opened(tmp_path) as again:
        assert again.epoch != store.epoch
        assert len(await listed(again)) == 1
        first = again.epoch
    async with opened(tmp_path) as third:
        assert third.epoch == first


async def test_a_backup_copied_into_place_by_hand_begins_a_new_epoch(tmp_path: Path) -> None:
    """Even one to which nothing was added: the same epoch and number as the high-water mark."""
    async with opened(tmp_path) as store:
        await add(store)
        await backed_up(store, tmp_path / "b.db")
    for each in tmp_path.glob("jobs.db*"):
        each.unlink()
    (tmp_path / "jobs.db").write_bytes((tmp_path / "b.db").read_bytes())
    async with opened(tmp_path) as again:
        assert again.epoch != store.epoch
        assert len(await listed(again)) == 1


async def test_files_copied_by_hand_are_restored_with_their_write_ahead_log(tmp_path: Path) -> None:
    by_hand = tmp_path / "copy"
    by_hand.mkdir()
    async with opened(tmp_path) as store:
        await add(store)
        for name in ("jobs.db", "jobs.db-wal"):
            (by_hand / name).write_bytes((tmp_path / name).read_bytes())
    restore(by_hand / "jobs.db", tmp_path / "jobs.db", replace=True)
    async with opened(tmp_path) as again:
        assert again.epoch != store.epoch
        assert len(await listed(again)) == 1


@pytest.mark.parametrize("replace", [False, True])
async def test_a_write_ahead_log_without_its_database_is_moved_away_too(tmp_path: Path, replace: bool) -> None:
    async with opened(tmp_path) as store:
        await add(store)
        await backed_up(store, tmp_path / "b.db")
        await add(store)
        log = (tmp_path / "jobs.db-wal").read_bytes()
    store.path.unlink()  # somebody has removed the file of a server that was killed, and left what stands beside it
    (tmp_path / "jobs.db-wal").write_bytes(log)
    done = restore(tmp_path / "b.db", store.path, replace=replace)
    report = check(store.path)
    assert (report.problems, report.jobs) == ((), 1)
    assert done.replaced is not None
    assert Path(f"{done.replaced}-wal").read_bytes() == log


async def test_nothing_is_restored_over_a_server_that_runs(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await add(store)
        await backed_up(store, tmp_path / "b.db")
        with pytest.raises(DatabaseInUse):
            restore(tmp_path / "b.db", store.path, replace=True)
        await add(store)
        assert len(await listed(store)) == 2


async def test_a_database_is_replaced_only_when_that_is_said(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await backed_up(store, tmp_path / "b.db")
        await add(store)
    with pytest.raises(Conflict, match="--replace"):
        restore(tmp_path / "b.db", store.path)
    with pytest.raises(Conflict, match="onto itself"):
        restore(store.path, store.path, replace=True)
    assert check(store.path).jobs == 1


async def test_a_damaged_backup_is_not_restored(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await add(store)
        await backed_up(store, tmp_path / "b.db")
    edit(tmp_path / "b.db", "UPDATE counter SET n = n + 1")
    with pytest.raises(NotADatabase, match="damaged"):
        restore(tmp_path / "b.db", tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


# --- checks --------------------------------------------------------------------------------------------------------


def edit(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def damage(path: Path, first: int = 2) -> None:
    """Overwrite the beginning of every so manieth page."""
    raw = bytearray(path.read_bytes())
    page = int.from_bytes(raw[16:18], "big")
    for start in range(page * first, len(raw), page):
        raw[start : start + 200] = b"\xff" * 200
    path.write_bytes(raw)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return trio.run(_database, tmp_path)


async def _database(tmp_path: Path) -> Path:
    async with opened(tmp_path) as store:
        for _ in range(4):
            await add(store)
        claims = await store.claim(2, worker="w", limits={}, busy={})
        await store.delete((await listed(store))[0].id, owner=None)
        assert len(claims.claims) == 2
    return store.path


def test_a_sound_database_has_no_problems(database: Path) -> None:
    report = check(database)
    assert (report.ok, report.problems, report.jobs, report.events) == (True, (), 3, 7)
    assert set(report.checks) >= {"pages", "counters", "event log", "epoch"}


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE counter SET n = n + 1 WHERE status = 'running' AND owner = ''", "of all, queue default, running"),
        ("DELETE FROM counter WHERE owner <> ''", "counter of "),
        ("INSERT INTO counter VALUES ('eve', 'default', 'failed', 3)", "counter of eve, queue default, failed: 3"),
        ("DELETE FROM job WHERE status = 'running'", "running: 2, but there are 0"),
        ("DELETE FROM job_event WHERE seq = 3", "event log: 2 is followed by 4"),
        ("DELETE FROM job_event WHERE seq = 7", "it ends at 6, but numbers were given out up to 7"),
        ("UPDATE job SET seq = 99 WHERE status = 'running'", "jobs: 2 have an event"),
        ("DELETE FROM meta WHERE key = 'epoch'", "epoch: there is none"),
    ],
)
def test_every_promise_that_is_broken_is_told(database: Path, statement: str, told: str) -> None:
    edit(database, statement)
    report = check(database)
    assert not report.ok
    assert told in "\n".join(report.problems)


def test_a_log_that_was_pruned_at_its_start_is_sound(database: Path) -> None:
    edit(database, "DELETE FROM job_event WHERE seq <= 4")
    assert check(database).ok
    edit(database, "DELETE FROM job_event")
    assert check(database).ok


@pytest.mark.parametrize("first", [1, 2, 12])
def test_broken_pages_are_found(database: Path, first: int) -> None:
    damage(database, first)
    report = check(database)
    assert not report.ok
    assert len(report.problems) >= 1


@pytest.mark.parametrize("content", [b"", b"no database" * 100, None])
def test_what_is_no_database_of_ours_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.db"
    if content is not None:
        path.write_bytes(content)
    else:
        edit(path, "CREATE TABLE t (x)")
    with pytest.raises(NotADatabase):
        check(path)


def test_what_is_not_there_or_newer_is_an_error(tmp_path: Path, database: Path) -> None:
    with pytest.raises(StartupError, match="no such file"):
        check(tmp_path / "nope.db")
    edit(database, "PRAGMA user_version = 999")
    with pytest.raises(NotADatabase, match="newer"):
        check(database)


def test_a_check_changes_nothing(database: Path) -> None:
    before = database.read_bytes()
    check(database)
    assert database.read_bytes() == before


def test_a_database_that_was_left_in_the_middle_of_a_change_is_told_as_such(tmp_path: Path, database: Path) -> None:
    """A server killed while it stops may leave a journal, which a look must not take back."""
    copied = tmp_path / "copied"
    copied.mkdir()
    connection = apsw.Connection(str(database))
    connection.pragma("journal_mode", "delete")
    connection.pragma("cache_size", 1)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE job_event SET body = randomblob(9000)")  # more than fits: it is in the file
    for each in database.parent.glob(f"{database.name}*"):
        if each.is_file():
            shutil.copy(each, copied / each.name)
    connection.execute("ROLLBACK")
    connection.close()
    assert (copied / f"{database.name}-journal").stat().st_size > 0
    with pytest.raises(StartupError, match="was left in the middle of a change; start the server on it once"):
        check(copied / database.name)
