"""taskiq on a Redis stream, acknowledged, one process. ``python -m bench.queues.taskiq_peer ORDER.json``."""

import asyncio
import os
from collections.abc import Sequence

from taskiq_redis import RedisStreamBroker

from bench.queues import peer

if __name__ == "__main__":
    task = peer.order()
broker = RedisStreamBroker(url=os.environ[peer.URL])


@broker.task(task_name="noop")
async def noop(n: int) -> None:
    """Do nothing but be counted."""
    peer.mark(n)


async def put(numbers: Sequence[int]) -> None:
    """Enqueue them one by one."""
    for n in numbers:
        await noop.kiq(n)


if __name__ == "__main__":
    with asyncio.Runner() as runner:
        runner.run(broker.startup())
        argv = [peer.script("taskiq"), "worker", "bench.queues.taskiq_peer:broker", "-w", "1", "--log-level", "WARNING"]
        peer.compete(task, argv, lambda numbers: runner.run(put(numbers)))
