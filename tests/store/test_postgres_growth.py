"""However many jobs have finished, nothing that is done all day reads through them. PostgreSQL counts rows it reads."""

import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import psycopg
import pytest
import trio
from store_kit import START_MS, Clock, add, claim, claims, new

from jobctl.model import JobQuery
from jobctl.store.base import Completed, Failed, LogEntry
from jobctl.store.postgres import PostgresStore, open_postgres
from jobctl.store.postgres_link import SQL, WRITER, connect
from jobctl.store.postgres_migrate import migrate
from jobctl.store.postgres_settings import PostgresOptions
from jobctl.store.retention import EVENTS, JOBS, LINES, Pruned
from jobctl.store.retention_writes import JOBS_LOOKED_AT, prune_jobs
from jobctl.store.transaction import Tx
from jobctl.store.workers import NewWorker
from tests.postgres_kit import Cluster, wait_until

pytestmark = pytest.mark.slow

FINISHED: Final = 200_000
TIMES: Final = 10
BATCH: Final = 5
DAY_MS: Final = 86_400_000
LARGE: Final = "large_" + os.environ.get("PYTEST_XDIST_WORKER", "main")
ROWS: Final = 1000
"""That one operation may read, in tables of this size: its own jobs and events, a page, the latest events."""
_FILL: Final = f"""
INSERT INTO job (id, name, queue, data, status, priority, attempts, max_attempts, result, created_at, started_at,
                 completed_at, processing_by, created_by, timeout, version, run)
SELECT lpad(n::text, 36, '0'), 'mail', 'default', '{{}}', CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'completed' END, 0, 1,
    3, 'null', {START_MS} + n, {START_MS} + n, {START_MS} + n, 'host:1', 'owner' || n % 100, 3600, 3, 1
FROM generate_series(1, {FINISHED}) AS n;
INSERT INTO job_event (seq, kind, job, job_id, at, owner, name, queue, status_before, status, body)
SELECT pk, 'job_update', pk, id, created_at, created_by, name, queue, NULL, status, '{{}}' FROM job ORDER BY pk;
INSERT INTO counter SELECT created_by, queue, status, count(*) FROM job GROUP BY 1, 2, 3;
INSERT INTO counter SELECT '', queue, status, count(*) FROM job GROUP BY 2, 3;
UPDATE log SET folded = (SELECT max(seq) FROM job_event);
"""
_READ: Final = """
SELECT sum(seq_tup_read) + sum(coalesce(idx_tup_fetch, 0)) + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)
FROM pg_stat_user_tables
"""


@pytest.fixture(scope="module")
def large(cluster: Cluster) -> Iterator[str]:
    """A database with many finished jobs, and their events."""
    url = cluster.create(LARGE)
    migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _FILL.split(";\n"):
            connection.execute(statement)  # type: ignore[arg-type]
        for table in ("job", "job_event", "counter"):
            connection.execute(f"VACUUM ANALYZE {table}")  # type: ignore[arg-type]
    yield url
    cluster.execute(f'DROP DATABASE "{LARGE}" WITH (FORCE)')


def rows_read(cluster: Cluster) -> int:
    """By everybody, ever; the last transactions of connections that are open may not be counted yet."""
    gone = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    wait_until(lambda: cluster.execute(gone, database=LARGE) == [(0,)])
    return int(cluster.execute(_READ, database=LARGE)[0][0])


async def run(store: PostgresStore) -> None:
    await add(store)
    one = await claim(store)
    await store.progress(one.job.id, one.run, 0.5, None)
    await store.append_logs(one.job.id, one.run, [LogEntry(1, "log", "x")])
    assert await store.finish(one.job.id, one.run, Failed("x", retry=False))
    await store.retry(one.job.id, owner=None)
    (again,) = (await claims(store, 1)).claims
    assert await store.finish(again.job.id, again.run, Completed())
    await store.delete(one.job.id, owner=None)


async def wait_for_its_time(store: PostgresStore) -> None:
    job = await add(store, scheduled_for=store.clock() + 60_000)
    assert (await claims(store)).next_due is not None
    await store.delete(job, owner=None)


async def look(store: PostgresStore) -> None:
    for query in (JobQuery(), JobQuery(statuses=("failed",)), JobQuery(statuses=("pending", "running")),
                  JobQuery(owner="owner7"), JobQuery(queues=("default",)), JobQuery(owner="nobody")):  # fmt: skip
        page = (await store.jobs(query)).value
        assert len(page.jobs) in {50, 0}


async def count(store: PostgresStore) -> None:
    assert (await store.stats(owner=None)).value.total == FINISHED
    assert (await store.stats(owner="owner7")).value.total == FINISHED / 100
    await store.queues()


