"""What the driver of the queue benchmark and the processes that it starts say to each other: a JSON object a line."""

from typing import Final

import msgspec

NOOP: Final = "noop"
PROBE: Final = "probe"
"""A job that notes when it was started."""
MARK: Final = "mark"
"""A job that notes its number and the time in a file, as those of the peers do."""
HOLD: Final = "hold"
"""A job that runs until it is told to stop, and notes when."""
QUEUE: Final = "default"
NO_LIMIT: Final = "1000000/1s"
"""Requests: every one is counted as in production, and none refused."""
GAP_S: Final = 0.01
"""Between two probes of an idle server."""
BATCH: Final = 1000
"""Jobs of one batch."""
SINGLES: Final = 64
"""Callers at once where each enqueues one job after the other."""


class Order(msgspec.Struct, frozen=True):
    """What a server is made for. ``db``: a database that is there already, else a fresh one in ``folder``."""

    folder: str
    secret: str
    concurrency: int
    db: str = ""


class Ready(msgspec.Struct, frozen=True):
    """It listens."""

    port: int


class Command(msgspec.Struct, frozen=True):
    """One thing to do: ``enqueue``, ``pause``, ``resume``, ``work``, ``probe``, ``starts``, ``pace`` or ``rss``.

    ``how`` to enqueue: single, concurrent or batch. ``work`` runs all that waits. Probes are numbered from ``first``.
    ``pace`` enqueues ``jobs`` jobs, ``first`` a second, each with the time at which it was handed over in its data.
    """

    do: str
    jobs: int = 0
    how: str = ""
    first: int = 0


class Done(msgspec.Struct, frozen=True):
    """What came of it: seconds on the wall and of CPU; values in ms (probes) or ns (starts); resident bytes."""

    seconds: float = 0.0
    cpu: float = 0.0
    values: tuple[float, ...] = ()
    rss: int = 0
    jobs: int = 0
    """How many were completed."""
