"""PgQueuer on PostgreSQL, on uvloop as its own command. ``python -m bench.queues.pgqueuer_peer ORDER.json``."""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from bench.queues import peer

WORKER = "worker"
BATCH: Final = 100
"""Jobs that are taken at once; its own default is 10."""


async def work() -> None:
    """Be the worker."""
    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(os.environ[peer.URL])))

    @queue.entrypoint("noop")
    async def noop(job: Any) -> None:
        peer.mark(int(job.payload))

    peer.stand_by()
    await queue.run(batch_size=BATCH)


async def connect() -> Queries:
    """A connection, and a fresh table."""
    queries = Queries(AsyncpgDriver(await asyncpg.connect(os.environ[peer.URL])))
    await queries.install()
    return queries


def main() -> None:
    """Enqueue, and have the worker run it."""
    task = peer.order()
    with asyncio.Runner() as runner:
        queries = runner.run(connect())
        watch = runner.run(asyncpg.connect(task.url))

        async def put(numbers: Sequence[int]) -> None:
            for n in numbers:
                await queries.enqueue("noop", b"%d" % n)

        async def put_many(numbers: Sequence[int]) -> None:
            await queries.enqueue(["noop"] * len(numbers), [b"%d" % n for n in numbers], [0] * len(numbers))

        def drained() -> bool:
            return not runner.run(watch.fetchval("SELECT EXISTS (SELECT 1 FROM pgqueuer)"))

        peer.compete(
            task,
            [sys.executable, "-m", "bench.queues.pgqueuer_peer", WORKER],
            lambda numbers: runner.run(put(numbers)),
            lambda numbers: runner.run(put_many(numbers)),
            drained=drained,
            gated=True,
        )


if __name__ == "__main__":
    if sys.argv[1] == WORKER:
        uvloop.run(work())
    else:
        main()
