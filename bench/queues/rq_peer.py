"""RQ on Redis, in one process (``SimpleWorker``). ``python -m bench.queues.rq_peer ORDER.json``."""

import os
from collections.abc import Sequence

import redis
from rq import Queue

from bench.queues import peer

FUNCTION = "bench.queues.peer.mark"


if __name__ == "__main__":
    task = peer.order()
    queue = Queue("peers", connection=redis.Redis.from_url(os.environ[peer.URL]))

    def single(numbers: Sequence[int]) -> None:
        """Enqueue them one by one."""
        for n in numbers:
            queue.enqueue(FUNCTION, n)

    def many(numbers: Sequence[int]) -> None:
        """Enqueue them at once."""
        queue.enqueue_many([Queue.prepare_data(FUNCTION, (n,)) for n in numbers])

    argv = [peer.script("rq"), "worker", "-q", "-u", task.url, "-w", "rq.worker.SimpleWorker", "peers"]
    peer.compete(task, argv, single, many)