async def tell(store: PostgresStore) -> None:
    found = f"{FINISHED // 2:036d}"
    assert len((await store.history(found, owner=None)).value) == 1
    assert len((await store.events(FINISHED // 2, limit=100)).events) == 100


async def recover(store: PostgresStore) -> None:
    await store.left_running()
    await store.rescue()
    await store.keep_backoffs(5.0)


async def unique(store: PostgresStore) -> None:
    await store.enqueue([new(unique_key=f"k{n}") for n in range(20)], owner="owner7")
    ids = [job.id for job in (await store.jobs(JobQuery(owner="owner7", statuses=("pending",)))).value.jobs]
    assert (await store.act("delete", ids, owner=None, statuses=())).changed == 20


class Undone(Exception):
    """What was done is not wanted any more."""


async def forget_jobs(store: PostgresStore) -> None:
    """A batch of many more that are old. The tests after this one shall find them all."""

    def forget(tx: Tx) -> None:
        assert prune_jobs(tx, "completed", 0, FINISHED // 2, JOBS) == Pruned(JOBS, more=True)
        raise Undone

    with pytest.raises(Undone):
        await store.committer.submit(forget)


async def forget_events(store: PostgresStore) -> None:
    page = await store.events(0, limit=1)
    assert (await store.retention.prune_events(keep=page.head - page.start + 1 - BATCH)).count == BATCH


async def forget_lines(store: PostgresStore) -> None:
    """All are old, none has lines to spare, and the next batch goes on from there."""
    now = store.clock()
    store.clock = lambda: now + DAY_MS  # type: ignore[method-assign]
    assert await store.retention.prune_logs(older_than=1) == Pruned(0, more=True)
    store.clock = lambda: now  # type: ignore[method-assign]


async def forget_the_rest(store: PostgresStore) -> None:
    assert (await store.retention.tidy()).more is False


@pytest.mark.parametrize(
    ("operation", "rows"),
    [
        (run, ROWS), (wait_for_its_time, ROWS), (look, ROWS), (count, ROWS), (tell, ROWS), (recover, ROWS),
        (unique, ROWS), (forget_jobs, 40 * JOBS), (forget_events, 4 * EVENTS),
        (forget_lines, 4 * JOBS_LOOKED_AT), (forget_the_rest, ROWS),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)  # fmt: skip
def test_it_reads_its_own_rows_and_no_more(
    cluster: Cluster, large: str, clock: Clock, operation: Callable[[PostgresStore], Awaitable[None]], rows: int
) -> None:
    async def do() -> None:
        async with open_postgres(large, options=PostgresOptions(notify=False)) as store:
            store.clock = clock
            for _ in range(TIMES):
                await operation(store)

    before = rows_read(cluster)
    trio.run(do)
    assert (rows_read(cluster) - before) / TIMES < rows


FOREVER: Final = 2**60


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("prune_oldest_ended", ("completed", FOREVER, JOBS)), ("prune_ended_at_place", ("completed", 2 * JOBS)),
        ("prune_first_held", ("completed",)), ("prune_ended_in_all", ("completed",)), ("prune_look_at", ("[1]",)),
        ("prune_ended_after", ("completed", 0, 0, FOREVER, JOBS)), ("prune_lines_of", ("[1]",)),
        ("prune_old_lines", (LINES, FOREVER, 10)), ("prune_first_events", (EVENTS,)), ("prune_cut_log", (1, 9)),
        ("prune_delete_jobs", ("[1]",)), ("prune_delete_data", ("[1]",)), ("prune_delete_results", ("[1]",)),
        ("prune_delete_events", (EVENTS,)), ("prune_forget_keys", (FOREVER, LINES)),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)  # fmt: skip
def test_what_forgets_has_a_plan_by_indexes_and_starts_no_processes(
    large: str, statement: str, values: tuple[Any, ...]
) -> None:
    """Processes that PostgreSQL starts to share a statement out take 7 ms to come, whatever little it is."""
    link = connect(large, PostgresOptions(), WRITER)
    try:
        link.execute("SET parallel_setup_cost = 0")  # as it looks in a table of many more rows
        plan = [row[0] for row in link.execute("EXPLAIN " + SQL[statement], values)[0]]
    finally:
        link.close()
    scans = [line for line in plan if "Seq Scan on" in line and "Seq Scan on log" not in line]  # which has one row
    assert not scans
    assert not [line for line in plan if "Gather" in line]


def test_reports_and_heartbeats_change_no_index(cluster: Cluster, clock: Clock) -> None:
    """Such an update leaves nothing behind that autovacuum must take out of every index."""
    url = cluster.create(LARGE + "_hot")

    async def do() -> None:
        async with open_postgres(url, options=PostgresOptions(notify=False)) as store:
            store.clock = clock
            await add(store)
            one = await claim(store)
            await store.workers.join(NewWorker(id="w", kind="work", host="h", pid=1, version="1", slots=1))
            for n in range(100):
                assert await store.progress(one.job.id, one.run, n / 100, f"step {n}")
                await store.workers.beat("w", running=1, lead=False)

    trio.run(do)
    updates = "SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname IN ('job', 'worker')"
    wait_until(lambda: sum(n for _, n, _ in cluster.execute(updates, database=url.rpartition("/")[2])) >= 200)
    for table, n, without_index in cluster.execute(updates, database=url.rpartition("/")[2]):
        assert n - without_index <= 10, table  # the claim, and where a page was full


async def test_a_claim_is_planned_once(postgres_url: str) -> None:
    asks = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE '%RECURSIVE lane%'"
    async with open_postgres(postgres_url) as store:
        for _ in range(TIMES):
            await add(store)
            await claims(store, 1)
        ((generic, custom),) = await store.committer.submit(lambda tx: tx.send((asks, ()))[0][0])
    assert (generic > TIMES / 2, custom) == (True, 0)


def test_this_notices_a_statement_that_reads_through_a_table(cluster: Cluster, large: str) -> None:
    before = rows_read(cluster)
    cluster.execute("SELECT count(*) FROM job WHERE error = 'x'", database=LARGE)
    assert rows_read(cluster) - before >= FINISHED
