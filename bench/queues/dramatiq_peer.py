"""Dramatiq on Redis, a process a core, 8 threads each. ``python -m bench.queues.dramatiq_peer ORDER.json``."""

import os
from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.queues import peer

if __name__ == "__main__":
    task = peer.order()
broker = RedisBroker(url=os.environ[peer.URL])
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="noop")
def noop(n: int) -> None:
    """Do nothing but be counted."""
    peer.mark(n)


def single(numbers: Sequence[int]) -> None:
    """Enqueue them one by one."""
    for n in numbers:
        noop.send(n)


if __name__ == "__main__":
    peer.compete(task, [peer.script("dramatiq"), "bench.queues.dramatiq_peer"], single)
