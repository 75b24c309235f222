"""What N clients cost at r updates a second, and where polling gets cheaper than push. Pure.

    C(N, r) = a + N * (b + c * r)

is fitted per scenario by least squares over its blocks, of several N and r. ``a`` is what serving anybody costs, ``b``
what a client costs though nothing happens (its polls, its heartbeats), ``c`` what one update costs at one client.
CPU is taken beyond the idle control of the same repeat and rate, so that the work itself is in none of them.

Two rules carry a fit elsewhere, and both are exact if cost goes by events:
- A time scale k makes everything k times denser: on a clock of 1, ``a`` and ``b`` are k times smaller; ``c`` is not,
  as it is per update.
- A client that polls every I instead of every I0 seconds sends I0/I times the requests: its ``b + c * r`` goes with
  that. (What ``c`` of a poll is: answers that have more to say.) A stream's does not depend on an interval.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from bench.metrics import cpu_attributable, on_the_wire
from bench.result import Block, BreakEven, Fit, Run
from bench.statistics import least_squares, t_quantile

COEFFICIENTS: Final = 3
INTERVALS: Final = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0)
"""Seconds between two polls, of the break-even surface: from a live dashboard to a cron job."""
EXTRAPOLATED: Final = (10_000, 1_000_000)
"""Clients."""

BY_INTERVAL: Final = ("poll", "poll-keepalive", "poll-etag")
"""Scenarios whose requests go by the interval: a long poll's do not, and a limited one's are refused."""

CHEAPER_PUSH: Final = "push is cheaper at every rate"
CHEAPER_POLL: Final = "polling is cheaper at every rate"


class Cost(NamedTuple):
    """What a fit says of N clients at r updates/s, with the 95% band of the mean.

    The band takes the blocks for independent of each other. Those of a repeat share its idle control, whose noise is in
    all of them, so that the true band is wider.
    """

    value: float
    low: float
    high: float
    extrapolated: bool
    """Beyond what was measured."""


class Saturated(Exception):
    """One core would be full before; ``clients`` is where."""

    def __init__(self, clients: float) -> None:
        super().__init__(f"one core is full at {clients:,.0f} clients: beyond that one server does not go")
        self.clients = clients


def _wire(block: Block, _: Run) -> float | None:
    carried = on_the_wire(block)
    return None if carried is None or block.seconds <= 0 else carried / block.seconds


RESOURCES: Final[dict[str, Callable[[Block, Run], float | None]]] = {"cpu": cpu_attributable, "wire": _wire}
"""``cpu`` in CPU seconds a second, ``wire`` in bytes a second."""


def fit(run: Run, scenario: str, resource: str = "cpu") -> Fit | None:
    """The cost of a scenario as measured, not scaled back; None where the blocks do not tell a, b and c apart."""
    blocks = [each for each in run.blocks if each.scenario == scenario and each.clients > 0]
    known = [(each, RESOURCES[resource](each, run)) for each in blocks]
    rows = [(1.0, float(each.clients), each.clients * each.updates_per_s) for each, value in known if value is not None]
    values = [value for _, value in known if value is not None]
    if len(rows) <= COEFFICIENTS or len({row[1] for row in rows}) < 2:
        return None
    try:
        line = least_squares(rows, values)
    except ValueError:
        return None
    if line.covariance is None:
        return None
    a, b, c = line.coefficients
    clients = max(each.clients for each in blocks)
    rate = max(each.updates_per_s for each in blocks)
    found = Fit(scenario, resource, a, b, c, line.covariance, len(rows), line.residual, clients, rate)
    if resource != "cpu":
        return found
    return msgspec.structs.replace(found, saturation=saturation(found, rate))


def saturation(fitted: Fit, rate: float) -> float | None:
    """Clients at which watching alone fills one core at ``rate``; None where more clients cost no more."""
    per_client = fitted.b + fitted.c * rate
    return max(0.0, (1.0 - fitted.a) / per_client) if per_client > 0 else None


def scaled_back(fitted: Fit, time_scale: float) -> Fit:
    """The same fit on a clock of 1; its ``saturation`` is then that of the rate on that clock."""
    if time_scale == 1:
        return fitted
    by = (1 / time_scale, 1 / time_scale, 1.0)
    covariance = tuple(
        tuple(each * by[i] * by[j] for j, each in enumerate(row)) for i, row in enumerate(fitted.covariance)
    )
    rate = fitted.max_updates / time_scale
    changed = msgspec.structs.replace(
        fitted, a=fitted.a * by[0], b=fitted.b * by[1], c=fitted.c, covariance=covariance,
        residual=fitted.residual / time_scale, max_updates=rate,
    )  # fmt: skip
    return msgspec.structs.replace(changed, saturation=saturation(changed, rate) if fitted.resource == "cpu" else None)


def cost(fitted: Fit, clients: float, rate: float) -> Cost:
    """What ``clients`` cost at ``rate``.

    Raises:
        Saturated: one core does not do it.
    """
    if fitted.resource == "cpu":
        full = saturation(fitted, rate)
        if full is not None and clients > full:
            raise Saturated(full)
    at = (1.0, clients, clients * rate)
    value = fitted.a + clients * (fitted.b + fitted.c * rate)
    half = t_quantile(fitted.points - COEFFICIENTS) * math.sqrt(max(0.0, _spread(fitted.covariance, at)))
    beyond = clients > fitted.max_clients or rate > fitted.max_updates * (1 + 1e-9)
    return Cost(value, max(0.0, value - half), value + half, beyond)


def _spread(covariance: Sequence[Sequence[float]], at: Sequence[float]) -> float:
    return math.fsum(at[i] * at[j] * covariance[i][j] for i in range(len(at)) for j in range(len(at)))


def relative(push: Fit, poll: Fit, interval: float, polled_every: float, rate: float) -> float | None:
    """A push client's cost over that of a client that polls each ``interval`` seconds; both fits on a clock of 1."""
    polling = (poll.b + poll.c * rate) * polled_every / interval
    pushing = push.b + push.c * rate
    return pushing / polling if polling > 0 and pushing >= 0 else None


