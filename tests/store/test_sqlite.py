"""The SQLite file: who may open it, how it is set up, that reads and writes do not hold each other up."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
import trio
from store_kit import ANN, START_MS, Clock, add, ended, enqueue, listed, new, shown

from jobctl.errors import DatabaseInUse, NotADatabase, NotFound, StartupError, StoreUnavailable
from jobctl.model import JobQuery
from jobctl.store import reads, writes
from jobctl.store.rows import SQL
from jobctl.store.sqlite import SqliteStore, open_store

# --- who may open it -----------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
async def store(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    async with open_store(path, state_dir=path.parent / "state") as opened:
        opened.clock = clock
        yield opened


async def open_fails(path: Path, kind: type[StartupError], state_dir: Path | None = None) -> str:
    with pytest.raises(kind) as caught:
        async with open_store(path, state_dir=state_dir or path.parent / "state"):
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_database_with_a_second_name_is_refused(path: Path) -> None:
    """A hard link would have a lock and a WAL of its own: two servers on one file."""
    async with open_store(path, state_dir=path.parent / "state"):
        pass
    other = path.with_name("other.db")
    other.hardlink_to(path)
    with pytest.raises(StartupError, match="second name"):
        async with open_store(other, state_dir=path.parent / "state"):
            pass


async def test_a_second_server_is_told_who_owns_the_file(store: SqliteStore, path: Path) -> None:
    told = await open_fails(path, DatabaseInUse)
    assert f"process {os.getpid()}" in told
    assert str(path) in told


async def test_another_name_of_the_same_file_does_not_get_past_the_lock(store: SqliteStore, path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    await open_fails(link, DatabaseInUse)
    await open_fails(path.parent / "x" / ".." / path.name, DatabaseInUse)


FORK = """
import os, sys, time
from pathlib import Path
from jobctl.errors import DatabaseInUse
from jobctl.store.lock import own
path = Path(sys.argv[1])
there, here = os.pipe()
with own(path):
    child = os.fork()
    if not child:
        os.write(here, b"!")
        time.sleep(60)
        os._exit(0)
    os.read(there, 1)  # it has come to life, and has let go
    try:
        with own(path):
            sys.exit("the lock is not held")
    except DatabaseInUse:
        pass
try:
    with own(path):
        pass
finally:
    os.kill(child, 9)
"""


def test_a_forked_child_does_not_hold_the_lock(path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", FORK, path], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


async def test_the_file_is_free_again_after_a_stop(path: Path) -> None:
    for _ in range(3):
        async with open_store(path, state_dir=path.parent / "state") as store:
            await add(store)
    assert not path.with_name("jobs.db-wal").exists()


async def test_something_else_is_not_taken_for_a_database(path: Path) -> None:
    path.write_bytes(b"a letter to grandmother, not a database at all\n" * 100)
    before = path.read_bytes()
    assert "is not a database" in await open_fails(path, NotADatabase)
    assert path.read_bytes() == before


async def test_another_programs_database_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    before = path.read_bytes()
    assert "not one of jobctl" in await open_fails(path, NotADatabase)
    assert path.read_bytes() == before


async def test_a_newer_jobctls_database_is_left_alone(path: Path) -> None:
    async with open_store(path, state_dir=path.parent / "state"):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "newer jobctl (schema 99)" in await open_fails(path, NotADatabase)


async def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    async with open_store(path, state_dir=path.parent / "state") as store:
        await add(store)


@pytest.mark.parametrize("page", [1, 2, 3])
async def test_a_damaged_file_is_reported_in_one_line(path: Path, page: int) -> None:
    async with open_store(path, state_dir=path.parent / "state") as store:
        await enqueue(store, *(new() for _ in range(50)))
    raw = bytearray(path.read_bytes())
    start = 100 if page == 1 else (page - 1) * 4096
    raw[start : page * 4096] = b"\xa5" * (page * 4096 - start)
    path.write_bytes(raw)
    assert str(path) in await open_fails(path, StartupError)


async def test_a_new_database_is_its_owners_alone_and_one_that_is_there_keeps_its_mode(path: Path) -> None:
    before = os.umask(0o022)
    try:
        for mode in (0o600, 0o640):
            async with open_store(path, state_dir=path.parent / "state"):
                found = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.glob("jobs.db*")}
            assert found == {"jobs.db": mode, "jobs.db-wal": mode, "jobs.db-shm": mode, "jobs.db.lock": 0o600}
            path.chmod(0o640)
    finally:
        os.umask(before)


async def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    assert "No such file" in await open_fails(tmp_path / "nowhere" / "jobs.db", StartupError)


async def test_a_folder_is_no_database(path: Path) -> None:
    path.mkdir()
    assert str(path) in await open_fails(path, StartupError)


OPEN = """
import sys
from pathlib import Path
import trio
from jobctl.errors import StartupError
from jobctl.store.sqlite import open_store

