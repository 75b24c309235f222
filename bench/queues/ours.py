"""jobctl in the queue benchmark: the whole service as it is in production, told what to do by lines on stdin.

Run as ``python -m bench.queues.ours ORDER.json``; see ``order``. It ends when stdin does.
"""

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import psutil
import trio

from bench.conversation import heard, say
from bench.queues import fleet_tasks, peer  # noqa: F401 - the former has the handler of MARK
from bench.queues.order import BATCH, GAP_S, MARK, NO_LIMIT, NOOP, PROBE, QUEUE, SINGLES, Command, Done, Order, Ready
from jobctl import lifetime, logs
from jobctl.engine import registry
from jobctl.engine.context import Context
from jobctl.model import NewJob
from jobctl.service import Service, serve
from jobctl.settings import Settings

LOOK_EVERY_S: Final = 0.005
PATIENCE_S: Final = 120.0
_starts: dict[int, int] = {}


@registry.job(NOOP)
async def noop(ctx: Context) -> None:
    """Do nothing."""


@registry.job(PROBE)
async def probe(ctx: Context, n: int) -> None:
    """Note the time (CLOCK_MONOTONIC, ns)."""
    _starts[n] = time.monotonic_ns()


class Target:
    """Does what the driver says."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = service.store
        self._numbered = 0

    async def obey(self, command: Command) -> Done:
        """Do one thing."""
        match command.do:
            case "enqueue":
                return await self._enqueue(command.how, command.jobs)
            case "work":
                return await self._work()
            case "pause" | "resume":
                await self._store.set_paused(QUEUE, command.do == "pause")
                return Done()
            case "probe":
                values = [await self._probe(command.first + n) for n in range(command.jobs)]
            case "pace":
                return await self._pace(command.jobs, command.first)
            case "starts":
                values = [float(_starts[command.first + n]) for n in range(command.jobs)]
            case _:
                return Done(rss=psutil.Process().memory_info().rss)
        return Done(values=tuple(values))

    async def _enqueue(self, how: str, jobs: int) -> Done:
        began, cpu = time.perf_counter(), time.process_time()
        size = BATCH if how == "batch" else 1
        left = jobs

        async def call() -> None:
            nonlocal left
            while left > 0:
                some = min(size, left)
                left -= some
                first, self._numbered = self._numbered, self._numbered + some
                numbers = range(first, self._numbered)
                await self._store.enqueue([NewJob(name=MARK, data=b'{"n":%d}' % n) for n in numbers], owner="bench")

        async with trio.open_nursery() as nursery:
            for _ in range(SINGLES if how == "concurrent" else 1):
                nursery.start_soon(call)
        return Done(time.perf_counter() - began, time.process_time() - cpu)

    async def _pace(self, jobs: int, per_second: int) -> Done:
        began = time.perf_counter()

        async def hand_over() -> None:
            await self._store.enqueue([NewJob(name=NOOP, data=b'{"at":%d}' % time.monotonic_ns())], owner="bench")

        async with trio.open_nursery() as nursery:
            for n in range(jobs):
                await trio.sleep(max(0.0, began + n / per_second - time.perf_counter()))
                nursery.start_soon(hand_over)
        return Done(time.perf_counter() - began)

    async def _work(self) -> Done:
        """From the moment at which the queue is let go until its last job has ended, and everybody was told."""
        before = self._completed()
        began, cpu = time.perf_counter(), time.process_time()
        await self._store.set_paused(QUEUE, paused=False)
        with trio.fail_after(PATIENCE_S):
            while self._busy():  # noqa: ASYNC110 - looking costs less than hearing of each would
                await trio.sleep(LOOK_EVERY_S)
        seconds, spent = time.perf_counter() - began, time.process_time() - cpu
        await self._store.set_paused(QUEUE, paused=True)
        return Done(seconds, spent, jobs=self._completed() - before)

    def _completed(self) -> int:
        return self._service.hub.tally.stats(None).completed

    def _busy(self) -> int:
        here = self._service.hub.tally.stats(None)
        return here.by_queue[QUEUE].pending + here.running

    async def _probe(self, n: int) -> float:
        """From just before the job is handed over to the first line of its handler; ms."""
        await trio.sleep(GAP_S)
        began = time.monotonic_ns()
        await self._store.enqueue([NewJob(name=PROBE, data=b'{"n":%d}' % n)], owner="bench")
        with trio.fail_after(PATIENCE_S):
            while n not in _starts:  # noqa: ASYNC110 - the handler is to do nothing that a handler would not
                await trio.sleep(LOOK_EVERY_S / 10)
        return (_starts[n] - began) / 1e6


async def main(order: Order) -> None:
    """Serve until stdin ends."""
    folder = Path(order.folder)
    os.environ[peer.MARKS] = str(folder / "marks")
    settings = Settings.model_validate(
        {
            "port": 0, "db": order.db or folder / "bench.db", "state_dir": folder / "state", "grace": 0.0,
            "concurrency": order.concurrency, "rate_limit": NO_LIMIT, "auth": {"secret": order.secret},
        }
    )  # fmt: skip
    logs.configure(settings.log.level, settings.log.format)
    async with trio.open_nursery() as nursery:
        service: Service = await nursery.start(partial(serve, settings, signals=False))
        target = Target(service)
        say(Ready(service.door.addresses[0][1]))
        async for line in heard():
            say(await target.obey(msgspec.json.decode(line, type=Command)))
        service.stop()


if __name__ == "__main__":
    lifetime.settle()
    trio.run(main, msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Order))
