"""Databases with many jobs in them, made by SQL in seconds, and what the store's own statements take on them."""

import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import apsw

from bench.queues.order import NOOP, QUEUE
from jobctl.model import JobQuery, NewJob
from jobctl.store import enqueue, reads, sqlite_claims, writes
from jobctl.store.base import Completed, End
from jobctl.store.sqlite import _open, _open_reader
from jobctl.store.sqlite_transaction import SqliteTx
from jobctl.store.sqlite_writer import SqliteSnapshot

DAY_MS: Final = 86_400_000
REPEATS: Final = 100
OWNER: Final = "bench"
PAUSED: Final = "paused"

_ID: Final = "printf('%08x-%04x-7000-8000-%012x', n >> 16, n & 65535, n)"
_JOBS: Final = f"""
WITH RECURSIVE count (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM count WHERE n < :last)
INSERT INTO job (id, name, queue, data, status, priority, attempts, max_attempts, result, created_at, started_at,
                 completed_at, processing_by, created_by, timeout, version, run, ready, due, scheduled_for, seq)
SELECT {_ID}, :name, :queue, CAST('{{}}' AS BLOB), :status, 0, :ended, 3,
       iif(:ended, CAST('null' AS BLOB), NULL), :at + n, iif(:ended, :at + n, NULL), iif(:ended, :at + n, NULL),
       iif(:ended, 'bench:1', NULL), :owner, 3600.0,
       1 + 2 * :ended, :ended, :ready, :due, :due, n FROM count
"""  # noqa: S608 - our own text
_EVENTS: Final = """
INSERT INTO job_event (seq, kind, job_id, at, owner, name, queue, status_before, status, body, prev)
SELECT seq, 'job_update', id, created_at, created_by, name, queue, NULL, status,
       CAST(json_object('id', id, 'name', name, 'queue', queue, 'status', status, 'createdBy', created_by,
                        'note', printf('%.300c', 'x')) AS BLOB), 0
FROM job WHERE pk >= :first AND pk <= :last
"""
_COUNTERS: Final = """
INSERT INTO counter (owner, queue, status, n) SELECT created_by, queue, status, count(*) FROM job GROUP BY 1, 2, 3
UNION ALL SELECT '', queue, status, count(*) FROM job GROUP BY 2, 3
"""


def build(path: Path, state_dir: Path, *, finished: int = 0, delayed: int = 0, paused: int = 0) -> None:
    """A new database with so many jobs of each kind, each with an event, and right counters."""
    path.parent.mkdir(parents=True, exist_ok=True)
    store = _open(path, state_dir, "normal")
    connection = store._connection  # noqa: SLF001 - nobody else has it yet
    connection.pragma("synchronous", 0)  # nobody is hurt when this one is lost
    connection.pragma("cache_size", -200_000)
    now = time.time_ns() // 1_000_000
    kinds: tuple[dict[str, Any], ...] = (
        {"jobs": finished, "queue": QUEUE, "status": "completed", "ended": 1, "ready": 0, "due": None},
        {"jobs": delayed, "queue": QUEUE, "status": "pending", "ended": 0, "ready": 0, "due": now + DAY_MS},
        {"jobs": paused, "queue": PAUSED, "status": "pending", "ended": 0, "ready": 1, "due": None},
    )
    with connection:
        connection.execute("INSERT INTO queue (name, paused) VALUES (?, 1)", (PAUSED,))
        last = 0
        for kind in kinds:
            if jobs := kind.pop("jobs"):
                first, last = last + 1, last + jobs
                place = {"first": first, "last": last}
                connection.execute(_JOBS, {**kind, **place, "name": NOOP, "owner": OWNER, "at": now - DAY_MS})
                connection.execute(_EVENTS, place)
        connection.execute(_COUNTERS)
    store._close()  # noqa: SLF001 - it has no thread to stop


class Grown:
    """A database that was built, open for measuring. Not in a server: no other thread is at work."""

    def __init__(self, path: Path, state_dir: Path) -> None:
        self._store = _open(path, state_dir, "normal")
        self._reader = _open_reader(path)
        self._snapshot = SqliteSnapshot(self._reader)

    def close(self) -> None:
        """Close it."""
        self._reader.close()
        self._store._close()  # noqa: SLF001 - it has no thread to stop

    def claim(self) -> float:
        """Microseconds to claim a job where one is ready; median."""
        times = []
        for _ in range(REPEATS):
            with self._transaction() as tx:
                enqueue.enqueue(tx, [NewJob(name=NOOP)], OWNER, None)
            with self._transaction() as tx:
                times.append(_timed(lambda: sqlite_claims.claim(tx, 10, "bench:1", {}, {})))
                (row,) = tx.state.running.values()
                writes.finish(tx, End(row.id, row.run, Completed()))
        return statistics.median(times)

    def page(self) -> float:
        """Microseconds for a page of 50, newest first."""
        return statistics.median(_timed(lambda: reads.jobs(self._snapshot, JobQuery())) for _ in range(REPEATS))

    def stats(self) -> float:
        """Microseconds for the counts of all jobs."""
        return statistics.median(_timed(lambda: reads.stats(self._snapshot, None)) for _ in range(REPEATS))

    @contextmanager
    def _transaction(self) -> Any:
        connection = self._store._connection  # noqa: SLF001 - no thread writes here
        connection.execute("BEGIN IMMEDIATE")
        tx = SqliteTx(self._store._state, self._store.clock())  # noqa: SLF001
        try:
            yield tx
            tx.flush()
            connection.execute("COMMIT")
            tx.committed()
        except BaseException:
            with suppress(apsw.Error):
                connection.execute("ROLLBACK")
            raise


def _timed(work: Callable[[], object]) -> float:
    began = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - began) / 1000
