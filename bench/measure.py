"""From what a block's processes wrote down to its figures: who came to know of which update, and when.

An update counts as *seen* by a client with the first answer, after its commit, that tells its job in that version or a
later one; its *staleness* is from the commit to that answer's arrival. Where a later version came first it is
*superseded*: the client knows that the job moved on, and never saw this state. A stream's updates are judged likewise,
one message at a time.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from bench import histograms
from bench.percentile import percentile
from bench.result import Staleness, Updates
from bench.scenarios import JOBS


class Committed(NamedTuple):
    """An update: its number, its job (of the plan, and by id), the job's version, and when (CLOCK_MONOTONIC, ns)."""

    seq: int
    n: int
    job: str
    version: int
    at: int


class News(NamedTuple):
    """A client was told that a job is at a version. ``due``: when its poll should have begun; ``arrived``: when it was.

    ``stream``: of the client's streams, which; 0 for answers. ``seq`` only where the message had one.
    """

    client: int
    arrived: int
    due: int
    job: str
    version: int
    stream: int = 0
    seq: int | None = None


class Seen(NamedTuple):
    """What became of a block's updates at its clients."""

    updates: Updates
    delays: tuple[float, ...]
    """Staleness of each update at each client, seconds."""
    from_due: tuple[float, ...]
    """The same, to when the poll should have begun that told: what the poll's own answer took is not in it."""
    per_client: tuple[tuple[int, int, int], ...]
    """Of each client: updates seen as they were, superseded unseen, lost."""


class Observations(NamedTuple):
    """What the clients saw."""

    news: tuple[News, ...]
    positions: dict[int, list[int]]
    """By client, what each answer about jobs said its position was."""


def read_commits(path: Path) -> list[Committed]:
    """``commits.jsonl``."""
    return [Committed(*row) for row in _rows(path)]


def read_observations(path: Path) -> Observations:
    """``observations.jsonl``; see ``bench.load.record``."""
    news: list[News] = []
    positions: defaultdict[int, list[int]] = defaultdict(list)
    for row in _rows(path):
        if row[0] == "answer":
            _, client, route, _, due, _, arrived, seq, _, _, jobs = row
            if route == JOBS and seq is not None:
                positions[client].append(seq)
            news += [News(client, arrived, due, job, version, 0, *rest) for job, version, *rest in jobs]
        elif row[0] == "update":
            _, client, stream, arrived, seq, job, version = row
            news.append(News(client, arrived, arrived, job, version, stream, seq))
    return Observations(tuple(news), dict(positions))


def follow(commits: Iterable[Committed], followed: Collection[int], seen: Observations, clients: int) -> Seen:
    """Who saw what.

    Args:
        commits: Every update of the block.
        followed: Jobs of the plan whose updates count (``workload.looked_at``).
        seen: What the clients were told.
        clients: How many there were.
    """
    updates = [each for each in commits if each.n in followed]
    by_job: defaultdict[tuple[int, str], list[News]] = defaultdict(list)
    for each in seen.news:
        by_job[each.client, each.job].append(each)
    fates = [[0, 0, 0] for _ in range(clients)]
    delays: list[float] = []
    from_due: list[float] = []
    for update in updates:
        for client in range(clients):
            news = next((each for each in by_job[client, update.job] if each.version >= update.version), None)
            if news is None:
                fates[client][2] += 1
                continue
            fates[client][news.version > update.version] += 1
            # Who reads the database may know of an update before its stamp is taken (see ``counting.Commits``).
            delays.append(max(0, news.arrived - update.at) / 1e9)
            from_due.append((news.due - update.at) / 1e9)
    due = len(updates) * clients
    _, superseded, lost = (sum(each[fate] for each in fates) for fate in range(3))
    duplicated, disordered = _faults(seen)
    return Seen(
        Updates(len(updates), due, due - lost, superseded, lost, duplicated, disordered),
        tuple(delays),
        tuple(from_due),
        tuple((shown, superseded, lost) for shown, superseded, lost in fates),
    )


def _faults(seen: Observations) -> tuple[int, int]:
    """How many updates came twice to a client, and how many after a later one. Positions must not go back either."""
    numbers: defaultdict[int, list[int]] = defaultdict(list)
    for each in seen.news:
        if each.seq is not None:
            numbers[each.client].append(each.seq)
    duplicated = disordered = 0
    for got in numbers.values():
        duplicated += len(got) - len({*got})
        disordered += _steps_back(list(dict.fromkeys(got)))
    return duplicated, disordered + sum(map(_steps_back, seen.positions.values()))


def _steps_back(numbers: Sequence[int]) -> int:
    return sum(later < earlier for earlier, later in pairwise(numbers))


def staleness(delays: Sequence[float]) -> Staleness | None:
    """Their distribution; None of nothing."""
    if not delays:
        return None
    ordered = sorted(delays)
    return Staleness(
        count=len(ordered),
        mean=sum(ordered) / len(ordered),
        p50=percentile(ordered, 0.5),
        p95=percentile(ordered, 0.95),
        p99=percentile(ordered, 0.99),
        max=ordered[-1],
        histogram=histograms.record(ordered),
    )


_decode: Final = msgspec.json.Decoder().decode


def _rows(path: Path) -> Iterator[list[Any]]:
    with path.open("rb") as file:
        for line in file:
            yield _decode(line)
