"""The figures that a run is judged by: name, unit, direction, and how each follows from a block. Pure.

Counts are *per client and 15 minutes on a clock of 1*: what was counted, times 900 s over the measured time scaled
back. A client's first requests and its connection are not repeated every 15 minutes, so a shorter measured time makes
them weigh more than they do, against the stream, which is the side that has the claim to prove.

CPU is a second's on that clock, too: the same work in time_scale times as long. Exact, as it goes by requests and
updates; the ratios are those of what was measured.

Times are as measured, not scaled back. What a poll waits for shrinks with the time scale, what a push takes does not:
the ratio of a scaled run understates what push saves. ``scaled_back`` is for people who compare with their own clock.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple

from bench import statistics
from bench.result import Block, Direction, Plan, Run

WINDOW_S: Final = 900.0
"""15 minutes, the time that the claims are made for and the access token lives."""

CONTROLS: Final = ("idle", "ws-idle")
POLLING: Final = ("poll", "poll-keepalive", "poll-etag", "longpoll", "poll-limited")
PUSHING: Final = ("ws", "ws-churn")
SCENARIOS: Final = (*CONTROLS, *POLLING, *PUSHING)
"""Those that come with jobctl; a user may add more."""

_COUNTED: Final = "per client and 15 min"


class Metric(NamedTuple):
    """A figure with a name."""

    name: str
    unit: str
    words: str
    """What it is, for a heading."""
    direction: Direction
    kind: Literal["count", "timed"]
    """A count is the same in every repeat of the same seed, so that one value decides; what is timed has noise."""
    of: Callable[[Block, Run], float | None]
    """Of one block; None: not known there."""
    summed: bool = False
    """Whether it is of all blocks of a repeat together: a loss is one, whatever number of clients it came with."""


class Cell(NamedTuple):
    """What was asked of a block, besides its scenario."""

    clients: int
    updates_per_s: float


def _per_client(count: float, block: Block, run: Run) -> float | None:
    if block.scenario == "idle" or not block.clients or block.seconds <= 0:
        return None  # the control has nobody, whatever number of clients it is the control of
    return count / block.clients * WINDOW_S / (block.seconds * run.plan.time_scale)


def on_the_wire(block: Block) -> int | None:
    """Bytes that TCP carried, both ways; None where the system did not tell."""
    sent, received = block.client.wire_sent, block.client.wire_received
    return None if sent is None or received is None else sent + received


def _wire(block: Block, run: Run) -> float | None:
    carried = on_the_wire(block)
    return None if carried is None else _per_client(carried, block, run)


def _app_bytes(block: Block, run: Run) -> float | None:
    return _per_client(block.client.sent + block.client.received, block, run)


def _queries(block: Block, run: Run) -> float | None:
    return None if block.server is None else _per_client(block.server.db_queries, block, run)


def controls(block: Block, run: Run) -> list[Block]:
    """The ``idle`` blocks of the same repeat and update rate: the same work with nobody watching."""
    return [
        each
        for each in run.blocks
        if each.scenario == "idle" and each.repeat == block.repeat and _alike(each.updates_per_s, block.updates_per_s)
    ]


def _alike(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * max(abs(a), abs(b))


def cpu_attributable(block: Block, run: Run) -> float | None:
    """CPU seconds a second, as measured, that the watching costs the server; None without the control."""
    if block.scenario == "idle":
        return None  # it is what the others are taken from
    idle = [each.server.cpu_s / each.seconds for each in controls(block, run) if each.server and each.seconds > 0]
    if block.server is None or not idle or block.seconds <= 0:
        return None
    return block.server.cpu_s / block.seconds - sum(idle) / len(idle)


def _cpu(block: Block, run: Run) -> float | None:
    found = cpu_attributable(block, run)
    return None if found is None else found / run.plan.time_scale


def _rss(block: Block, run: Run) -> float | None:
    """Bytes a client: the slope over all numbers of clients of this scenario, repeat and rate, the control being 0.

    It takes two numbers of clients: from nobody to one number is what serving anybody takes, for the most part.
    """
    same = [
        each for each in run.blocks
        if each.scenario == block.scenario and each.repeat == block.repeat
        and _alike(each.updates_per_s, block.updates_per_s)
    ]  # fmt: skip
    points = [(float(each.clients), float(each.server.rss)) for each in same if each.server]
    if len({clients for clients, _ in points if clients > 0}) < 2:
        return None
    points += [(0.0, float(each.server.rss)) for each in controls(block, run) if each.server]
    found = statistics.slope(points)
    return None if found is None else found.value


def _staleness(part: str) -> Callable[[Block, Run], float | None]:
    return lambda block, _: None if block.staleness is None else float(getattr(block.staleness, part))


def _became(part: str) -> Callable[[Block, Run], float | None]:
    """What became of the updates; not known where there was none to be seen."""
    return lambda block, _: float(getattr(block.updates, part)) if block.updates.due else None


def _limited(block: Block) -> int:
    return sum(statuses.get("429", 0) for statuses in block.client.requests.values())


_ALL: Final = (
    Metric("requests_per_client", _COUNTED, "Requests", "lower", "count",
           lambda block, run: _per_client(block.client.total, block, run)),
    Metric("empty_requests", _COUNTED, "Requests that found nothing new", "lower", "count",
           lambda block, run: _per_client(block.empty, block, run)),
    Metric("connections_per_client", _COUNTED, "Connections", "lower", "count",
           lambda block, run: _per_client(block.client.connections, block, run)),
    Metric("app_bytes_per_client", f"bytes {_COUNTED}", "Application bytes", "lower", "count", _app_bytes),
    Metric("wire_bytes_per_client", f"bytes {_COUNTED}", "Bytes on the wire", "lower", "timed", _wire),
    Metric("cpu_s_attributable", "CPU s/s", "Server CPU beyond the idle control", "lower", "timed", _cpu),
    Metric("rss_per_client", "bytes", "Server memory a client", "lower", "timed", _rss),
    Metric("db_queries", _COUNTED, "Database reads", "lower", "count", _queries),
    Metric("staleness_s.p50", "s", "Staleness, median", "lower", "timed", _staleness("p50")),
    Metric("staleness_s.p95", "s", "Staleness, 95th percentile", "lower", "timed", _staleness("p95")),
    Metric("staleness_s.p99", "s", "Staleness, 99th percentile", "lower", "timed", _staleness("p99")),
    Metric("updates_superseded", "updates", "Updates that never showed", "lower", "timed",
           _became("superseded"), summed=True),
    Metric("updates_lost", "updates", "Updates lost", "lower", "count",
           _became("lost"), summed=True),
    Metric("updates_duplicated", "updates", "Updates twice", "lower", "count",
           _became("duplicated"), summed=True),
    Metric("updates_out_of_order", "updates", "Updates out of order", "lower", "count",
           _became("out_of_order"), summed=True),
    Metric("rate_limited", "answers 429", "Requests refused by the rate limit", "lower", "count",
           lambda block, _: float(_limited(block)), summed=True),
)  # fmt: skip
METRICS: Final = {metric.name: metric for metric in _ALL}
SERVER_SIDE: Final = (
    "cpu_s_attributable", "rss_per_client", "db_queries", "staleness_s.p50", "staleness_s.p95", "staleness_s.p99",
    "updates_superseded", "updates_lost", "updates_duplicated", "updates_out_of_order",
)  # fmt: skip
"""Unknown where the server is not ours (``--url``): neither what it spends, nor what it commits and when."""
BY_WORKLOAD: Final = ("empty_requests", "app_bytes_per_client", "wire_bytes_per_client")
"""Known there, but of whatever happens to go on: a server where nothing happens has nothing to send, or to find."""
BY_UPDATES: Final = tuple(name for name in METRICS if name.startswith(("staleness_s.", "updates_")))
"""There is nothing to see where no update is made (``--updates 0``)."""


def unknown(plan: Plan) -> frozenset[str]:
    """Metrics that a run of ``plan`` says nothing of."""
    found = set() if plan.url is None else {*SERVER_SIDE, *BY_WORKLOAD}
    if not any(plan.updates):
        found |= {*BY_UPDATES}
    if len(plan.clients) < 2:
        found |= {"rss_per_client"}
    return frozenset(found)


def cells(run: Run, scenario: str) -> list[Cell]:
    """What ``scenario`` was measured at: the most clients first, then in the order of the plan's update rates."""
    found = {Cell(each.clients, each.updates_per_s) for each in run.blocks if each.scenario == scenario}
    return _ordered(run, found)