async def main():
    async with open_store(Path(sys.argv[1]), state_dir=Path(sys.argv[2])):
        pass

try:
    trio.run(main)
except StartupError as error:
    sys.exit(str(error))
"""
BOUND_BY_MODES = () if os.geteuid() else ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""For root, files open whatever their mode, unless it runs without that privilege."""


@pytest.mark.parametrize(
    ("barred", "said"),
    [
        ("", "cannot write beside the database"),
        ("jobs.db", "cannot write the database"),
        ("state/marks", "set state_dir"),
        (None, ""),
    ],
)
async def test_what_cannot_be_written_is_named(tmp_path: Path, barred: str | None, said: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    path, state = folder / "jobs.db", folder / "state"
    async with open_store(path, state_dir=state):
        pass
    path.with_name("jobs.db.lock").unlink()
    if barred is not None:
        shut = folder / barred
        shut.chmod(0o555 if shut.is_dir() else 0o444)
    command = [*BOUND_BY_MODES, sys.executable, "-c", OPEN, str(path), str(state)]
    done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
    folder.chmod(0o755)
    told = done.stderr.decode()
    assert said in told
    assert (done.returncode, told.count("\n")) == ((0, 0) if barred is None else (1, 1)), told


# --- how it is set up ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("normal", 1)])
async def test_the_pragmas_are_in_force(path: Path, durability: str, synchronous: int) -> None:
    async with open_store(path, state_dir=path.parent / "state", durability=durability) as store:

        def ask(tx) -> list[object]:  # type: ignore[no-untyped-def]
            names = ("journal_mode", "synchronous", "foreign_keys", "application_id")
            return [tx.state.connection.pragma(name) for name in names]

        assert await store.committer.submit(ask) == ["wal", synchronous, 1, 0x6A6F6263]
        await store.stats(owner=None)
        assert store._readers[0].pragma("query_only") == 1


async def test_the_bundled_sqlite_is_not_the_one_with_the_wal_reset_bug() -> None:
    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3)


# --- reads ---------------------------------------------------------------------------------------------------------


async def test_no_read_leaves_a_transaction_or_a_cursor_open(store: SqliteStore) -> None:
    job_id = await ended(store)
    for _ in range(2):
        await shown(store, job_id)
        await listed(store, q="x")
        await store.stats(owner=None)
        await store.counters()
        await store.queues()
        await store.logs(job_id, owner=None)
        await store.history(job_id, owner=None)
        await store.events(0, limit=1)
        with pytest.raises(NotFound):
            await shown(store, "nobody")
    assert store._readers
    for reader in store._readers:
        assert not reader.in_transaction
        with pytest.raises(StopIteration):
            next(iter(reader.execute("SELECT 1 WHERE 0")))
    # Nothing keeps an old snapshot: the whole WAL can be put into the file, and cut to nothing.
    other = apsw.Connection(str(store.path))
    ((busy, _, _),) = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    other.close()
    assert busy == 0
    assert store.path.with_name("jobs.db-wal").stat().st_size == 0


