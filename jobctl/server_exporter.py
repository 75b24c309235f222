"""``/metrics`` of a server: beside what its engine counts, the jobs, the stream and the API.

The counts of jobs are the hub's own, so that a scrape asks the database nothing.
"""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.metrics_core import Metric

from jobctl.exporter import Exporter, Runs, Samples, counter, counts, gauge, histograms
from jobctl.metrics import OTHER, Metrics
from jobctl.states import Status
from jobctl.stream.connection import Connection
from jobctl.stream.endpoint import Endpoint
from jobctl.stream.hub import Hub

MAX_QUEUES: Final = 100
"""Queues that are shown by name; clients name them, up to 1,000. The rest is summed as ``other``."""


class ServerExporter(Exporter):
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
        super().__init__(metrics, runner, not_ready)
        self._hub, self._endpoint = hub, endpoint

    def collect(self) -> Iterator[Metric]:
        """Every family but the process's own."""
        yield from super().collect()
        yield from self._of_log()
        yield from self._of_stream()
        yield from self._of_api()

    def _of_log(self) -> Iterator[Metric]:
        yield gauge("jobctl_jobs", "Jobs by queue and status.", self._jobs())
        yield gauge("jobctl_event_seq", "Last number of the event log.", [((), self._hub.head)])

    def _jobs(self) -> Samples:
        queues = self._hub.tally.stats(None).by_queue
        rest = dict.fromkeys((status.value for status in Status), 0)
        samples: Samples = []
        for place, (name, numbers) in enumerate(sorted(queues.items())):
            for status in rest:
                n = getattr(numbers, status)
                if place < MAX_QUEUES:
                    samples.append(((("queue", name), ("status", status)), n))
                else:
                    rest[status] += n
        if len(queues) > MAX_QUEUES:
            samples += [((("queue", OTHER), ("status", status)), n) for status, n in rest.items()]
        return samples

    def _of_stream(self) -> Iterator[Metric]:
        m = self._metrics
        open_now = tuple(self._endpoint.connections)
        sent = m.bytes_of_closed + sum(each.transport.sent for each in open_now)
        yield gauge("jobctl_stream_connections", "Open stream connections.", [((), len(open_now))])
        yield gauge("jobctl_stream_behind", "Subscribers that are not live now.", [((), sum(map(_behind, open_now)))])
        waiting = sum(each.outbox.pending for each in open_now)
        yield gauge("jobctl_stream_outbox_bytes", "Bytes that wait for slow readers.", [((), waiting)])
        yield counter("jobctl_stream_connections_opened", "Stream connections so far.", m.connections_opened)
        yield counter("jobctl_stream_events", "Events encoded, each once.", m.events)
        yield counter("jobctl_stream_flushes", "Rounds in which events went to all that are live.", self._hub.flushes)
        yield counter("jobctl_stream_deliveries", "Event frames handed to connections.", m.deliveries)
        yield counter("jobctl_stream_sent_bytes", "Bytes that the kernel took.", sent)
        yield counter("jobctl_stream_fell_behind", "Times that a live reader became too slow.", m.fell_behind)
        yield counter("jobctl_stream_catch_up_pages", "Pages read for those who were behind.", m.catch_up_pages)

    def _of_api(self) -> Iterator[Metric]:
        m = self._metrics
        about = "Requests by route template, method and status."
        yield counts("jobctl_http_requests", about, m.requests, "route", "method", "status")
        yield histograms("jobctl_http_request_seconds", "Until the answer is ready.", m.request_seconds, "route")
        yield counter("jobctl_http_rate_limited", "Requests that were too many.", m.rate_limited)


def _behind(connection: Connection) -> bool:
    wanted = connection.subscription
    return wanted is not None and not wanted.live
