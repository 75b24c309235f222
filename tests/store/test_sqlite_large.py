"""Large data and results stand apart: a change of status does not write them again, and none of them stays behind."""

from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import apsw
import pytest
from store_kit import ANN, Clock, add, claim, new, started

from jobctl.model import MAX_DATA, MAX_RESULT
from jobctl.store.base import Completed, Failed
from jobctl.store.check import check
from jobctl.store.sqlite import APPLICATION_ID, SqliteStore, open_store

DATA = b'{"x":"%b"}' % (b"a" * (MAX_DATA - 8))
RESULT = b'"%b"' % (b"b" * (MAX_RESULT - 2))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
async def store(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    async with open_store(path, state_dir=path.parent / "state", durability="normal") as opened:
        opened.clock = clock
        yield opened


def rows(path: Path, table: str) -> int:
    with apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY) as connection:
        count: int = connection.execute(f"SELECT count(*) FROM {table}").get
    return count


async def test_a_change_of_status_does_not_write_large_data_again(store: SqliteStore, path: Path) -> None:
    wal = path.with_name(path.name + "-wal")
    await add(store, data=DATA)
    one = await claim(store)
    before = wal.stat().st_size
    await store.progress(one.job.id, one.run, 0.5, None)
    await store.finish(one.job.id, one.run, Failed("x", delay=0))
    await claim(store)
    assert wal.stat().st_size - before < len(DATA)  # three changes; each would write all of it


async def test_whoever_needs_it_gets_it_whole(store: SqliteStore, clock: Clock) -> None:
    enqueued = await store.enqueue([new(data=DATA, unique_key="k")], owner=ANN)
    again = await store.enqueue([new(data=DATA, unique_key="k")], owner=ANN)
    for done in (enqueued, again):
        assert done.job is not None
        assert bytes(done.job.data) == DATA
    one = await claim(store)
    assert (one.data, one.job.data, one.job.omitted) == (DATA, None, ("data",))
    assert bytes((await store.cancel(one.job.id, owner=ANN)).data) == DATA
    await store.finish(one.job.id, one.run, Completed(RESULT))
    whole = (await store.job(one.job.id, owner=ANN)).value
    assert (bytes(whole.data), bytes(whole.result)) == (DATA, RESULT)
    assert bytes((await store.retry(one.job.id, owner=ANN)).data) == DATA
    assert (await store.job(one.job.id, owner=ANN)).value.result is None
    two = await claim(store)
    assert two.data == DATA
    await store.finish(two.job.id, two.run, Completed(b"1"))
    assert bytes((await store.job(one.job.id, owner=ANN)).value.result) == b"1"


@pytest.mark.parametrize("how", ["delete", "prune", "retry"])
async def test_nothing_is_left_behind(store: SqliteStore, path: Path, clock: Clock, how: str) -> None:
    one = await started(store, data=DATA)
    await store.finish(one.job.id, one.run, Completed(RESULT))
    assert (rows(path, "job_data"), rows(path, "job_result")) == (1, 1)
    if how == "delete":
        await store.delete(one.job.id, owner=ANN)
    elif how == "prune":
        clock.forward(10)
        assert (await store.retention.prune_jobs("completed", older_than=1)).count == 1
    else:
        await store.retry(one.job.id, owner=ANN)
    assert (rows(path, "job_data"), rows(path, "job_result")) == (int(how == "retry"), 0)


async def test_a_batch_of_pruning_is_bounded_by_what_stands_apart(store: SqliteStore, clock: Clock) -> None:
    for _ in range(4):
        one = await started(store)
        await store.finish(one.job.id, one.run, Completed(b'"%b"' % (b"b" * 200_000)))
    clock.forward(10)
    first = await store.retention.prune_jobs("completed", older_than=1)
    assert (first.count, first.more) == (2, True)


async def test_a_file_of_before_is_taken_over(path: Path, clock: Clock) -> None:
    steps = sorted(each.name for each in files("jobctl.store").joinpath("sql").iterdir() if each.name[:4].isdecimal())
    small, large = b'{"x":1}', b'{"x":"%b"}' % (b"a" * 5000)
    with apsw.Connection(str(path)) as connection:
        for step in steps[:4]:
            connection.execute(files("jobctl.store").joinpath("sql", step).read_text("utf-8"))
        connection.execute(f"PRAGMA user_version = 4; PRAGMA application_id = {APPLICATION_ID}")
        insert = """
            INSERT INTO job (id, name, queue, data, status, priority, max_attempts, result, created_at, created_by,
                             timeout, ready, seq)
            VALUES (?, 'n', 'default', ?, ?, 0, 3, ?, 1, 'ann', 60, ?, 0)
            """
        connection.execute(insert, ("a", small, "completed", b"1", 0))
        connection.execute(insert, ("b", large, "completed", large, 0))
        connection.execute(insert, ("c", large, "pending", None, 1))
    connection.close()
    async with open_store(path, state_dir=path.parent / "state") as store:
        found = {name: (await store.job(name, owner=None)).value for name in "abc"}
        assert [bytes(found[name].data) for name in "abc"] == [small, large, large]
        assert [found[name].result and bytes(found[name].result) for name in "abc"] == [b"1", large, None]
        assert (await claim(store)).data == large
    assert (rows(path, "job_data"), rows(path, "job_result")) == (2, 1)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM job_data", "large fields: 1 jobs have lost theirs"),
        ("DELETE FROM job_result", "large fields: 1 jobs have lost theirs"),
        ("DELETE FROM job", "large fields: 2 are of no job"),
    ],
)
async def test_a_check_knows_what_belongs_together(path: Path, clock: Clock, statement: str, told: str) -> None:
    async with open_store(path, state_dir=path.parent / "state") as store:
        one = await started(store, data=DATA)
        await store.finish(one.job.id, one.run, Completed(RESULT))
    assert check(path).ok
    with apsw.Connection(str(path)) as connection:
        connection.execute(statement)
    connection.close()
    assert told in check(path).problems