async def test_a_read_that_fails_does_not_spoil_the_next(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await add(store)

    def broken(connection: apsw.Connection, query: JobQuery) -> None:
        connection.execute("COMMIT")  # as an error of the disk does, this ends the transaction
        raise apsw.IOError("disk I/O error")

    for _ in range(6):
        with monkeypatch.context() as patch:
            patch.setattr(reads, "jobs", broken)
            with pytest.raises(StoreUnavailable):
                await store.jobs(JobQuery())
        assert len(await listed(store)) == 1


async def test_a_reader_that_cannot_be_rolled_back_is_thrown_away(store: SqliteStore) -> None:
    class Stuck:
        """A connection whose rollback fails, as after an error of the disk."""

        def __init__(self, real: apsw.Connection) -> None:
            self._real = real

        def execute(self, sql: str, *values: object) -> object:
            if sql == "ROLLBACK":
                raise apsw.IOError("disk I/O error")
            return self._real.execute(sql, *values)

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    await listed(store)
    (reader,) = store._readers
    store._readers[:] = [Stuck(reader)]
    with pytest.raises(StoreUnavailable):
        await listed(store)
    assert store._readers == []
    assert await listed(store) == []


async def test_many_readers_at_once_find_their_connections(store: SqliteStore) -> None:
    await add(store)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(300):
                nursery.start_soon(listed, store)
    finally:
        sys.setswitchinterval(before)
    assert len(store._readers) <= 4


async def test_a_reader_taken_between_look_and_grab_is_no_error(store: SqliteStore) -> None:
    class Raced(list[apsw.Connection]):
        def __bool__(self) -> bool:
            return True  # there was one a moment ago

        def __len__(self) -> int:
            return 1

    await add(store)
    store._readers = Raced()
    assert len(await listed(store)) == 1
    store._readers = list(iter(store._readers))


async def test_a_cancelled_reader_gives_its_connection_back(store: SqliteStore) -> None:
    for _ in range(10):
        with trio.move_on_after(0):
            await listed(store)
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.stats(owner=None)
    assert (await store.stats(owner=None)).value.total == 0
    assert all(not reader.in_transaction for reader in store._readers)


async def test_a_closed_store_is_not_opened_again_by_a_read(path: Path) -> None:
    async with open_store(path, state_dir=path.parent / "state") as store:
        await listed(store)
    with pytest.raises(StoreUnavailable):
        await listed(store)
    with pytest.raises(StoreUnavailable):
        await add(store)
    assert store._readers == []


# --- plans ---------------------------------------------------------------------------------------------------------

PLANS = {
    "ready_jobs": (("default", 10), "job_ready"),
    "due_jobs": ((START_MS, 10), "job_due"),
    "next_due": ((), "job_due"),
    "live_by_unique_key": ((ANN, "k"), "job_unique_live"),
    "job_by_id": (("x",), "sqlite_autoindex_job_1"),
    "free_held": ((), "job_held"),
    "held_jobs": ((), "job_held"),
    "running_jobs": ((), "job_status"),
    "events_after": ((0, 10, 10), "INTEGER PRIMARY KEY"),
    "log_start": ((), "job_event"),
    "last_log_line": ((1,), "PRIMARY KEY (job=?"),
    "log_lines": ((1, 0, 10), "PRIMARY KEY (job=? AND n>?"),
    "history": ((1, 10), "INTEGER PRIMARY KEY"),
    "counters_of": (("",), "PRIMARY KEY (owner=?"),
    "remembered": ((ANN, "k", 0), "sqlite_autoindex_idempotency_1"),
    "forget_old": ((0,), "idempotency_at"),
}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200,000 delayed jobs, 200,000 ready ones in a paused queue, and a few that can run."""
    path = tmp_path_factory.mktemp("large") / "jobs.db"
    trio.run(_fill, path)
    return path


async def _fill(path: Path) -> None:
    async with open_store(path, state_dir=path.parent / "state") as store:
        await enqueue(store, new(unique_key="k"), new(queue="paused"))

        def fill(tx) -> None:  # type: ignore[no-untyped-def]
            tx.execute(
                """
                WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000)
                INSERT INTO job (id, name, queue, data, status, priority, max_attempts, created_at, scheduled_for,
                                 created_by, timeout, ready, due, seq)
                SELECT printf('%036d', i), 'mail', iif(i % 2, 'default', 'paused'), x'7b7d', 'pending', 0, 3, 0, NULL,
                       'ann', 1.0, i % 2 = 0, iif(i % 2, 4000000000000 + i, NULL), 1
                FROM n
                """
            )

        await store.committer.submit(fill)
        await store.set_paused("paused", True)


@pytest.mark.parametrize("name", PLANS)
def test_a_claim_and_what_else_is_frequent_looks_things_up(large: Path, name: str) -> None:
    values, index = PLANS[name]
    connection = apsw.Connection(str(large))
    try:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", values)]
    finally:
        connection.close()
    assert any(index in step for step in plan), plan
    for step in plan:
        whole = step.startswith("SCAN") and ("job" in step or "idempotency" in step)
        assert not whole or index in step or "chain" in step, plan
        assert "TEMP B-TREE FOR ORDER BY" not in step or name == "history", plan


async def test_a_claim_reads_no_more_rows_however_many_are_delayed_or_paused(large: Path) -> None:
    async with open_store(large, state_dir=large.parent / "state") as store:

        def steps(tx) -> int:  # type: ignore[no-untyped-def]
            ticks = 0

            def tick() -> bool:
                nonlocal ticks
                ticks += 1
                return False

            tx.state.connection.set_progress_handler(tick, 100)
            try:
                found = writes.claim(tx, 10, "host:1", {}, {})
            finally:
                tx.state.connection.set_progress_handler(None)
            assert [one.job.unique_key for one in found.claims] == ["k"]
            return ticks

        assert await store.committer.submit(steps) < 50  # 5,000 instructions of SQLite's machine; a scan takes millions


async def test_a_search_that_finds_nothing_runs_in_sqlites_own_code(store: SqliteStore) -> None:
    await enqueue(store, new(tags=("Straße",)))

    def functions(connection: apsw.Connection) -> set[str]:
        return {name for (name, *_) in connection.execute("PRAGMA function_list")}

    plain = apsw.Connection(":memory:")
    assert (await store._read(functions)).value == functions(plain)
    plain.close()
    assert len(await listed(store, q="STRASSE")) == 1
