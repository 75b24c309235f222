"""What the server counts about itself: plain numbers, added up where things happen.

Nothing here knows Prometheus: ``exporter`` turns it into text when somebody asks. An observation is a bisect and two
additions, 0.3 us (``prometheus_client``'s own histogram: 1.1 us, and a lock). Each number has one thread that
writes it; whoever reads may see a sum that is one observation behind its count.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

QUICK: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Seconds that a write or a request takes."""
SLOW: Final = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)
"""Seconds that a job waits or runs."""
SIZES: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
"""Writes in one transaction; ``committer.MAX_GROUP`` is the most."""
MAX_LABELS: Final = 100
"""Different values of one label; what comes beyond is counted as ``other``: each is a time series for ever."""
OTHER: Final = "other"


class Histogram:
    """How often a value fell between which bounds (a value on a bound belongs below it)."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)


class Histograms:
    """One histogram a name, for the first ``MAX_LABELS`` names."""

    __slots__ = ("_bounds", "by_name")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.by_name: dict[str, Histogram] = {}

    def observe(self, name: str, value: float) -> None:
        """Count one value of ``name``."""
        found = self.by_name.get(name)
        if found is None:
            if len(self.by_name) >= MAX_LABELS:
                name = OTHER
            found = self.by_name.setdefault(name, Histogram(self._bounds))
        found.observe(value)


class Tallies:
    """A count for each combination of labels; the first label is bounded as in ``Histograms``."""

    __slots__ = ("_first", "counts")

    def __init__(self) -> None:
        self.counts: dict[tuple[str, ...], int] = {}
        self._first: set[str] = set()

    def add(self, first: str, *rest: str) -> None:
        """Count one; what ``rest`` may be is bounded by the caller."""
        key = (first, *rest)
        n = self.counts.get(key)
        if n is None:
            if first not in self._first and len(self._first) >= MAX_LABELS:
                key = (OTHER, *rest)
                n = self.counts.get(key)
            else:
                self._first.add(first)
        self.counts[key] = (n or 0) + 1


class Metrics:
    """Everything that one process counts; the parts add, ``exporter`` reads."""

    def __init__(self) -> None:
        # The store, on the writer's thread.
        self.commit_seconds = Histogram(QUICK)
        self.commit_writes = Histogram(SIZES)
        self.commit_failures = 0
        # The engine.
        self.claim_seconds = Histogram(QUICK)
        self.claimed = 0
        self.wait_seconds = Histograms(SLOW)
        self.run_seconds = Histograms(SLOW)
        self.runs = Tallies()
        """By name and how the run ended."""
        # The stream.
        self.connections_opened = 0
        self.bytes_of_closed = 0
        """Sent on connections that are gone; those of open ones are counted by their transports."""
        self.events = 0
        """Encoded, each once, whoever gets it."""
        self.deliveries = 0
        """Event frames handed to connections."""
        self.fell_behind = 0
        self.catch_up_pages = 0
        """Pages of the log, or stretches of the ring, read for connections that were not live."""
        # The API.
        self.requests = Tallies()
        """By route, method and status."""
        self.request_seconds = Histograms(QUICK)
        self.rate_limited = 0
        # The event loop.
        self.loop_lag = Histogram(QUICK)
        self.stalls = 0
        self.stalled_seconds = 0.0
