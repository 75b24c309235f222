"""PgQueuer on PostgreSQL, batches of 100. ``python -m bench.queues.pgqueuer_peer ORDER.json``."""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from bench.queues import peer

WORKER = "worker"


async def work() -> None:
    """Be the worker."""
    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(os.environ[peer.URL])))

    @queue.entrypoint("noop")
    async def noop(job: Any) -> None:
        peer.mark(int(job.payload))

    await queue.run(batch_size=100)


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

        async def put(numbers: Sequence[int]) -> None:
            for n in numbers:
                await queries.enqueue("noop", b"%d" % n)

        async def put_many(numbers: Sequence[int]) -> None:
            await queries.enqueue(["noop"] * len(numbers), [b"%d" % n for n in numbers], [0] * len(numbers))

        peer.compete(
            task,
            [sys.executable, "-m", "bench.queues.pgqueuer_peer", WORKER],
            lambda numbers: runner.run(put(numbers)),
            lambda numbers: runner.run(put_many(numbers)),
        )


if __name__ == "__main__":
    if sys.argv[1] == WORKER:
        asyncio.run(work())
    else:
        main()
