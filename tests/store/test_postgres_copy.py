"""``db copy``: everything goes along, nothing else is overwritten, and half a copy is never taken for a whole one."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import msgspec
import psycopg
import pytest
from store_kit import (
    ANN,
    BEN,
    Clock,
    add,
    all_events,
    check_invariants,
    claim,
    claims,
    ended,
    enqueue,
    head,
    listed,
    new,
    shown,
    started,
)  # fmt: skip

from jobctl.errors import Conflict, DatabaseDamaged, DatabaseInUse, NotADatabase, StartupError, StoreUnavailable
from jobctl.events import Event
from jobctl.model import JobQuery
from jobctl.schedule import ScheduleSpec
from jobctl.store import postgres, postgres_copy, postgres_migrate, sqlite
from jobctl.store.base import Completed, Failed, Idempotency, LogEntry
from jobctl.store.copy_tables import LEFT_OUT, NEW, TABLES
from jobctl.store.postgres_settings import PostgresOptions
from jobctl.store.schedules import Firing
from jobctl.store.tokens import NewSession, NewToken
from tests.postgres_kit import Cluster, wait_until

OPTIONS = PostgresOptions()
LARGE = b'{"text":"' + b"x" * 20_000 + b'"}'
DAY_MS = 86_400_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@contextlib.asynccontextmanager
async def file_store(source: Path, clock: Clock) -> Any:
    async with sqlite.open_store(source, state_dir=source.parent / "state", durability="normal") as store:
        store.clock = clock
        yield store


async def fill(store: Any, clock: Clock) -> dict[str, str]:
    """Something of everything; ids by what is special about them."""
    ids = {"large": await add(store, data=LARGE, tags=("Grün", "x"), owner=BEN)}
    one = await claim(store)
    lines = [LogEntry(clock.ms + n, "log", f"line {n} \0 \u00fc") for n in range(5)]
    assert await store.append_logs(one.job.id, one.run, lines)
    assert await store.progress(one.job.id, one.run, 0.5, "half\0way")
    assert await store.finish(one.job.id, one.run, Completed(LARGE))
    clock.forward(1)
    ids["delayed"] = await add(store, scheduled_for=clock.ms + 3_600_000)
    ids["ended unique"] = await ended(store, unique_key="was-one", queue="mail", priority=9)
    one = await started(store, queue="odd", priority=8)
    assert await store.finish(one.job.id, one.run, Failed("it broke\0", retry=True, delay=60.0))
    ids["retrying"] = one.job.id
    one = await started(store, priority=9, max_attempts=1)
    assert await store.finish(one.job.id, one.run, Failed("for good", retry=False))
    ids["failed"] = one.job.id
    ids["running"] = (await started(store)).job.id
    ids["unique"] = await add(store, unique_key="only-one", priority=7, queue="mail")
    ids["cancelled"] = await add(store, owner=BEN)
    await store.cancel(ids["cancelled"], owner=None)
    gone = await add(store)
    await store.delete(gone, owner=None)
    await store.set_paused("odd", paused=True)
    await store.enqueue([new("kept")], owner=ANN, idempotency=Idempotency("key", b"print"))
    spec = ScheduleSpec(name="nightly", cron="* * * * *", timezone="UTC", job_name="backup")
    state = await store.schedules.add(spec, created_by="root", next_run=clock.ms + 60_000)
    clock.forward(60)
    firing = Firing(
        name="nightly", version=state.version, expected=clock.ms, next_run=clock.ms + 60_000, tick=clock.ms,
        job=new("backup"),
    )  # fmt: skip
    assert (await store.schedules.fire([firing]))[0] is not None
    token = {"subject": ANN, "role": "user", "created_by": "root", "life_ms": DAY_MS}
    await store.access.issue(NewToken(jti="jti", name="ci", **token))
    session = {"subject": ANN, "role": "user", "origin": "jti", "idle_ms": DAY_MS, "life_ms": 3 * DAY_MS}
    await store.access.begin_session(NewSession(id="s", handle=b"h\0", current=b"c", **session))
    return ids


@pytest.fixture
async def filled(source: Path, clock: Clock) -> dict[str, str]:
    async with file_store(source, clock) as store:
        return await fill(store, clock)


def plain(value: Any) -> str:
    """A job or an event as text, in which a NUL is shown as PostgreSQL has it; only their texts have one here."""
    if isinstance(value, Event):
        value = (*msgspec.structs.astuple(value)[:-1], msgspec.json.decode(value.body))
    return msgspec.json.encode(value).decode().replace("\\u0000", "\u2400")


def rows(url: str, sql: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(sql.encode()).fetchall()


async def everything(store: Any, ids: dict[str, str]) -> dict[str, Any]:
    """What a store says of all that it holds, by its own methods."""
    jobs = [await shown(store, each.id) for each in await listed(store)]
    return {
        "jobs": jobs,
        "events": await all_events(store),
        "history": [event.seq for event in (await store.history(ids["large"], owner=None)).value],
        "counters": (await store.counters()).value,
        "stats": (await store.stats(owner=BEN)).value,
        "queues": (await store.queues()).value,
        "found": [each.id for each in (await store.jobs(JobQuery(q="grün"))).value.jobs],
    }


# --- the whole -----------------------------------------------------------------------------------------------------


async def test_everything_goes_along(source: Path, filled: dict[str, str], clock: Clock, postgres_url: str) -> None:
    done = postgres_copy.copy(source, postgres_url, OPTIONS)
    async with file_store(source, clock) as store:
        was = await everything(store, filled)
        lines = (await store.logs(filled["large"], owner=None, after=0, limit=100)).value.lines
        epoch = store.epoch
    async with postgres.open_postgres(postgres_url) as store:
        store.clock = clock
        found = await everything(store, filled)
        assert done.epoch == store.epoch != done.source_epoch == epoch
        assert await head(store) == done.seq
        there = (await store.logs(filled["large"], owner=None, after=0, limit=100)).value.lines
        assert [each.text for each in there] == [each.text.replace("\0", "\u2400") for each in lines]
        assert done.replaced == 7, "five lines, a progress and an error"
        same = {name: value for name, value in was.items() if name not in {"jobs", "events"}}
        assert {name: found[name] for name in same} == same
        assert [plain(each) for each in found["jobs"]] == [plain(each) for each in was["jobs"]]
        assert [plain(each) for each in found["events"]] == [plain(each) for each in was["events"]]
        await check_invariants(store)


async def test_the_queue_goes_on_where_it_stood(
    source: Path, filled: dict[str, str], clock: Clock, postgres_url: str
) -> None:
    postgres_copy.copy(source, postgres_url, OPTIONS)
    async with postgres.open_postgres(postgres_url) as store:
        store.clock = clock
        rescued = await store.rescue()
        assert rescued.jobs == (filled["running"],)
        assert rescued.orphans == ()
        again = await store.enqueue([new("kept")], owner=ANN, idempotency=Idempotency("key", b"print"))
        assert again.replayed
        assert await add(store, unique_key="only-one", queue="mail") == filled["unique"], "its live one"
        assert await add(store, unique_key="was-one", queue="mail") != filled["ended unique"]
        names = {each.job.id for each in (await claims(store, 50)).claims}
        assert filled["unique"] in names
        assert not names & {filled["delayed"], filled["retrying"], filled["cancelled"], filled["failed"]}
        clock.forward(4000)
        names = {each.job.id for each in (await claims(store, 50)).claims}
        assert filled["delayed"] in names
        assert filled["retrying"] not in names, "its queue is paused"
        await store.set_paused("odd", paused=False)
        assert filled["retrying"] in {each.job.id for each in (await claims(store, 50)).claims}
        await check_invariants(store)


async def test_what_is_read_by_nobody_else_goes_along(source: Path, filled: dict[str, str], postgres_url: str) -> None:
    done = postgres_copy.copy(source, postgres_url, OPTIONS)
    counts = {each.name: each.rows for each in done.tables}
    assert counts["schedule"] == counts["schedule_tick"] == counts["token"] == counts["session"] == 1
    assert all(counts.values()), "the test leaves no table out"
    assert rows(postgres_url, "SELECT name, run_count, last_job IS NOT NULL FROM schedule") == [("nightly", 1, True)]
    assert rows(postgres_url, "SELECT jti, subject, revoked_at FROM token") == [("jti", ANN, None)]
    assert rows(postgres_url, "SELECT id, handle, origin FROM session") == [("s", b"h\0", "jti")]


async def test_a_pruned_log_keeps_its_numbers(source: Path, clock: Clock, postgres_url: str) -> None:
    async with file_store(source, clock) as store:
        await enqueue(store, *[new() for _ in range(20)])
    with contextlib.closing(apsw.Connection(str(source))) as connection:
        connection.execute("DELETE FROM job_event WHERE seq <= 12")
    done = postgres_copy.copy(source, postgres_url, OPTIONS)
    async with postgres.open_postgres(postgres_url) as store:
        page = await store.events(0, limit=100)
        assert (page.start, page.head, done.seq) == (13, 20, 20)
        await add(store)
        assert await head(store) == 21


async def test_an_empty_log_keeps_its_head(source: Path, clock: Clock, postgres_url: str) -> None:
    async with file_store(source, clock) as store:
        await enqueue(store, *[new() for _ in range(5)])
    with contextlib.closing(apsw.Connection(str(source))) as connection:
        connection.execute("DELETE FROM job_event")
    postgres_copy.copy(source, postgres_url, OPTIONS)
    async with postgres.open_postgres(postgres_url) as store:
        assert await head(store) == 5
        await add(store)
        assert await head(store) == 6


async def test_many_rows_go_in_batches_and_are_told(
    source: Path, clock: Clock, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with file_store(source, clock) as store:
        await enqueue(store, *[new() for _ in range(25)])
    monkeypatch.setattr(postgres_copy, "BATCH", 10)
    told: list[tuple[str, int, int]] = []
    postgres_copy.copy(source, postgres_url, OPTIONS, told=lambda *each: told.append(each))
    assert [each for each in told if each[0] == "job"] == [("job", n, 25) for n in (0, 10, 20, 25)]
    assert rows(postgres_url, "SELECT count(*) FROM job") == [(25,)]


# --- what is refused -----------------------------------------------------------------------------------------------


async def test_a_file_in_use_is_refused(source: Path, clock: Clock, postgres_url: str) -> None:
    async with file_store(source, clock):
        with pytest.raises(DatabaseInUse, match="another server"):
            postgres_copy.copy(source, postgres_url, OPTIONS)


async def test_a_file_whose_server_was_killed_is_refused(
    source: Path, filled: dict[str, str], postgres_url: str
) -> None:
    with contextlib.closing(apsw.Connection(str(source))) as connection:
        connection.execute("UPDATE meta SET value = '0' WHERE key = 'clean'")
    with pytest.raises(Conflict, match="did not stop in order; start one on it and stop it"):
        postgres_copy.copy(source, postgres_url, OPTIONS)


async def test_a_damaged_or_older_file_is_refused(source: Path, filled: dict[str, str], postgres_url: str) -> None:
    with contextlib.closing(apsw.Connection(str(source))) as connection:
        connection.pragma("user_version", 5)
    with pytest.raises(NotADatabase, match="older jobctl; start this one on it, and stop it, first"):
        postgres_copy.copy(source, postgres_url, OPTIONS)
    with contextlib.closing(apsw.Connection(str(source))) as connection:
        connection.execute("UPDATE counter SET n = n + 1")
    with pytest.raises(NotADatabase, match="is damaged"):
        postgres_copy.copy(source, postgres_url, OPTIONS)
    with pytest.raises(StartupError, match="no such file"):
        postgres_copy.copy(source.with_name("none.db"), postgres_url, OPTIONS)
    assert not source.with_name("none.db.lock").exists()


async def test_a_database_with_something_in_it_is_refused(
    source: Path, filled: dict[str, str], clock: Clock, postgres_url: str
) -> None:
    async with postgres.open_postgres(postgres_url) as store:
        kept = await add(store)
    with pytest.raises(Conflict, match="is not empty: there are rows in job, "):
        postgres_copy.copy(source, postgres_url, OPTIONS)
    async with postgres.open_postgres(postgres_url) as store:
        assert [each.id for each in await listed(store)] == [kept]


async def test_a_paused_queue_is_something(source: Path, filled: dict[str, str], postgres_url: str) -> None:
    async with postgres.open_postgres(postgres_url) as store:
        await store.set_paused("default", paused=True)
    with pytest.raises(Conflict, match="there are rows in queue"):
        postgres_copy.copy(source, postgres_url, OPTIONS)


async def test_a_database_at_which_servers_work_is_refused(
    source: Path, filled: dict[str, str], postgres_url: str
) -> None:
    async with postgres.open_postgres(postgres_url):
        pass
    worker = "INSERT INTO worker (id, kind, host, pid, version, started_at, seen_at, expires_at, slots) "
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        far = "extract(epoch FROM clock_timestamp()) * 1000 + 60000"
        connection.execute(f"{worker} VALUES ('w', 'serve', 'h', 1, '1', 0, 0, {far}, 1)".encode())
        with pytest.raises(Conflict, match="servers are at work on"):
            postgres_copy.copy(source, postgres_url, OPTIONS)
        connection.execute("UPDATE worker SET expires_at = 0")
    assert postgres_copy.copy(source, postgres_url, OPTIONS).tables


# --- what comes between --------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(source: Path, filled: dict[str, str], postgres_url: str) -> str:
    """A database with half a copy in it."""

    def stop(table: str, done: int, total: int) -> None:
        if table == "job_event":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        postgres_copy.copy(source, postgres_url, OPTIONS, told=stop)
    return postgres_url


async def test_no_server_starts_on_half_a_copy(interrupted: str) -> None:
    assert rows(interrupted, "SELECT count(*) > 5 FROM job") == [(True,)]
    with pytest.raises(StartupError, match="unfinished copy; give `jobctl db copy` again"):
        async with postgres.open_postgres(interrupted):
            pass
    with pytest.raises(StartupError, match="unfinished copy; give `jobctl db copy` again"):
        postgres_migrate.migrate(interrupted)


async def test_half_a_copy_is_begun_anew(source: Path, filled: dict[str, str], interrupted: str) -> None:
    done = postgres_copy.copy(source, interrupted, OPTIONS)
    assert {each.name: each.rows for each in done.tables}["job"] == rows(interrupted, "SELECT count(*) FROM job")[0][0]
    async with postgres.open_postgres(interrupted) as store:
        assert store.epoch == done.epoch


async def test_of_two_copies_into_one_database_the_later_wins(
    source: Path, filled: dict[str, str], postgres_url: str
) -> None:
    begun = iter([True])

    def second(table: str, done: int, total: int) -> None:
        if table == "job" and done == 0 and next(begun, False):
            connection = psycopg.connect(postgres_url, autocommit=True)
            with connection:  # what the first transaction of another copy does
                connection.execute("TRUNCATE job, meta, queue")
                connection.execute("INSERT INTO meta VALUES ('unfinished_copy', 'of another')")

    with pytest.raises(Conflict, match="another copy into this database has begun"):
        postgres_copy.copy(source, postgres_url, OPTIONS, told=second)
    assert rows(postgres_url, "SELECT count(*) FROM job") == [(0,)]


async def test_two_copies_that_begin_at_once_do_not_stop_each_other(
    source: Path, filled: dict[str, str], postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with postgres.open_postgres(postgres_url):
        pass
    beside = Path(shutil.copy(source, tmp_path / "beside.db"))
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    read, others = postgres_copy._Copy._rows, list[Any]()

    def slowly(self: postgres_copy._Copy, sql: str, *values: object) -> list[tuple[Any, ...]]:
        found = read(self, sql, *values)
        if sql == postgres_copy._AT_WORK and not others:  # this one has read, and is about to empty the tables
            others.append(pool.submit(postgres_copy.copy, beside, postgres_url, OPTIONS))
            wait_until(lambda: bool(rows(postgres_url, waiting)))
        return found

    monkeypatch.setattr(postgres_copy._Copy, "_rows", slowly)
    with ThreadPoolExecutor() as pool:
        with pytest.raises(Conflict, match="another copy into this database has begun"):
            postgres_copy.copy(source, postgres_url, OPTIONS)
        done = others[0].result()
    async with postgres.open_postgres(postgres_url) as store:
        assert store.epoch == done.epoch


async def test_a_database_with_tables_of_others_in_the_way_is_left_alone_and_says_so(
    source: Path, filled: dict[str, str], cluster: Cluster
) -> None:
    url = cluster.create("others")
    cluster.execute("CREATE TABLE job (id integer)", database="others")
    with pytest.raises(StartupError, match='relation "job" already exists, and is not jobctl') as told:
        postgres_copy.copy(source, url, OPTIONS)
    assert "unfinished" not in str(told.value)
    assert rows(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(1,)]


async def test_a_copy_that_could_not_begin_does_not_speak_of_half_a_copy(
    source: Path, filled: dict[str, str], postgres_url: str
) -> None:
    options = msgspec.structs.replace(OPTIONS, lock_timeout=0.05)
    with psycopg.connect(postgres_url) as reader:
        reader.execute("SELECT 1 FROM job")  # the tables cannot be emptied meanwhile
        with pytest.raises(StoreUnavailable, match=r"lock timeout.*nothing was copied"):
            postgres_copy.copy(source, postgres_url, options)
    assert postgres_copy.copy(source, postgres_url, OPTIONS).tables


async def test_a_row_that_is_not_as_it_was_written_is_found(
    source: Path, filled: dict[str, str], postgres_url: str
) -> None:
    def spoil(table: str, done: int, total: int) -> None:
        if table == "job: analyze":
            rows_changed(postgres_url, "UPDATE job SET priority = priority + 1 WHERE status = 'failed'")

    with pytest.raises(DatabaseDamaged, match=r"job is not as it was written: .* stays marked as unfinished"):
        postgres_copy.copy(source, postgres_url, OPTIONS, told=spoil)
    with pytest.raises(StartupError, match="unfinished copy"):
        async with postgres.open_postgres(postgres_url):
            pass


def rows_changed(url: str, sql: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute(sql.encode()).rowcount > 0


async def test_a_database_that_goes_away_is_told_with_what_to_do(
    source: Path, filled: dict[str, str], postgres_url: str
) -> None:
    def kill(table: str, done: int, total: int) -> None:
        if table == "job" and done == 0:
            found = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'jobctl copy' AND datname = current_database()"
            )
            assert rows(postgres_url, found) == [(True,)]
            wait_until(lambda: not rows(postgres_url, found))

    with pytest.raises(StoreUnavailable, match="is marked as unfinished: no server starts on it"):
        postgres_copy.copy(source, postgres_url, OPTIONS, told=kill)
    assert postgres_copy.copy(source, postgres_url, OPTIONS).tables


# --- the plan ------------------------------------------------------------------------------------------------------


@pytest.fixture
def sqlite_columns(tmp_path: Path) -> Iterator[set[tuple[str, str]]]:
    store = sqlite._open(tmp_path / "new.db", tmp_path / "state", "normal")
    sql = "SELECT m.name, c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'"
    yield {(table, column) for table, column in store._connection.execute(sql) if not table.startswith("sqlite_")}
    store._close()


def test_every_column_of_the_file_is_copied_or_left_out_for_a_reason(sqlite_columns: set[tuple[str, str]]) -> None:
    planned = {(table.name, column) for table in TABLES for column in table.columns}
    whole = {table for table, column in LEFT_OUT if not column}
    missing = {each for each in sqlite_columns - planned if each not in LEFT_OUT and each[0] not in whole}
    assert missing == set()


async def test_every_column_of_the_database_is_filled(postgres_url: str) -> None:
    async with postgres.open_postgres(postgres_url):
        pass
    there = rows(postgres_url, "SELECT table_name, column_name FROM information_schema.columns "
                 "WHERE table_schema = current_schema()")  # fmt: skip
    planned = {(table.name, column) for table in TABLES for column in table.columns}
    assert {each for each in there if each[0] not in NEW} == planned
