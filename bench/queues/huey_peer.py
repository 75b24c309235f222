"""Huey on SQLite, its defaults: each commit is synced. ``python -m bench.queues.huey_peer ORDER.json``."""

import os
from collections.abc import Sequence
from pathlib import Path

from huey import SqliteHuey

from bench.queues import peer

if __name__ == "__main__":
    task = peer.order()
huey = SqliteHuey(filename=str(Path(os.environ[peer.MARKS]).with_name("huey.db")))


@huey.task()
def noop(n: int) -> None:
    """Do nothing but be counted."""
    peer.mark(n)


def single(numbers: Sequence[int]) -> None:
    """Enqueue them one by one."""
    for n in numbers:
        noop(n)


if __name__ == "__main__":
    from bench.queues import huey_peer as itself  # noqa: PLW0406 - Huey knows a task by its module: here that is __main__

    peer.compete(task, [peer.script("huey_consumer"), "bench.queues.huey_peer.huey", "-q"], itself.single)
