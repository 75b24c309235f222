"""The turns of jobctl in the queue benchmark, each with a fresh server process."""

import json
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bench.percentile import percentile
from bench.processes import READY_S, Failed, Process
from bench.queues import load, peer
from bench.queues.order import BATCH, GAP_S, NOOP, PROBE, SINGLES, Command, Done, Order, Ready
from jobctl import auth

ANSWER_S: Final = 150.0
API_PROBES: Final = 1_000_000
"""The number of the first probe that comes through the API."""
WARM: Final = 200
SECRET: Final = secrets.token_urlsafe(48)


class Server:
    """One that runs, with one who watches."""

    def __init__(self, process: Process, port: int, marks: Path) -> None:
        self._process = process
        self._marks = marks
        self.port = port
        self.token = auth.mint(SECRET.encode(), subject="bench", role="admin")

    def do(self, what: str, jobs: int = 0, how: str = "", first: int = 0) -> Done:
        """Have it do one thing."""
        self._process.say(msgspec.json.encode(Command(what, jobs, how, first)))
        return msgspec.json.decode(self._process.hear(ANSWER_S), type=Done)

    def check(self, jobs: int) -> None:
        """Look whether that many were run in all, each once.

        Raises:
            Failed: they were not.
        """
        ran = [n for n, _ in peer.read(self._marks)]
        if sorted(ran) != [*range(jobs)]:
            raise Failed(f"of {jobs} jobs {len({*ran})} were run, {len(ran)} runs in all")


@contextmanager
def server(concurrency: int, db: str = "") -> Iterator[Server]:
    """A fresh server, in a folder of its own; both are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="jobctl-queue-") as place:
        folder = Path(place)
        (folder / "empty").mkdir()
        order, marks = folder / "order.json", folder / "marks"
        order.touch(0o600)
        marks.touch(0o600)
        order.write_bytes(msgspec.json.encode(Order(str(folder), SECRET, concurrency, db)))
        argv = [sys.executable, "-m", "bench.queues.ours", str(order)]
        process = Process("server", argv, folder, folder / "empty")
        watcher: Process | None = None
        try:
            port = msgspec.json.decode(process.hear(READY_S), type=Ready).port
            found = Server(process, port, marks)
            argv = [sys.executable, "-m", "bench.queues.watcher", str(found.port)]
            watcher = Process("watcher", argv, folder, folder / "empty")
            watcher.say(found.token.encode())
            watcher.hear(READY_S)
            yield found
        finally:
            process.end()
            if watcher is not None:
                watcher.end()


class Rate(NamedTuple):
    """Jobs run: per second on the wall, and us of CPU each."""

    per_second: float
    cpu_us: float
    rss: int
    enqueued: float
    """Per second, in batches, in process, before."""


def work(concurrency: int, jobs: int, db: str = "") -> Rate:
    """Jobs that all wait, from the moment they may run until the last has ended and was told of."""
    with server(concurrency, db) as found:
        return _work(found, jobs)


def _work(found: Server, jobs: int) -> Rate:
    found.do("pause")
    found.do("enqueue", WARM, "single")
    found.do("work")
    put = found.do("enqueue", jobs, "batch")
    done = found.do("work")
    if done.jobs != jobs:
        raise Failed(f"of {jobs} jobs {done.jobs} were completed")
    found.check(WARM + jobs)
    return Rate(jobs / done.seconds, done.cpu / jobs * 1e6, found.do("rss").rss, jobs / put.seconds)


class Served(NamedTuple):
    """A server on a database with many jobs: jobs run, enqueued one by one and 64 at once, per second; waits in ms."""

    rate: Rate
    single: float
    concurrent: float
    p50: float
    p99: float


def served(concurrency: int, jobs: int, probes: int, db: str) -> Served:
    """All that one process is asked for; the database is left as it was, but for finished jobs."""
    with server(concurrency, db) as found:
        rate = _work(found, jobs)
        alone = max(200, jobs // 10)
        single = alone / found.do("enqueue", alone, "single").seconds
        concurrent = jobs / found.do("enqueue", jobs, "concurrent").seconds
        found.do("work")
        found.check(WARM + alone + 2 * jobs)
        waits = _probe(found, probes)
    return Served(rate, single, concurrent, percentile(waits, 0.5), percentile(waits, 0.99))


def _probe(found: Server, probes: int) -> Sequence[float]:
    """Ms from an enqueue in process to the handler, in rising order."""
    found.do("resume")
    found.do("probe", 20)
    return sorted(found.do("probe", probes, first=1000).values)


class Calls(NamedTuple):
    """Jobs enqueued per second, in process and through the API; memory of a server that has done nothing yet."""

    single: float
    concurrent: float
    batch: float
    api_concurrent: float
    api_batch: float
    rss: int


def calls(jobs: int, requests: int, db: str = "") -> Calls:
    """Enqueue in every way; nothing runs."""
    batch = json.dumps([{"name": NOOP}] * BATCH).encode()
    with server(10, db) as found:
        rss = found.do("rss").rss
        found.do("pause")
        found.do("enqueue", WARM, "single")
        alone = max(200, jobs // 10)
        rate = {
            how: some / found.do("enqueue", some, how).seconds
            for how, some in (("single", alone), ("concurrent", jobs), ("batch", jobs))
        }
        one = load.post("/api/jobs", found.token, json.dumps({"name": NOOP}).encode())
        api = requests / load.together(found.port, one, callers=SINGLES, requests=requests)
        many = load.post("/api/jobs/batch", found.token, batch)
        batches = max(2, jobs // BATCH)
        api_batch = batches * BATCH / load.together(found.port, many, callers=1, requests=batches)
        return Calls(rate["single"], rate["concurrent"], rate["batch"], api, api_batch, rss)


def quart(requests: int) -> float:
    """Empty JSON POSTs per second that Quart on Hypercorn answers."""
    with tempfile.TemporaryDirectory(prefix="jobctl-queue-") as place:
        folder = Path(place)
        (folder / "empty").mkdir()
        process = Process("quart", [sys.executable, "-m", "bench.queues.quart_peer"], folder, folder / "empty")
        try:
            port = msgspec.json.decode(process.hear(READY_S), type=Ready).port
            return requests / load.together(port, load.post("/", None, b"{}"), callers=SINGLES, requests=requests)
        finally:
            process.end()


class Latency(NamedTuple):
    """From an enqueue call to the first line of the handler, on an idle server; ms."""

    p50: float
    p99: float
    api_p50: float
    api_p99: float


def latency(probes: int, db: str = "") -> Latency:
    """In process, then through the API."""
    with server(10, db) as found:
        inside = _probe(found, probes)

        def request(n: int) -> bytes:
            body = json.dumps({"name": PROBE, "data": {"n": API_PROBES + n}}).encode()
            return load.post("/api/jobs", found.token, body)

        sent = load.one_by_one(found.port, request, probes, gap_s=GAP_S)
        found.do("probe", 1, first=API_PROBES - 1)  # after this, the last of them has started as well
        starts = found.do("starts", probes, first=API_PROBES).values
        outside = sorted((at - was) / 1e6 for at, was in zip(starts, sent, strict=True))
    return Latency(*(percentile(each, share) for each in (inside, outside) for share in (0.5, 0.99)))
