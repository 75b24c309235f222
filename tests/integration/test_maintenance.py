"""The sweep over a real store, with a clock that is moved; and that the file stops growing."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from jobctl.engine import maintenance
from jobctl.engine.maintenance import Maintenance, prune
from jobctl.errors import StoreUnavailable
from jobctl.model import NewJob
from jobctl.store import retention_writes
from jobctl.store.base import Completed, Failed, LogEntry
from jobctl.store.retention import BATCH_BYTES, EVENTS, JOBS, LINES
from jobctl.store.rows import SQL
from jobctl.store.sqlite import SqliteStore, open_store
from jobctl.upkeep_settings import Retention

HOUR, DAY = 3600.0, 86400.0


class Clock:
    def __init__(self) -> None:
        self.ms = 1_790_000_000_000

    def __call__(self) -> int:
        return self.ms

    def forward(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    async with open_store(tmp_path / "jobs.db", state_dir=tmp_path / "state", durability="normal") as opened:
        opened.clock = clock
        yield opened


async def run_jobs(store: SqliteStore, n: int, *, fail: bool = False, result: bytes = b"1", lines: int = 0) -> None:
    """Enqueue and run ``n`` jobs to their end."""
    await store.enqueue([NewJob(name="n", data=b'{"x":"%s"}' % (b"x" * 300)) for _ in range(n)], owner="ann")
    claims = (await store.claim(n, worker="w", limits={}, busy={})).claims
    if lines:
        async with trio.open_nursery() as nursery:
            for each in claims:
                log = [LogEntry(store.clock(), "log", "y" * 80)] * lines
                nursery.start_soon(store.append_logs, each.job.id, each.run, log)
    async with trio.open_nursery() as nursery:
        for each in claims:
            outcome = Failed("x" * 500, retry=False) if fail else Completed(result)
            nursery.start_soon(store.finish, each.job.id, each.run, outcome)


def count(store: SqliteStore, table: str) -> int:
    return int(store._connection.execute(f"SELECT count(*) FROM {table}").get)


def pages(store: SqliteStore) -> int:
    return int(store._connection.pragma("page_count"))


# --- the sweep -----------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_design() -> None:
    keep = Retention()
    assert (keep.completed, keep.failed, keep.cancelled, keep.max_finished) == (7 * DAY, 7 * DAY, 7 * DAY, 1_000_000)
    assert (keep.events, keep.max_events, keep.logs) == (7 * DAY, 2_000_000, 3 * DAY)


async def test_a_sweep_keeps_what_the_settings_say(store: SqliteStore, clock: Clock) -> None:
    await run_jobs(store, 3, lines=4)
    await run_jobs(store, 2, fail=True)
    keep = Retention(completed="2d", failed="forever", events="1d", logs="12h")
    sweeper = Maintenance(store, keep)
    assert await sweeper.sweep() == {"unused rows": 2}, "the counters of what waits and runs"
    clock.forward(13 * HOUR)
    assert await sweeper.sweep() == {"log lines": 9}
    clock.forward(12 * HOUR)
    assert await sweeper.sweep() == {"events": 15}
    clock.forward(DAY)
    assert await sweeper.sweep() == {"completed jobs": 3, "unused rows": 1}
    clock.forward(1000 * DAY)
    assert await sweeper.sweep() == {"events": 1}, "failed jobs stay for ever"
    assert (count(store, "job"), count(store, "job_log")) == (2, 0)


async def test_a_sweep_keeps_no_more_than_it_may(store: SqliteStore, clock: Clock) -> None:
    for _ in range(20):
        await run_jobs(store, 1)
        clock.forward(1)
    assert await Maintenance(store, Retention(max_finished=5, max_events=10)).sweep() == {
        "completed jobs": 15, "events": 51, "unused rows": 2,
    }  # fmt: skip
    assert (count(store, "job"), count(store, "job_event")) == (5, 10)


async def test_the_settings_may_change_between_sweeps(store: SqliteStore, clock: Clock) -> None:
    sweeper = Maintenance(store, Retention())
    await run_jobs(store, 2)
    clock.forward(DAY)
    assert "completed jobs" not in await sweeper.sweep()
    sweeper.keep = Retention(completed="1h")
    assert (await sweeper.sweep())["completed jobs"] == 2


async def test_it_sweeps_once_a_minute_and_goes_on_after_a_failure(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    swept: list[float] = []

    class Sweeps(Maintenance):
        async def sweep(self) -> dict[str, int]:
            swept.append(trio.current_time())
            if len(swept) == 1:
                raise StoreUnavailable("the disk is full")
            if len(swept) == 2:
                raise ValueError("a defect")
            return {}

    sweeper = Sweeps(None, Retention())  # type: ignore[arg-type]
    with trio.move_on_after(200):
        async with trio.open_nursery() as nursery:
            await nursery.start(sweeper.run)
    assert swept == [10.0, 70.0, 130.0, 190.0]
    assert "the disk is full" in caplog.text
    assert "a defect" in caplog.text


# --- by hand -------------------------------------------------------------------------------------------------------


async def test_pruning_by_hand_counts_by_status(store: SqliteStore, clock: Clock) -> None:
    await run_jobs(store, 250)
    await run_jobs(store, 2, fail=True)
    clock.forward(10)
    assert await prune(store, ("failed", "cancelled"), 5) == ({"failed": 2, "cancelled": 0}, False)
    assert await prune(store, ("completed",), 5) == ({"completed": 250}, False)


async def test_pruning_by_hand_ends_in_time_and_says_that_there_is_more(store: SqliteStore, clock: Clock) -> None:
    await run_jobs(store, 150)
    clock.forward(10)
    assert await prune(store, ("completed",), 5, within=0) == ({"completed": 0}, True)
    assert count(store, "job") == 150


async def test_what_has_not_ended_cannot_be_pruned_by_hand(store: SqliteStore) -> None:
    with pytest.raises(ValueError, match="have not ended"):
        await prune(store, ("running",), 0)


# --- what it costs -------------------------------------------------------------------------------------------------


async def test_batches_hold_the_writer_for_milliseconds(
    store: SqliteStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 ms of the thread's CPU in the median; the bound leaves room for slow ones, none for a whole sweep at once."""
    took: list[float] = []
    for name in ("prune_jobs", "prune_events", "prune_logs"):
        real = getattr(retention_writes, name)

        def timed(*arguments: Any, real: Any = real) -> Any:
            began = time.thread_time()
            try:
                return real(*arguments)
            finally:
                took.append(time.thread_time() - began)

        monkeypatch.setattr(retention_writes, name, timed)
    large = b'"' + b"x" * 60_000 + b'"'
    for n in range(10):
        await run_jobs(store, 200, result=large if n % 5 == 0 else b"1", lines=5)
    clock.forward(10 * DAY)
    done = await Maintenance(store, Retention()).sweep()
    assert (done["completed jobs"], done["events"]) == (2000, 6000)
    assert sorted(took)[len(took) // 2] < 0.010
    assert len(took) >= 2000 / JOBS + 6000 / EVENTS + 8000 / LINES + 400 * 60_000 / (2 * BATCH_BYTES)


@pytest.mark.parametrize(
    ("statement", "values", "plan"),
    [
        ("prune_oldest_ended", ("completed", 1, 10), "job_ended (status=? AND completed_at"),
        ("prune_ended_at_place", ("completed", 10), "COVERING INDEX job_ended"),
        ("prune_ended_after", ("completed", 1, 1, 9, 10), "job_ended (status=? AND completed_at"),
        ("prune_ended_before", ('["completed"]', 1), "COVERING INDEX job_ended"),
        ("prune_old_lines", (10, 1, 10), "job_status"),
        ("prune_look_at", ("[1]",), "SEARCH job USING INTEGER PRIMARY KEY"),
        ("prune_lines_of", ("[1]",), "SEARCH job_log USING PRIMARY KEY"),
        ("prune_delete_jobs", ("[1]",), "SEARCH job USING INTEGER PRIMARY KEY"),
        ("prune_first_events", (10,), "SCAN job_event"),  # by its key, and LIMIT ends it
        ("prune_delete_events", (10,), "INTEGER PRIMARY KEY"),
    ],
)
async def test_what_is_old_is_found_by_an_index_without_sorting(
    store: SqliteStore, statement: str, values: tuple[object, ...], plan: str
) -> None:
    rows = store._connection.execute("EXPLAIN QUERY PLAN " + SQL[statement], values).fetchall()
    told = "; ".join(str(row[-1]) for row in rows)
    assert plan in told
    assert "TEMP B-TREE" not in told.replace("TEMP B-TREE FOR GROUP BY", "")


# --- a week --------------------------------------------------------------------------------------------------------


async def test_the_file_stops_growing_over_a_week_of_load(
    store: SqliteStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is removed leaves pages that are used again: after the first days the file is as large as it gets."""

    async def at_once(_: float) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(maintenance.trio, "sleep", at_once)
    sweeper = Maintenance(store, Retention(completed="1d", failed="1d", cancelled="1d", events="1d", logs="12h"))
    size: list[int] = []
    for hour in range(7 * 24):
        for _ in range(4):
            await run_jobs(store, 6, fail=hour % 5 == 0, result=b'"' + b"r" * 3000 + b'"', lines=10)
            clock.forward(HOUR / 4)
        await sweeper.sweep()
        size.append(pages(store))
    day_two, end = max(size[24:48]), size[-1]
    assert end <= day_two * 1.1, size[::12]
    assert count(store, "job") <= 25 * 24
    assert count(store, "job_event") <= 4 * 25 * 24 + 100
    assert count(store, "job_log") <= 10 * 25 * 24


async def test_without_sweeps_the_file_would_grow(store: SqliteStore, clock: Clock) -> None:
    """What the test above is worth."""
    for _ in range(3):
        before = pages(store)
        for _ in range(24):
            await run_jobs(store, 6, result=b'"' + b"r" * 3000 + b'"', lines=10)
            clock.forward(HOUR)
        assert pages(store) > before * 1.2 + 50


