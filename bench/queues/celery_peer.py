"""Celery on Redis, two processes, acknowledged late. ``python -m bench.queues.celery_peer ORDER.json``."""

import os
from collections.abc import Sequence

from celery import Celery

from bench.queues import peer

if __name__ == "__main__":
    task = peer.order()
app = Celery("peers", broker=os.environ[peer.URL])
app.conf.update(task_acks_late=True, task_ignore_result=True)


@app.task(name="noop")
def noop(n: int) -> None:
    """Do nothing but be counted."""
    peer.mark(n)


def single(numbers: Sequence[int]) -> None:
    """Enqueue them one by one."""
    for n in numbers:
        noop.delay(n)


if __name__ == "__main__":
    peer.compete(task, [peer.script("celery"), "-A", "bench.queues.celery_peer", "worker", "-c", "2"], single)
