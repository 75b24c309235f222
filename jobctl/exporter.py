"""``/metrics``: what a process that runs jobs has counted, as Prometheus' text format (0.0.4), gathered when asked for.

A registry of its own: nothing that a handler's libraries register in the default one appears here, and two servers in
one process do not meet. A scrape asks the database nothing.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jobctl import __version__
from jobctl.metrics import Histogram, Histograms, Metrics, Tallies


class Runs(Protocol):
    """What is asked of the runner."""

    @property
    def live(self) -> tuple[str, ...]:
        """Ids of the jobs that hold a slot."""

    @property
    def free(self) -> int:
        """Free slots."""


class Exporter(Collector):
    """Reads what ``jobctl work`` has: the engine, its transactions and the event loop.

    Args:
        metrics: What they count.
        runner: The slots.
        not_ready: Why no work should come, as ``/readyz`` says it.
    """

    def __init__(self, metrics: Metrics, runner: Runs, not_ready: Callable[[], list[str]]) -> None:
        self._metrics, self._runner, self._not_ready = metrics, runner, not_ready
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """The whole page."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Every family but the process's own."""
        yield gauge("jobctl_info", "Version of the server.", [((("version", __version__),), 1)])
        yield gauge("jobctl_ready", "1 while /readyz says ready.", [((), int(not self._not_ready()))])
        yield from self._of_runs()
        yield from self._of_commits()
        yield from self._of_loop()

    def _of_runs(self) -> Iterator[Metric]:
        m = self._metrics
        free, live = self._runner.free, len(self._runner.live)
        yield gauge("jobctl_slots", "Slots for runs.", [((("state", "free"),), free), ((("state", "busy"),), live)])
        yield counts("jobctl_runs", "Runs by name and how they ended.", m.runs, "name", "outcome")
        yield histograms("jobctl_job_wait_seconds", "From ready to started.", m.wait_seconds, "name")
        yield histograms("jobctl_job_run_seconds", "From started to ended.", m.run_seconds, "name")
        yield counter("jobctl_claimed_jobs", "Jobs claimed.", m.claimed)
        yield histogram("jobctl_claim_seconds", "One claim of a batch of jobs.", m.claim_seconds)

    def _of_commits(self) -> Iterator[Metric]:
        m = self._metrics
        yield histogram("jobctl_commit_seconds", "One transaction, its fsync included.", m.commit_seconds)
        yield histogram("jobctl_commit_writes", "Writes that share a transaction.", m.commit_writes)
        yield counter("jobctl_commit_failures", "Transactions that were rolled back whole.", m.commit_failures)

    def _of_loop(self) -> Iterator[Metric]:
        m = self._metrics
        yield histogram("jobctl_loop_lag_seconds", "How late the event loop woke a sleeper.", m.loop_lag)
        yield counter("jobctl_loop_stalls", "Times that something blocked the event loop.", m.stalls)
        yield counter("jobctl_loop_stalled_seconds", "How long, in all.", m.stalled_seconds)


Labels = tuple[tuple[str, str], ...]
Samples = list[tuple[Labels, float]]


def gauge(name: str, about: str, samples: Samples) -> Metric:
    """A gauge, by labels."""
    family = GaugeMetricFamily(name, about, labels=[label for label, _ in samples[0][0]] if samples else ())
    for labels, value in samples:
        family.add_metric([text for _, text in labels], value)
    return family


def counter(name: str, about: str, value: float) -> Metric:
    """A counter without labels."""
    return CounterMetricFamily(name, about, value=value)


def counts(name: str, about: str, tallies: Tallies, *labels: str) -> Metric:
    """A counter for each of ``tallies``, by its labels."""
    family = CounterMetricFamily(name, about, labels=labels)
    for key, n in sorted(tallies.counts.items()):
        family.add_metric(key, n)
    return family


def histogram(name: str, about: str, of: Histogram) -> Metric:
    """A histogram without labels."""
    family = HistogramMetricFamily(name, about)
    family.add_metric((), _buckets(of), of.total)
    return family


def histograms(name: str, about: str, of: Histograms, label: str) -> Metric:
    """Histograms by one label."""
    family = HistogramMetricFamily(name, about, labels=(label,))
    for each, one in sorted(of.by_name.items()):
        family.add_metric((each,), _buckets(one), one.total)
    return family


def _buckets(of: Histogram) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    below = 0
    for bound, n in zip((*of.bounds, float("inf")), of.counts, strict=True):
        below += n
        buckets.append(("+Inf" if bound == float("inf") else repr(bound), below))
    return buckets
