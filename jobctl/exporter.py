"""``/metrics``: what the server has counted, as Prometheus' text format (0.0.4), gathered when somebody asks.

A registry of its own: nothing that a handler's libraries register in the default one appears here, and two servers in
one process do not meet. The counts of jobs are the hub's own, so that a scrape asks the database nothing.
"""

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jobctl import __version__
from jobctl.metrics import OTHER, Histogram, Histograms, Metrics, Tallies
from jobctl.states import Status
from jobctl.stream.connection import Connection
from jobctl.stream.endpoint import Endpoint
from jobctl.stream.hub import Hub

MAX_QUEUES: Final = 100
"""Queues that are shown by name; clients name them, up to 1,000. The rest is summed as ``other``."""


class Runs(Protocol):
    """What is asked of the runner."""

    @property
    def live(self) -> tuple[str, ...]:
        """Ids of the jobs that hold a slot."""

    @property
    def free(self) -> int:
        """Free slots."""


class Exporter(Collector):
    """Reads the parts of one server.

    Args:
        metrics: What they count.
        hub: The counts of jobs at its head.
        endpoint: The connections.
        runner: The slots.
        not_ready: Why no work should come, as ``/readyz`` says it.
    """

    def __init__(
        self, metrics: Metrics, hub: Hub, endpoint: Endpoint, runner: Runs, not_ready: Callable[[], list[str]]
    ) -> None:
        self._metrics, self._hub, self._endpoint, self._runner = metrics, hub, endpoint, runner
        self._not_ready = not_ready
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """The whole page."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Every family but the process's own."""
        yield _gauge("jobctl_info", "Version of the server.", [((("version", __version__),), 1)])
        yield _gauge("jobctl_ready", "1 while /readyz says ready.", [((), int(not self._not_ready()))])
        yield from self._of_jobs()
        yield from self._of_store()
        yield from self._of_stream()
        yield from self._of_api()
        yield from self._of_loop()

    def _of_jobs(self) -> Iterator[Metric]:
        m = self._metrics
        yield _gauge("jobctl_jobs", "Jobs by queue and status.", self._jobs())
        free, live = self._runner.free, len(self._runner.live)
        yield _gauge("jobctl_slots", "Slots for runs.", [((("state", "free"),), free), ((("state", "busy"),), live)])
        yield _counts("jobctl_runs", "Runs by name and how they ended.", m.runs, "name", "outcome")
        yield _histograms("jobctl_job_wait_seconds", "From ready to started.", m.wait_seconds, "name")
        yield _histograms("jobctl_job_run_seconds", "From started to ended.", m.run_seconds, "name")
        yield _counter("jobctl_claimed_jobs", "Jobs claimed.", m.claimed)
        yield _histogram("jobctl_claim_seconds", "One claim of a batch of jobs.", m.claim_seconds)

    def _jobs(self) -> "Samples":
        queues = self._hub.tally.stats(None).by_queue
        rest = dict.fromkeys((status.value for status in Status), 0)
        samples: Samples = []
        for place, (name, counts) in enumerate(sorted(queues.items())):
            for status in rest:
                n = getattr(counts, status)
                if place < MAX_QUEUES:
                    samples.append(((("queue", name), ("status", status)), n))
                else:
                    rest[status] += n
        if len(queues) > MAX_QUEUES:
            samples += [((("queue", OTHER), ("status", status)), n) for status, n in rest.items()]
        return samples

    def _of_store(self) -> Iterator[Metric]:
        m = self._metrics
        yield _histogram("jobctl_commit_seconds", "One transaction, its fsync included.", m.commit_seconds)
        yield _histogram("jobctl_commit_writes", "Writes that share a transaction.", m.commit_writes)
        yield _counter("jobctl_commit_failures", "Transactions that were rolled back whole.", m.commit_failures)
        yield _gauge("jobctl_event_seq", "Last number of the event log.", [((), self._hub.head)])

    def _of_stream(self) -> Iterator[Metric]:
        m = self._metrics
        open_now = tuple(self._endpoint.connections)
        sent = m.bytes_of_closed + sum(each.transport.sent for each in open_now)
        yield _gauge("jobctl_stream_connections", "Open stream connections.", [((), len(open_now))])
        yield _gauge("jobctl_stream_behind", "Subscribers that are not live now.", [((), sum(map(_behind, open_now)))])
        waiting = sum(each.outbox.pending for each in open_now)
        yield _gauge("jobctl_stream_outbox_bytes", "Bytes that wait for slow readers.", [((), waiting)])
        yield _counter("jobctl_stream_connections_opened", "Stream connections so far.", m.connections_opened)
        yield _counter("jobctl_stream_events", "Events encoded, each once.", m.events)
        yield _counter("jobctl_stream_flushes", "Rounds in which events went to all that are live.", self._hub.flushes)
        yield _counter("jobctl_stream_deliveries", "Event frames handed to connections.", m.deliveries)
        yield _counter("jobctl_stream_sent_bytes", "Bytes that the kernel took.", sent)
        yield _counter("jobctl_stream_fell_behind", "Times that a live reader became too slow.", m.fell_behind)
        yield _counter("jobctl_stream_catch_up_pages", "Pages read for those who were behind.", m.catch_up_pages)

    def _of_api(self) -> Iterator[Metric]:
        m = self._metrics
        about = "Requests by route template, method and status."
        yield _counts("jobctl_http_requests", about, m.requests, "route", "method", "status")
        yield _histograms("jobctl_http_request_seconds", "Until the answer is ready.", m.request_seconds, "route")
        yield _counter("jobctl_http_rate_limited", "Requests that were too many.", m.rate_limited)

    def _of_loop(self) -> Iterator[Metric]:
        m = self._metrics
        yield _histogram("jobctl_loop_lag_seconds", "How late the event loop woke a sleeper.", m.loop_lag)
        yield _counter("jobctl_loop_stalls", "Times that something blocked the event loop.", m.stalls)
        yield _counter("jobctl_loop_stalled_seconds", "How long, in all.", m.stalled_seconds)


def _behind(connection: Connection) -> bool:
    wanted = connection.subscription
    return wanted is not None and not wanted.live


Labels = tuple[tuple[str, str], ...]
Samples = list[tuple[Labels, float]]


def _gauge(name: str, about: str, samples: Samples) -> Metric:
    family = GaugeMetricFamily(name, about, labels=[label for label, _ in samples[0][0]] if samples else ())
    for labels, value in samples:
        family.add_metric([text for _, text in labels], value)
    return family


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(name, about, value=value)


def _counts(name: str, about: str, tallies: Tallies, *labels: str) -> Metric:
    family = CounterMetricFamily(name, about, labels=labels)
    for key, n in sorted(tallies.counts.items()):
        family.add_metric(key, n)
    return family


def _histogram(name: str, about: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(name, about)
    family.add_metric((), _buckets(histogram), histogram.total)
    return family


def _histograms(name: str, about: str, histograms: Histograms, label: str) -> Metric:
    family = HistogramMetricFamily(name, about, labels=(label,))
    for each, histogram in sorted(histograms.by_name.items()):
        family.add_metric((each,), _buckets(histogram), histogram.total)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    below = 0
    for bound, n in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        below += n
        buckets.append(("+Inf" if bound == float("inf") else repr(bound), below))
    return buckets