def break_even(push: Fit, poll: Fit, interval: float, polled_every: float) -> BreakEven:
    """The update rate from which on a client that polls each ``interval`` seconds is the cheaper one.

    The band is the rates at which the two costs do not differ beyond their joint uncertainty (Fieller). Both fits on a
    clock of 1; ``polled_every`` is the interval that ``poll`` was measured with.
    """
    share = polled_every / interval
    base, growth = push.b - share * poll.b, push.c - share * poll.c
    named = {"scenario": push.scenario, "vs": poll.scenario, "resource": push.resource}

    def told(rate: float | None, low: float | None, high: float | None, note: str) -> BreakEven:
        return BreakEven(interval, rate, low, high, note, **named)

    # The difference is base + growth * r: negative where push is cheaper.
    if base >= 0 and growth >= 0:
        return told(None, None, None, CHEAPER_POLL)
    if base <= 0 and growth <= 0:
        return told(None, None, None, CHEAPER_PUSH)
    rate = -base / growth
    low, high = _rates_alike(push, poll, share)
    top = max(push.max_updates, poll.max_updates)
    side = "polling" if growth > 0 else "push"
    note = f"{side} is cheaper above"
    if rate > top * (1 + 1e-9):
        note += f"; an extrapolation, measured up to {top:g} updates/s"
    return told(rate, low, high, note)


def _rates_alike(push: Fit, poll: Fit, share: float) -> tuple[float | None, float | None]:
    base, growth = push.b - share * poll.b, push.c - share * poll.c
    freedom = min(push.points, poll.points) - COEFFICIENTS
    critical = t_quantile(freedom) ** 2

    def variance(i: int, j: int) -> float:
        return push.covariance[i][j] + share * share * poll.covariance[i][j]

    a = growth * growth - critical * variance(2, 2)
    b = base * growth - critical * variance(1, 2)
    c = base * base - critical * variance(1, 1)
    inner = b * b - a * c
    if a <= 0 or inner < 0:
        return None, None  # how cost grows with updates is not above the noise: the band has no end
    root = math.sqrt(inner)
    low, high = (-b - root) / a, (-b + root) / a
    return max(0.0, low), max(0.0, high)


def surface(run: Run, fits: Sequence[Fit]) -> tuple[BreakEven, ...]:
    """The break-even line of the stream against each way of polling that was fitted."""
    found: list[BreakEven] = []
    for push in (each for each in fits if each.scenario == "ws"):
        for poll in (each for each in fits if each.scenario in BY_INTERVAL and each.resource == push.resource):
            ours, theirs = (scaled_back(each, run.plan.time_scale) for each in (push, poll))
            every = interval_of(run, poll.scenario)
            found += [break_even(ours, theirs, interval, every) for interval in INTERVALS if every > 0]
    return tuple(found)


def interval_of(run: Run, scenario: str) -> float:
    """Seconds between two polls of ``scenario`` on a clock of 1; 0 where nothing polls."""
    return next((each.interval * run.plan.time_scale for each in run.blocks if each.scenario == scenario), 0.0)
