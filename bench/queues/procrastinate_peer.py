"""Procrastinate on PostgreSQL, ten jobs at once. ``python -m bench.queues.procrastinate_peer ORDER.json``."""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Final

import psycopg
from procrastinate import App, PsycopgConnector

from bench.queues import peer

WORKER = "worker"
CONCURRENCY: Final = 10
LEFT: Final = "SELECT EXISTS (SELECT 1 FROM procrastinate_jobs WHERE status IN ('todo', 'doing'))"


def application() -> App:
    """With its one task."""
    app = App(connector=PsycopgConnector(conninfo=os.environ[peer.URL]))

    @app.task(name="noop")
    async def noop(n: int) -> None:
        peer.mark(n)

    return app


async def work() -> None:
    """Be the worker."""
    app = application()
    async with app.open_async():
        peer.stand_by()
        await app.run_worker_async(concurrency=CONCURRENCY)


async def connect(app: App) -> None:
    """Open it, on fresh tables."""
    await app.open_async()
    await app.schema_manager.apply_schema_async()


def main() -> None:
    """Enqueue, and have the worker run it."""
    task = peer.order()
    app = application()
    noop = app.tasks["noop"]
    with asyncio.Runner() as runner, psycopg.connect(task.url, autocommit=True) as watch:
        runner.run(connect(app))

        async def put(numbers: Sequence[int]) -> None:
            for n in numbers:
                await noop.defer_async(n=n)

        async def put_many(numbers: Sequence[int]) -> None:
            await noop.batch_defer_async(*({"n": n} for n in numbers))

        def drained() -> bool:
            return watch.execute(LEFT).fetchone() == (False,)

        peer.compete(
            task,
            [sys.executable, "-m", "bench.queues.procrastinate_peer", WORKER],
            lambda numbers: runner.run(put(numbers)),
            lambda numbers: runner.run(put_many(numbers)),
            drained=drained,
            gated=True,
        )
        runner.run(app.close_async())


if __name__ == "__main__":
    if sys.argv[1] == WORKER:
        asyncio.run(work())
    else:
        main()
