"""One order of events: sixteen processes' worth of writers, with delays before and after they get their numbers."""

import contextlib
import random
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import psycopg
import pytest
import trio
from store_kit import ANN, Heard, all_events, claims, new

from jobctl.store import postgres_link, postgres_transaction, postgres_writer
from jobctl.store.base import Completed, End
from jobctl.store.postgres import PostgresStore, open_postgres
from jobctl.store.postgres_link import SQL, Link
from jobctl.store.postgres_settings import PostgresOptions

WRITERS: Final = 16
TURNS: Final = 8
DELAY_S: Final = 0.006


@contextlib.contextmanager
def delays(monkeypatch: pytest.MonkeyPatch, seed: int):  # type: ignore[no-untyped-def]
    """Every transaction that appends events waits a little before it does, and between that and its COMMIT."""
    draw = random.Random(seed)
    plain = Link.execute_all

    def slow(self: Link, statements: Sequence[Any]) -> Any:
        texts = [sql for sql, _ in statements]
        if SQL["append"] not in texts:
            return plain(self, statements)
        time.sleep(draw.random() * DELAY_S)
        pause = ("SELECT pg_sleep($1::float8)", (draw.random() * DELAY_S,))
        done = plain(self, [*statements[:-1], pause, statements[-1]])
        return [*done[:-2], done[-1]]

    with monkeypatch.context() as patch:
        patch.setattr(Link, "execute_all", slow)
        yield


class Tailer(threading.Thread):
    """Reads on from the last number that it has seen, as fast as it can: whoever does so must miss nothing."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self.seen: list[int] = []
        self.over = threading.Event()

    def run(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            last = False
            while not last:
                last = self.over.is_set()
                after = self.seen[-1] if self.seen else 0
                rows = connection.execute("SELECT seq FROM job_event WHERE seq > %s ORDER BY seq", (after,))
                self.seen += [seq for (seq,) in rows]


async def work(store: PostgresStore, queue: str) -> None:
    """Enqueue, claim and end, and now and then what fails."""
    ends: list[End] = []
    for turn in range(TURNS):
        await store.enqueue([new(queue=queue, unique_key="k" if turn % 5 == 0 else None), new(queue=queue)], owner=ANN)
        found = await claims(store, 2)
        ends = [End(one.job.id, one.run, Completed()) for one in found.claims]
        await store.claim(0, worker="w", limits={}, busy={}, ends=ends)


async def write_at_once(url: str) -> tuple[list[list[int]], list[int], list[int]]:
    """What each process' listener heard, what a tailer saw, and what there is."""
    tailers = [Tailer(url) for _ in range(2)]
    async with contextlib.AsyncExitStack() as stack:
        options = PostgresOptions(pool_size=1)
        stores = [await stack.enter_async_context(open_postgres(url, options=options)) for _ in range(WRITERS)]
        heard = [Heard(store) for store in stores]
        for tailer in tailers:
            tailer.start()
        async with trio.open_nursery() as nursery:
            for i, store in enumerate(stores):
                nursery.start_soon(work, store, f"q{i % 3}")
        there = [event.seq for event in await all_events(stores[0])]
        with trio.fail_after(20):
            for store in stores:
                await store.reached(there[-1])
        for tailer in tailers:
            tailer.over.set()
            await trio.to_thread.run_sync(tailer.join)
    seen = next((tailer.seen for tailer in tailers if tailer.seen != there), there)
    return [each.seqs for each in heard], seen, there


async def test_no_tailer_misses_or_reorders_an_event_under_sixteen_writers(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with delays(monkeypatch, seed=1):
        heard, seen, there = await write_at_once(postgres_url)
    assert len(there) > WRITERS * TURNS * 3
    assert there == list(range(1, len(there) + 1))
    assert seen == there
    assert all(each == there for each in heard)


_BY_A_SEQUENCE: Final = """
WITH events AS (
    INSERT INTO job_event (seq, kind, job, job_id, at, owner, name, queue, tags, status_before, status, body)
    SELECT nextval('numbers'), e.kind, e.job, e.job_id, $12::bigint, e.owner, e.name, e.queue, e.tags, e.status_before,
        e.status, e.body
    FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::text[], $10::bytea[])
        AS e (kind, job, job_id, owner, name, queue, tags, status_before, status, body)
)
SELECT 0::bigint, NULL::bigint WHERE $11::bytea IS NOT DISTINCT FROM $11 AND $13::int IS NOT NULL
"""


async def test_this_finds_out_where_numbers_come_from_a_sequence(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the advisory lock is for: a later number may be committed first, and whoever has read on never sees it."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP SEQUENCE IF EXISTS numbers")
        connection.execute("CREATE SEQUENCE numbers")
    statements = {**SQL, "append": _BY_A_SEQUENCE}
    for module in (postgres_link, postgres_transaction, postgres_writer):
        monkeypatch.setattr(module, "SQL", statements)
    monkeypatch.setitem(globals(), "SQL", statements)
    with delays(monkeypatch, seed=1):
        seen, there = await _by_a_sequence(postgres_url)
    assert seen != there


async def _by_a_sequence(url: str) -> tuple[list[int], list[int]]:
    tailer = Tailer(url)
    async with contextlib.AsyncExitStack() as stack:
        options = PostgresOptions(pool_size=1, notify=False)
        stores = [await stack.enter_async_context(open_postgres(url, options=options)) for _ in range(WRITERS)]
        for store in stores:  # they, too, would find the log broken
            monkey = store.tail
            monkey.poll = lambda *_: False  # type: ignore[method-assign]
            monkey.hand_over = lambda own, base, n, fetch, give: give((own,))  # type: ignore[method-assign]
        tailer.start()
        async with trio.open_nursery() as nursery:
            for i, store in enumerate(stores):
                nursery.start_soon(_enqueue, store, f"q{i % 3}")
        tailer.over.set()
        await trio.to_thread.run_sync(tailer.join)
    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute("SELECT seq FROM job_event ORDER BY seq").fetchall()
    return tailer.seen, [seq for (seq,) in rows]


async def _enqueue(store: PostgresStore, queue: str) -> None:
    for _ in range(TURNS):
        await store.enqueue([new(queue=queue)], owner=ANN)
