"""The SQLite file: how it is set up, that reads and writes do not hold each other up, how rows are found."""
# ruff: noqa: F811  (fixtures are imported by name)

import sys
from pathlib import Path

import apsw
import pytest
import trio
from sqlite_kit import path, store  # noqa: F401
from store_kit import ANN, START_MS, add, ended, enqueue, listed, new, shown

from jobctl.errors import NotFound, StoreUnavailable
from jobctl.model import JobQuery
from jobctl.store import reads, sqlite_claims
from jobctl.store.rows import SQL
from jobctl.store.sqlite import SqliteStore, open_store
from jobctl.store.sqlite_writer import SqliteSnapshot

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

    def broken(snapshot: SqliteSnapshot, query: JobQuery) -> None:
        snapshot.connection.execute("COMMIT")  # as an error of the disk does, this ends the transaction
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
    "history": ((1, 1, 10), "INTEGER PRIMARY KEY"),
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
            tx.state.connection.execute(
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
                found = sqlite_claims.claim(tx, 10, "host:1", {}, {})
            finally:
                tx.state.connection.set_progress_handler(None)
            assert [one.job.unique_key for one in found.claims] == ["k"]
            return ticks

        assert await store.committer.submit(steps) < 50  # 5,000 instructions of SQLite's machine; a scan takes millions


async def test_a_search_that_finds_nothing_runs_in_sqlites_own_code(store: SqliteStore) -> None:
    await enqueue(store, new(tags=("Straße",)))

    def of(connection: apsw.Connection) -> set[str]:
        return {name for (name, *_) in connection.execute("PRAGMA function_list")}

    def functions(snapshot: SqliteSnapshot) -> set[str]:
        return of(snapshot.connection)

    plain = apsw.Connection(":memory:")
    assert (await store._read(functions)).value == of(plain)
    plain.close()
    assert len(await listed(store, q="STRASSE")) == 1
