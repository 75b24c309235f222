"""The same as ``growth`` on PostgreSQL: databases with many jobs in them, and what the store takes on them."""

import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import psycopg
import trio
from psycopg.sql import SQL, Identifier

from bench.queues.growth import DAY_MS, OWNER, PAUSED, REPEATS
from bench.queues.order import NOOP, QUEUE
from jobctl.model import JobQuery, NewJob
from jobctl.store.base import Completed
from jobctl.store.postgres import open_postgres
from jobctl.store.postgres_migrate import migrate

MAX_EVENTS: Final = 2_000_000
"""As many of the log as the default retention keeps; those before are pruned."""
STEP: Final = 1_000_000
"""Jobs of one statement."""
WORKER: Final = "bench:1"

_JOBS: Final = """
INSERT INTO job (pk, id, name, queue, data, status, priority, attempts, max_attempts, result, created_at, started_at,
                 completed_at, processing_by, created_by, timeout, version, run, ready, due, scheduled_for)
SELECT n, lpad(to_hex(n >> 16), 8, '0') || '-' || lpad(to_hex(n & 65535), 4, '0') || '-7000-8000-' ||
       lpad(to_hex(n), 12, '0'),
       %(name)s, %(queue)s, '{}', %(status)s, 0, %(ended)s, 3, CASE WHEN %(ended)s = 1 THEN 'null'::bytea END,
       %(at)s::bigint + n, CASE WHEN %(ended)s = 1 THEN %(at)s::bigint + n END,
       CASE WHEN %(ended)s = 1 THEN %(at)s::bigint + n END, CASE WHEN %(ended)s = 1 THEN %(worker)s END, %(owner)s,
       3600, 1 + 2 * %(ended)s, %(ended)s, %(ready)s, %(due)s::bigint, %(due)s::bigint
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS made (n)
"""
_EVENTS: Final = """
INSERT INTO job_event (seq, kind, job, job_id, at, owner, name, queue, status_before, status, body)
SELECT pk, 'job_update', pk, id, created_at, created_by, name, queue, NULL, status,
       convert_to(json_build_object('id', id, 'name', name, 'queue', queue, 'status', status, 'createdBy', created_by,
                                    'note', repeat('x', 300))::text, 'UTF8')
FROM job WHERE pk > %(cut)s
"""
_READY: Final = """
INSERT INTO ready (queue, name, priority, job) SELECT queue, name, priority, pk FROM job WHERE ready = 1
"""
_COUNTERS: Final = """
INSERT INTO counter (owner, queue, status, n) SELECT created_by, queue, status, count(*) FROM job GROUP BY 1, 2, 3
UNION ALL SELECT '', queue, status, count(*) FROM job GROUP BY 2, 3
"""
_INDEXES: Final = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = ANY (ARRAY['job'::regclass, 'job_event'::regclass])
    AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)
"""


def build(url: str, *, finished: int = 0, delayed: int = 0, paused: int = 0) -> None:
    """Fill an empty database with so many jobs of each kind, each with an event, and right counters."""
    migrate(url)
    now = time.time_ns() // 1_000_000
    kinds: tuple[dict[str, Any], ...] = (
        {"jobs": finished, "queue": QUEUE, "status": "completed", "ended": 1, "ready": 0, "due": None},
        {"jobs": delayed, "queue": QUEUE, "status": "pending", "ended": 0, "ready": 0, "due": now + DAY_MS},
        {"jobs": paused, "queue": PAUSED, "status": "pending", "ended": 0, "ready": 1, "due": None},
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET maintenance_work_mem = '512MB'")
        indexes = connection.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            connection.execute(SQL("DROP INDEX {}").format(Identifier(name)))
        connection.execute("INSERT INTO queue (name, paused) VALUES (%s, 1)", (PAUSED,))
        last = 0
        for kind in kinds:
            end = last + kind.pop("jobs")
            while last < end:
                first, last = last + 1, min(last + STEP, end)
                fixed = {"name": NOOP, "owner": OWNER, "at": now - DAY_MS, "worker": WORKER}
                connection.execute(_JOBS, {**kind, **fixed, "first": first, "last": last})
        cut = max(0, last - MAX_EVENTS)
        connection.execute(_EVENTS, {"cut": cut})
        connection.execute(_READY)
        connection.execute(_COUNTERS)
        connection.execute("UPDATE log SET folded = %s, cut = %s", (last, cut))
        connection.execute("SELECT setval(pg_get_serial_sequence('job', 'pk'), %s)", (max(1, last),))
        for _, definition in indexes:
            connection.execute(definition)
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def statements(url: str) -> tuple[float, float, float]:
    """Median microseconds to claim a job where one is ready, for a page of 50, for the counts."""
    return trio.run(_statements, url)


async def _statements(url: str) -> tuple[float, float, float]:
    async with open_postgres(url) as store:
        claims = []
        for _ in range(REPEATS):
            await store.enqueue([NewJob(name=NOOP)], owner=OWNER)
            began = time.perf_counter()
            (claim,) = (await store.claim(10, worker=WORKER, limits={}, busy={})).claims
            claims.append((time.perf_counter() - began) * 1e6)
            await store.finish(claim.job.id, claim.run, Completed())
        page = await _median(lambda: store.jobs(JobQuery()))
        stats = await _median(lambda: store.stats(owner=None))
        return statistics.median(claims), page, stats


async def _median(call: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        await call()
        times.append((time.perf_counter() - began) * 1e6)
    return statistics.median(times)
