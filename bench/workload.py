"""The updates of a block: jobs that are enqueued, run, report once and end, each at its own time. Pure.

A job is four updates: enqueued, running, progress, ended (one in eight fails). When each is due follows from the seed
and is the same for every scenario; the real queue makes them happen, so they are real commits, some milliseconds later.
"""

import random
from dataclasses import dataclass
from typing import Final

STEPS: Final = 4
"""Updates of a job."""
LIFE_S: Final = (2.0, 20.0)
"""From a job's start to its end, before scaling."""
FAILS: Final = 8
"""One in so many jobs fails."""
MARGIN: Final = 0.5
"""Of an interval: how long after the first one and before the last an update must be due. Then a client whose arrival
takes a while has arrived, and an update that comes late is seen in time."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One job: seconds after the start of the measured time at which it is enqueued, reports and ends."""

    start: float
    report: float
    end: float
    fails: bool


def workload(updates: float, seconds: float, scale: float, seed: int) -> list[Planned]:
    """The jobs of a block, by their start.

    Starts are spread evenly with a random place each, over all but the time that the last job takes.

    Args:
        updates: A second, scaled.
        seconds: How long the block is measured.
        scale: ``--time-scale``.
        seed: The same for every scenario.
    """
    draw = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
    n = round(updates * seconds / STEPS)
    shortest, longest = (min(each / scale, seconds / 4) for each in LIFE_S)
    jobs = []
    for place in range(n):
        start = (place + draw.random()) / n * (seconds - longest)
        life = draw.uniform(shortest, longest)
        report = start + life * draw.uniform(0.3, 0.7)
        jobs.append(Planned(start, report, start + life, fails=place % FAILS == FAILS - 1))
    return jobs


def looked_at(jobs: list[Planned], interval: float, seconds: float) -> list[int]:
    """Which jobs' updates are followed to the clients, by place in ``jobs``.

    Those for which every client has arrived and still looks at least once after the last of them: neither in the first
    interval nor in the last.
    """
    edge = interval * (1 + MARGIN)
    return [place for place, job in enumerate(jobs) if job.start >= edge and job.end <= seconds - edge]
