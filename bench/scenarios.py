"""The scenarios: what a client does, and what it must have cost if all went as planned. Pure values.

Each client arrives once, at its own phase within the first interval of the measured time, and stays to its end:

* ``poll``: ``GET`` of jobs, stats and schedules every interval, each time on a fresh connection, as an idle time-out of
  a proxy or a browser makes it. ``poll-keepalive`` keeps the connection. ``poll-etag`` also sends ``If-None-Match``.
  ``poll-limited`` is ``poll-keepalive`` by three tabs of one user, against a server that allows a user 100 requests per
  15 minutes.
* ``longpoll``: the three once, then ``GET /api/events`` with ``since`` and ``wait``, again and again.
* ``ws``: the three once, then one stream from the position of the first answer on, with stats and schedules, so that a
  client of each scenario knows the same. ``ws-churn``: three times every client is cut at once, and resumes.
* The controls: ``idle`` has no clients, ``ws-idle`` streams that are signed in and subscribe to nothing. The workload
  runs in both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from jobctl.errors import InvalidInput

JOBS: Final = "GET /api/jobs"
STATS: Final = "GET /api/jobs/stats"
SCHEDULES: Final = "GET /api/jobs/schedules"
EVENTS: Final = "GET /api/events"
THREE: Final = (JOBS, STATS, SCHEDULES)
"""What a client looks at; in this order."""
TABS: Final = 3
"""Clients of ``poll-limited`` that are one user."""
LIMIT: Final = 100
LIMIT_PERIOD_S: Final = 900.0
CUTS: Final = 3
"""How often ``ws-churn`` cuts every client."""

Kind = Literal["none", "poll", "longpoll", "stream", "custom"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What the clients of a block do. ``keep``: the connection; ``etag``: send it back; ``cuts``: of every stream."""

    name: str
    kind: Kind
    keep: bool = False
    etag: bool = False
    limited: bool = False
    subscribe: bool = True
    cuts: int = 0
    locustfile: str | None = None
    """Of a scenario that somebody has added."""

    @property
    def polls(self) -> bool:
        """Whether it asks again every interval."""
        return self.kind == "poll"

    @property
    def informs(self) -> bool:
        """Whether its clients are to learn of updates, all of them."""
        return self.kind in ("poll", "longpoll", "stream") and self.subscribe


SCENARIOS: Final[Mapping[str, Scenario]] = {
    each.name: each
    for each in (
        Scenario("idle", "none"),
        Scenario("ws-idle", "stream", subscribe=False),
        Scenario("poll", "poll"),
        Scenario("poll-keepalive", "poll", keep=True),
        Scenario("poll-etag", "poll", keep=True, etag=True),
        Scenario("longpoll", "longpoll", keep=True),
        Scenario("ws", "stream"),
        Scenario("ws-churn", "stream", cuts=CUTS),
        Scenario("poll-limited", "poll", keep=True, limited=True),
    )
}
AT_EVERY_SIZE: Final = frozenset({"ws-idle", "poll", "poll-keepalive", "ws"})
"""Those that are measured for every number of clients; the others at the first."""
AT_EVERY_RATE: Final = frozenset({"idle", "poll", "ws"})
"""Those that are measured for every rate of updates; the others at the first."""


def find(name: str) -> Scenario:
    """The scenario of that name, or the one that a locustfile (``path/to/file.py``) is.

    Raises:
        InvalidInput: there is neither.
    """
    if name in SCENARIOS:
        return SCENARIOS[name]
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise InvalidInput(f"there is no locustfile {name}", field="scenario")
        return Scenario(path.stem, "custom", locustfile=str(path.resolve()))
    known = ", ".join(SCENARIOS)
    raise InvalidInput(f"there is no scenario {name!r}; there are {known}, or give a locustfile.py", field="scenario")


@dataclass(frozen=True, slots=True)
class Expected:
    """What a block must have counted. ``requests`` by route, whatever the status; None: that depends on the updates."""

    requests: Mapping[str, int | None]
    connections: int
    streams: int


def expected(scenario: Scenario, clients: int, polls: int) -> Expected | None:
    """The counts that follow from the plan; None for a scenario of somebody else's.

    Args:
        scenario: Which one.
        clients: How many.
        polls: Times that each one polls in the measured time.
    """
    once: dict[str, int | None] = dict.fromkeys(THREE, clients)
    match scenario.kind:
        case "none":
            return Expected({}, 0, 0)
        case "poll":
            connections = clients if scenario.keep else clients * polls
            return Expected(dict.fromkeys(THREE, clients * polls), connections, 0)
        case "longpoll":
            return Expected({**once, EVENTS: None}, clients, 0)
        case "stream":
            # The lists come over a connection of their own, as in a browser, and each stream is one more.
            streams = clients * (1 + scenario.cuts)
            return Expected(once, clients + streams, streams)
        case "custom":
            return None
