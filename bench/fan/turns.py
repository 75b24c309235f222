"""What is measured in one turn of a contestant: always with a fresh server, so that no turn depends on another."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from bench.fan.contestants import CONTESTANTS, OURS, Server, started, tokens
from bench.fan.crowd import Crowd
from bench.fan.order import Command, Done
from bench.fan.update import name_of
from bench.percentile import percentile
from bench.side_by_side import cpu_ns, resident
from bench.statistics import least_squares

ALL: Final = b'{"type":"subscribe_jobs","stats":false}'
AT_ONCE: Final = 1000
"""Connections that come together, at most."""
STEPS: Final = 5
"""Connections come in so many steps while memory is looked at."""
SETTLE_S: Final = 0.3
"""Until a server has done what follows from what it was just asked to do."""
SAMPLE: Final = 10
"""Every so manieth connection is looked at for latencies."""
FILTERS: Final = 500
FULL: Final = 1500
"""Updates that more than fill what is kept for one who does not read: two socket buffers and the outbox."""
FULL_BATCH: Final = 20
STALLED_SHARE: Final = 0.1
FULL_DELIVERIES: Final = 800_000
"""A second, while that is sent."""
MOST_FLUSHES: Final = 200.0
WARM: Final = 3
"""Flushes before one measures."""
LONGER: Final = 2
"""Latencies are looked at for so many times as long as costs: a p99 wants many of them."""
LATENCY_DELIVERIES: Final = 50_000
"""A second."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done in a turn."""

    connections: int
    rate: float
    """Flushes a second."""
    batch: int
    seconds: float
    """Of each measurement."""
    secret: str
    server_cpus: Sequence[int]

    @property
    def stalled(self) -> int:
        """How many never read, where some do not."""
        return max(1, round(self.connections * STALLED_SHARE))

    @property
    def at_once(self) -> int:
        """How many come together."""
        return min(AT_ONCE, self.connections)

    @property
    def filters(self) -> int:
        """How many different ones: two connections have each."""
        return min(FILTERS, max(1, self.connections // 2))

    def flushes(self, share: float = 1.0) -> int:
        """How many a measurement has."""
        return max(2, round(self.rate * self.seconds * share))


class Cost(NamedTuple):
    """What a turn has cost the server. Per delivery and connection: us of CPU; memory: KB a connection."""

    one: float
    many: float
    per_second: float
    """Deliveries a second of CPU, one a flush: what one core can do at most."""
    memory: float
    connect: float


class Stored(NamedTuple):
    """The same through the store; latencies are seconds from the commit, in rising order."""

    one: float
    gathered: float
    """Updates that a flush had then."""
    slower: float
    """The same as ``one`` at the rate at which latencies are looked at: hardly any two updates share a flush."""
    gathered_slower: float
    latencies: list[float]
    settled: list[float]
    """Latencies of those who read, where all do, after a burst."""
    beside: list[float]
    """The same where a tenth never read."""
    growth: float
    """KiB that the process grows for one who never reads."""
    unsent: float
    """KiB that the kernel keeps for one of them."""


class Filtered(NamedTuple):
    """us of CPU per delivery with many different filters."""

    narrow: float
    """Each update is for two."""
    wide: float
    """Each update is for all."""


def cost(name: str, scale: Scale) -> Cost:
    """The hub and the sockets of ``name``, or whatever it has instead."""
    share = CONTESTANTS[name].share
    with started(name, scale.secret, scale.server_cpus) as server, _crowd(server, scale) as crowd:
        memory = _memory(server, crowd, scale)
        one = _cpu_each(server, crowd, Command(scale.flushes(share), 1, scale.rate))
        many = _cpu_each(server, crowd, Command(scale.flushes(share / 2), scale.batch, scale.rate / 2))
        crowd.leave()
        server.await_empty()
        time.sleep(SETTLE_S)
        before = cpu_ns(server.pid)
        _join(crowd, scale.connections)
        connect = (cpu_ns(server.pid) - before) / scale.connections / 1e3
    return Cost(one, many, 1e6 / one, memory, connect)


def stored(scale: Scale) -> Stored:
    """The whole path: a commit, the hub, the sockets, bytes read; with and without some who never read."""
    with started(OURS, scale.secret, scale.server_cpus, store=True) as server, _crowd(server, scale) as crowd:
        _join(crowd, scale.connections)
        one, gathered = _gathering(server, crowd, scale.flushes(), scale.rate)
        rate = latency_deliveries(scale) / scale.connections
        slower, gathered_slower = _gathering(server, crowd, scale.flushes(rate / scale.rate), rate)
        usual = _latencies(server, crowd, scale)
        growth = _burst(server, crowd)
        settled = _latencies(server, crowd, scale)
    with started(OURS, scale.secret, scale.server_cpus, store=True) as server, _crowd(server, scale) as crowd:
        crowd.join(scale.stalled, stalled=scale.stalled)
        _join(crowd, scale.connections - scale.stalled)
        grown = _burst(server, crowd)
        beside = _latencies(server, crowd, scale)
        unsent = _run(server, crowd, Command()).unsent
    grown = max(0.0, grown - growth) / scale.stalled / 1024
    return Stored(one, gathered, slower, gathered_slower, usual, settled, beside, grown, unsent / 1024)


def filtered(scale: Scale) -> Filtered:
    """Many different filters: each update for two of the watchers, and each for all of them."""
    n = scale.filters
    with started(OURS, scale.secret, scale.server_cpus) as server:
        with _crowd(server, scale, lambda k: _asking([name_of(k % n)])) as crowd:
            _join(crowd, scale.connections)
            rate = scale.rate / 2
            narrow = _cpu_each(server, crowd, Command(scale.flushes(0.5), n, rate, names=n), each=1)
        server.await_empty()
        with _crowd(server, scale, lambda k: _asking([name_of(0), f"nobody-{k % n}"])) as crowd:
            _join(crowd, scale.connections)
            wide = _cpu_each(server, crowd, Command(scale.flushes(), 1, scale.rate))
    return Filtered(narrow, wide)


# --- parts of a turn ---------------------------------------------------------------------------------------------


@contextmanager
def _crowd(server: Server, scale: Scale, subscribe: Callable[[int], bytes] = lambda _: ALL) -> Iterator[Crowd]:
    crowd = Crowd(server.port, tokens(scale.secret, scale.connections), subscribe)
    try:
        yield crowd
    finally:
        crowd.close()


def _join(crowd: Crowd, n: int) -> None:
    """Bring ``n`` more in, in waves: who is not signed in after 10 s is not let in."""
    for start in range(0, n, AT_ONCE):
        crowd.join(min(AT_ONCE, n - start))


def _asking(names: Sequence[str]) -> bytes:
    return msgspec.json.encode({"type": "subscribe_jobs", "stats": False, "filter": {"names": names}})


def _memory(server: Server, crowd: Crowd, scale: Scale) -> float:
    """Bring everybody in, in steps; KB of resident memory that one more takes (the slope, by least squares)."""
    rows, found = [], []
    for step in range(STEPS):
        upto = scale.connections * (step + 1) // STEPS
        _join(crowd, upto - len(crowd))
        time.sleep(SETTLE_S)
        rows.append((1.0, float(upto)))
        found.append(float(resident(server.pid)))
    return least_squares(rows, found).coefficients[1] / 1000


def _run(server: Server, crowd: Crowd, command: Command, each: int | None = None) -> Done:
    """Have the server send, and the crowd read all of it. ``each``: what one gets of a flush, if not the batch."""
    server.begin(command)
    crowd.take(command.flushes * (command.batch if each is None else each) * crowd.reading)
    return server.finish()


def _cpu_each(server: Server, crowd: Crowd, command: Command, each: int | None = None) -> float:
    """CPU of the server per delivery, us."""
    return _measured(server, crowd, command, each)[0]


def _measured(server: Server, crowd: Crowd, command: Command, each: int | None = None) -> tuple[float, Done]:
    """The same, with what the server says."""
    _run(server, crowd, Command(WARM, command.batch, command.rate, command.names), each)
    time.sleep(SETTLE_S)
    before = cpu_ns(server.pid)
    done = _run(server, crowd, command, each)
    spent = cpu_ns(server.pid) - before
    return spent / (command.flushes * (command.batch if each is None else each) * crowd.reading) / 1e3, done


def _gathering(server: Server, crowd: Crowd, updates: int, rate: float) -> tuple[float, float]:
    """CPU of the server per delivery of single updates, us, and how many of them a flush has."""
    cost, done = _measured(server, crowd, Command(updates, 1, rate))
    return cost, updates / done.flushes


def _latencies(server: Server, crowd: Crowd, scale: Scale) -> list[float]:
    """Seconds from the commit of an update until somebody of the sample has read it, in rising order."""
    rate = latency_deliveries(scale) / scale.connections
    crowd.choose_sample(SAMPLE)
    done = _run(server, crowd, Command(max(2, round(rate * scale.seconds * LONGER)), 1, rate))
    committed = dict(done.stamps)
    found = sorted(at - committed[_seq(text)] for at, _, text in crowd.payloads())
    crowd.sample = frozenset()
    return [each / 1e9 for each in found]


def _seq(text: bytes) -> int:
    return int(text[text.rindex(b'"seq":') + 6 :].partition(b",")[0])


def _burst(server: Server, crowd: Crowd) -> float:
    """Send more than is kept for one who does not read; bytes that the process has grown by."""
    before = resident(server.pid)
    rate = min(MOST_FLUSHES, FULL_DELIVERIES / FULL_BATCH / len(crowd))
    _run(server, crowd, Command(FULL // FULL_BATCH, FULL_BATCH, rate))
    time.sleep(SETTLE_S)
    return resident(server.pid) - before


def latency_deliveries(scale: Scale) -> float:
    """Deliveries a second while latencies are looked at."""
    return min(scale.rate * scale.connections, LATENCY_DELIVERIES)


def percentiles(latencies: Sequence[float]) -> tuple[float, float, float]:
    """p50, p99 and the largest, ms."""
    return percentile(latencies, 0.5) * 1e3, percentile(latencies, 0.99) * 1e3, latencies[-1] * 1e3
