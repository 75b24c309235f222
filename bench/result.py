"""``run.json``: what a run was, what was observed in each block, and what follows from it. Pure values.

A *block* is one server process with a database of its own, one scenario, a number of clients and a fixed time; a
*repeat* is one round of all blocks, and the unit of the statistics: two blocks of one repeat are compared with each
other, so that what drifts on the machine weighs on both.

The driver writes ``blocks`` and ``checks``; ``bench.verdict`` derives the rest, and can derive it again from the file.
Times are seconds, sizes are bytes, both of the clock on the wall, not scaled back: with ``time_scale`` 10 an interval
of 30 s takes 3 s, and says 3 here. Counts of a block are of its measured time alone, start-up and end left out.
"""

from typing import Literal

import msgspec

SCHEMA = 1
"""Rises when a reader of the former one would misread."""

Direction = Literal["lower", "higher"]
Outcome = Literal["pass", "fail", "warn", "inconclusive", "no_data"]
Conclusion = Literal["pass", "fail", "inconclusive", "invalid"]


class Record(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A value of ``run.json``."""


class Plan(Record, frozen=True):
    """What was asked for; with ``seed`` it says everything that can be repeated."""

    profile: str
    scenarios: tuple[str, ...]
    clients: tuple[int, ...]
    """How many clients a block has; more than one where slopes are to be seen."""
    interval: float
    """Seconds between two polls of a client, before scaling."""
    duration: float
    """Measured seconds of a block, before scaling."""
    updates: tuple[float, ...]
    """State changes a second, before scaling; more than one where the cost model is to be fitted."""
    repeats: int
    time_scale: float
    seed: int
    url: str | None = None
    """A server that was already there: then there are only the clients' figures."""


class Environment(Record, frozen=True):
    """Where it ran."""

    jobctl: str
    python: str
    platform: str
    processor: str
    cpus: int
    memory: int
    versions: dict[str, str]
    """Of the libraries that bear on the figures, by name."""
    server_cpus: tuple[int, ...]
    load_cpus: tuple[int, ...]
    durability: str


class Traffic(Record, frozen=True):
    """What one side counted, over all clients of the block."""

    requests: dict[str, dict[str, int]]
    """By route (``GET /api/jobs``) and status (``"200"``). The upgrade of a stream is a connection, not a request."""
    connections: int
    streams: int = 0
    """Of the connections, those that became a stream."""
    sent: int = 0
    """Application bytes from clients to the server: HTTP heads and bodies, WebSocket frames."""
    received: int = 0
    wire_sent: int | None = None
    """Bytes that TCP carried, as the kernel counted them per socket (TCP_INFO), repeats of lost segments and all;
    headers of IP and TCP not included. None where the system does not tell."""
    wire_received: int | None = None

    @property
    def total(self) -> int:
        """Requests of every route and status."""
        return sum(sum(each.values()) for each in self.requests.values())


class Updates(Record, frozen=True):
    """What became of the state changes that were committed in the measured time, at all clients together."""

    committed: int
    due: int
    """Committed, times the clients that were there: how many observations there should be."""
    seen: int
    """Of those, how many clients came to know, by themselves or by a later state of the same job."""
    superseded: int
    """Of those seen, how many never showed: a later state of the job came first."""
    lost: int
    """Due and never seen, although there was time for it."""
    duplicated: int = 0
    out_of_order: int = 0


class Staleness(Record, frozen=True):
    """Seconds from a commit to when a client first knew of it, over all clients and updates of the block."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float
    histogram: str
    """HdrHistogram of microseconds (1 us to 1 h, 3 digits), encoded by the library, base64."""


class Server(Record, frozen=True):
    """The server's side of a block."""

    cpu_s: float
    """CPU seconds of the process, user and system, in the measured time."""
    rss: int
    """Resident bytes at the end of the measured time."""
    db_queries: int
    """Statements that the database ran for reads."""
    db_writes: int
    """Transactions committed."""
    traffic: Traffic
    """What the server counted, by itself."""


class Generator(Record, frozen=True):
    """The load generator's side: whether it was up to it."""

    cpu_share: float
    """CPU seconds a second: 1.0 is one core."""
    late_p99: float
    """Seconds that a poll or connect began after its time."""


class Series(Record, frozen=True):
    """How a block went: all counted from the start of its measured time, one value at each of ``at``."""

    at: tuple[float, ...]
    """Seconds, rising."""
    requests: tuple[int, ...]
    """By the clients."""
    transferred: tuple[int, ...]
    """Application bytes of both directions, by the clients."""
    cpu_s: tuple[float, ...] = ()
    """CPU seconds of the server; empty where it is not ours."""
    rss: tuple[int, ...] = ()
    """Resident bytes of the server at that moment; empty where it is not ours."""


class Block(Record, frozen=True):
    """One scenario, once."""

    scenario: str
    repeat: int
    order: int
    """Place in the run, from 0."""
    clients: int
    updates_per_s: float
    """Asked for, scaled."""
    interval: float
    """Between two polls, scaled; 0 where nothing polls."""
    seconds: float
    """Measured."""
    client: Traffic
    updates: Updates
    empty: int
    """Requests after a client's first of that route whose answer told nothing new (304s included)."""
    staleness: Staleness | None = None
    server: Server | None = None
    generator: Generator | None = None
    directory: str | None = None
    """Where the raw observations are, from the folder of ``run.json``."""
    series: Series | None = None
    per_client: tuple[tuple[int, int, int], ...] = ()
    """Of each client: updates seen as they were, superseded unseen, lost."""


class Check(Record, frozen=True):
    """Whether the run may be believed in one respect."""

    id: str
    passed: bool
    detail: str
    """One sentence with the figures, also when it passed."""
    blocks: tuple[int, ...] = ()
    """``order`` of the blocks that it failed in."""


class Estimate(Record, frozen=True):
    """One metric of one scenario: the mean over repeats, with its 95% interval where there are at least two."""

    scenario: str
    metric: str
    unit: str
    values: tuple[float, ...]
    """By repeat."""
    mean: float
    low: float | None = None
    high: float | None = None


class Comparison(Record, frozen=True):
    """One metric of ``scenario`` over that of ``vs``, paired by repeat (geometric mean of the ratios, 95% interval).

    ``ratio`` is None where ``vs`` is 0 or not above the noise; ``resolvable`` is False where the interval covers 1 (no
    difference) or cannot be had.
    """

    metric: str
    scenario: str
    vs: str
    ratio: float | None
    low: float | None
    high: float | None
    resolvable: bool
    note: str = ""


class Judged(Record, frozen=True):
    """A threshold, and what became of it."""

    id: str
    metric: str
    scenario: str
    vs: str | None
    bound: str
    """As a person reads it: ``<= 0.1``."""
    value: float | None
    low: float | None
    high: float | None
    outcome: Outcome
    severity: Literal["fail", "warn"]
    detail: str


class Fit(Record, frozen=True):
    """The cost of ``scenario``: CPU seconds a second of N clients at r updates/s is ``a + N * (b + c * r)``."""

    scenario: str
    resource: str
    a: float
    b: float
    c: float
    covariance: tuple[tuple[float, ...], ...]
    points: int
    residual: float
    """Standard deviation of the residuals, in the unit of the resource."""
    max_clients: int
    max_updates: float
    saturation: float | None = None
    """Clients at the highest measured rate at which one core is full; nothing is extrapolated beyond."""


class BreakEven(Record, frozen=True):
    """Where polling gets cheaper: for an interval, the rate of updates at which both cost a client alike.

    Interval (seconds) and rate (updates/s) are scaled back to a clock of 1, so that a person can compare with theirs.
    """

    interval: float
    updates_per_s: float | None
    """None: one of both is cheaper at every rate; ``note`` says which."""
    low: float | None
    high: float | None
    note: str = ""
    scenario: str = "ws"
    vs: str = "poll"
    resource: str = "cpu"


class Run(Record, frozen=True):
    """A whole ``run.json``."""

    schema: int
    started_at: str
    seconds: float
    complete: bool
    """False: it was interrupted; what is here is valid, and less than was planned."""
    command: tuple[str, ...]
    plan: Plan
    environment: Environment
    blocks: tuple[Block, ...]
    checks: tuple[Check, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    thresholds: tuple[Judged, ...] = ()
    fits: tuple[Fit, ...] = ()
    break_even: tuple[BreakEven, ...] = ()
    conclusion: Conclusion = "invalid"


def encode(run: Run) -> bytes:
    """``run.json``, indented, so that a person may read it and a diff shows what changed."""
    return msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n"


def decode(raw: bytes) -> Run:
    """A ``run.json``. Raises ``msgspec.MsgspecError``: it is none of schema 1."""
    return msgspec.json.decode(raw, type=Run)