def _ordered(run: Run, found: Iterable[Cell]) -> list[Cell]:
    asked = [rate * run.plan.time_scale for rate in run.plan.updates]

    def place(cell: Cell) -> tuple[int, int]:
        rate = next((k for k, rate in enumerate(asked) if _alike(rate, cell.updates_per_s)), len(asked))
        return (-cell.clients, rate)

    return sorted(found, key=place)


def common_cell(run: Run, *scenarios: str) -> Cell | None:
    """The cell that all were measured at; of several, that of the most clients and the rate asked for first."""
    shared = set.intersection(*(set(cells(run, each)) for each in scenarios)) if scenarios else set()
    return next(iter(_ordered(run, shared)), None)


def shown_cell(run: Run, scenario: str) -> Cell | None:
    """What a scenario is shown at beside the others: where all were measured, if there is such, else its own best."""
    there = {each.scenario for each in run.blocks} - {"idle"}
    shared = common_cell(run, *there) if scenario in there else None
    return shared or next(iter(cells(run, scenario)), None)


def values(run: Run, metric: Metric, scenario: str, cell: Cell | None) -> dict[int, float]:
    """By repeat, at ``cell``, or over all blocks of the repeat; repeats where it is not known are left out."""
    found: dict[int, float] = {}
    for block in run.blocks:
        if block.scenario != scenario or (cell is not None and (block.clients, block.updates_per_s) != cell):
            continue
        value = metric.of(block, run)
        if value is not None:
            found[block.repeat] = value + (found.get(block.repeat, 0.0) if cell is None else 0.0)
    return dict(sorted(found.items()))


def blocks_of(run: Run, scenario: str) -> Sequence[Block]:
    """The blocks of a scenario at the cell that it is shown at."""
    cell = shown_cell(run, scenario)
    return tuple(
        each for each in run.blocks if each.scenario == scenario and (each.clients, each.updates_per_s) == cell
    )


def scaled_back(seconds: float, scenario: str, run: Run, share: float) -> float:
    """About what a staleness is on a clock of 1: only the wait for the next poll is longer there, no request is.

    Args:
        seconds: As measured.
        scenario: Whose.
        run: Where.
        share: Of the updates, those that were seen within ``seconds``: they waited for as much of an interval.
    """
    interval = next((each.interval for each in run.blocks if each.scenario == scenario), 0.0)
    wait = min(seconds, share * interval)
    return wait * run.plan.time_scale + (seconds - wait)
