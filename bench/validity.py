"""Whether a run may be believed: what its blocks must have in common with each other and with the plan. Pure.

A run that fails one of these is invalid, whatever its figures say, and never passes. A check speaks of what it looked
at alone, and says so where that is nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.plan import Cell
from bench.result import Block, Check, Traffic
from bench.scenarios import expected
from bench.statistics import UNIFORM_LEAST, uniform_check
from bench.workload import MARGIN

MAX_SHARE: Final = 0.7
"""Of its core: above it a load generator waits for itself, and takes that for the server's time."""
MAX_LATE: Final = 0.2
"""Of an interval, that the 99th percentile of polls and arrivals may begin after their time."""
LATE_FLOOR_S: Final = 0.025
"""Below it lateness is the operating system's, and of no account."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A block, and what its checks look at beside it."""

    cell: Cell
    block: Block
    planned: int
    """Updates that the workload was to make and clients were to see."""
    finished: int
    """Clients that did all they were to do."""
    errors: tuple[str, ...] = ()
    server_late_p99: float = 0.0
    """Seconds that updates were committed after they were due."""
    from_due: tuple[float, ...] = ()
    """Staleness to when the poll that told should have begun, seconds."""


@dataclass(frozen=True, slots=True)
class Unlooked:
    """A check did not look at a block. ``why``: though it is of the kind that the check is for; empty: it is not."""

    why: str = ""


Finding = str | Unlooked | None
"""What is wrong with a block; None: it was looked at, and nothing is."""
NOT_OURS: Final = Unlooked("only the clients counted, the server is not ours")


@dataclass(frozen=True, slots=True)
class _Rule:
    """One check: how it looks at a block, what it says when all is well, its figures, and of which blocks it speaks."""

    id: str
    look: Callable[[Evidence], Finding]
    well: str
    figures: Callable[[Sequence[Evidence]], str]
    kind: str

    def over(self, evidence: Sequence[Evidence]) -> Check:
        """Look at all blocks. What is said of them is said of those alone that were looked at."""
        if not evidence:
            return Check(self.id, False, "no block was measured")
        found = [(each, self.look(each)) for each in evidence]
        wrong = [(each, what) for each, what in found if isinstance(what, str)]
        if wrong:
            first, what = wrong[0]
            more = f" (and {len(wrong) - 1} more blocks)" if len(wrong) > 1 else ""
            where = f"{first.block.scenario}, repeat {first.block.repeat + 1}"
            return Check(self.id, False, f"{where}: {what}{more}", tuple(each.block.order for each, _ in wrong))
        reasons = [what.why for _, what in found if isinstance(what, Unlooked) and what.why]
        told = "; ".join(dict.fromkeys(reasons))
        looked = [each for each, what in found if what is None]
        if not looked:
            return Check(self.id, True, f"not looked at: {told or f'no block {self.kind}'}")
        rest = f"; not looked at in {_blocks(len(reasons))}: {told}" if reasons else ""
        return Check(self.id, True, f"{self.well} ({self.figures(looked)} in {_blocks(len(looked))}{rest})")


def _blocks(n: int) -> str:
    return "1 block" if n == 1 else f"{n} blocks"


def checks(evidence: Sequence[Evidence]) -> tuple[Check, ...]:
    """All of them, over all blocks."""
    return tuple(rule.over(evidence) for rule in RULES)


def _agree(each: Evidence) -> Finding:
    server = each.block.server
    if server is None:
        return NOT_OURS
    ours, theirs = _counted(each.block.client), _counted(server.traffic)
    for what in sorted({*ours, *theirs}):
        if ours.get(what, 0) != theirs.get(what, 0):
            return f"{what}: the clients counted {ours.get(what, 0)}, the server {theirs.get(what, 0)}"
    return None


def _counted(traffic: Traffic) -> dict[str, int]:
    found = {f"{route} {status}": n for route, by in traffic.requests.items() for status, n in by.items()}
    return {**found, "connections": traffic.connections, "streams": traffic.streams}


def _as_planned(each: Evidence) -> Finding:
    plan = expected(each.cell.scenario, each.cell.clients, each.cell.polls)
    if plan is None:
        return Unlooked("a scenario of your own has no such plan")
    counted = each.block.client
    for route in sorted({*plan.requests, *counted.requests}):
        wanted = plan.requests.get(route, 0)
        got = sum(counted.requests.get(route, {}).values())
        if wanted is not None and got != wanted:
            return f"{route}: {got} requests, and {wanted} were planned"
    if (counted.connections, counted.streams) != (plan.connections, plan.streams):
        return (
            f"{counted.connections} connections, {counted.streams} of them streams, "
            f"and {plan.connections} and {plan.streams} were planned"
        )
    return None


def _planned(each: Evidence) -> int:
    """Requests that the plan says how many there are of."""
    plan = expected(each.cell.scenario, each.cell.clients, each.cell.polls)
    return 0 if plan is None else sum(n for n in plan.requests.values() if n is not None)


def _updates(each: Evidence) -> Finding:
    committed = each.block.updates.committed
    if each.block.server is None:
        return NOT_OURS
    if committed != each.planned:
        return f"{committed} updates were committed, and {each.planned} were planned"
    return None if committed else Unlooked("no updates were planned")


def _lost(each: Evidence) -> Finding:
    updates, scenario = each.block.updates, each.cell.scenario
    if each.block.server is None:
        return NOT_OURS
    lost = 0 if scenario.limited else updates.lost  # who is refused does not see: that is what it is to show
    if lost or updates.duplicated or updates.out_of_order:
        doubled, disordered = updates.duplicated, updates.out_of_order
        return f"{lost} of {updates.due} updates lost, {doubled} doubled, {disordered} out of order"
    if not scenario.informs or scenario.limited:
        return Unlooked()
    return None if updates.due else Unlooked("there were no updates to see")


def _errors(each: Evidence) -> Finding:
    if each.errors:
        return f"{each.errors[0]} (of {len(each.errors)} errors)"
    if each.finished != each.block.clients:
        return f"{each.finished} of {each.block.clients} clients did all they were to do"
    return None if each.block.clients else Unlooked()


def _uniform(each: Evidence) -> Finding:
    if not each.cell.scenario.polls or each.cell.scenario.limited:
        return Unlooked()
    if each.block.server is None:
        return NOT_OURS
    # Clients see the same updates: only as many values are independent as there are clients, or updates if fewer.
    independent = min(each.block.updates.committed, len(each.from_due))
    if independent < UNIFORM_LEAST:
        return Unlooked(f"too few stalenesses to tell, it takes {UNIFORM_LEAST}")
    passed, detail = uniform_check(each.from_due, each.block.interval, independent)
    return None if passed else detail


def _headroom(each: Evidence) -> Finding:
    found = each.block.generator
    if found is None:
        return Unlooked()
    if found.cpu_share >= MAX_SHARE:
        return f"the load generator took {found.cpu_share:.0%} of its core, and has to stay below {MAX_SHARE:.0%}"
    return None


def _on_schedule(each: Evidence) -> Finding:
    # Staleness counts from the commit, so a late update does no harm while it comes in time to be seen.
    for what, seconds, share in _lateness(each):
        allowed = max(LATE_FLOOR_S, share * each.cell.interval)
        if seconds > allowed:
            told = f"{seconds * 1000:.1f} ms late; {allowed * 1000:.1f} ms are allowed"
            return f"the 99th percentile of {what} came {told}"
    return None if _lateness(each) else Unlooked()


def _lateness(each: Evidence) -> list[tuple[str, float, float]]:
    """What had a time of its own, the 99th percentile of seconds that it came late, and the share that is allowed."""
    found = []
    if each.block.generator is not None:
        found.append(("polls and arrivals", each.block.generator.late_p99, MAX_LATE))
    if each.block.server is not None and each.planned:
        found.append(("updates", each.server_late_p99, MARGIN))
    return found


def _worst(evidence: Sequence[Evidence]) -> str:
    worst: dict[str, float] = {}
    for what, seconds, _ in (late for each in evidence for late in _lateness(each)):
        worst[what] = max(seconds, worst.get(what, 0.0))
    return "p99 of " + ", of ".join(f"{what} at most {seconds * 1000:.1f} ms late" for what, seconds in worst.items())


RULES: Final = (
    _Rule(
        "counts-agree", _agree, "server and clients counted the same requests and connections",
        lambda looked: f"{sum(each.block.client.total for each in looked):,} requests", "was counted on both sides",
    ),
    _Rule(
        "counts-expected", _as_planned, "requests and connections are as many as the plan says",
        lambda looked: f"{sum(map(_planned, looked)):,} requests", "has a plan",
    ),
    _Rule(
        "updates-planned", _updates, "every planned update was committed, as many in each scenario",
        lambda looked: f"{sum(each.block.updates.committed for each in looked):,} updates", "has updates",
    ),
    _Rule(
        "nothing-lost", _lost, "no update was lost, doubled or out of order",
        lambda looked: f"{sum(each.block.updates.due for each in looked):,} observations",
        "has clients that are to see every update",
    ),
    _Rule(
        "no-errors", _errors, "every client did all it was to do",
        lambda looked: f"{sum(each.block.clients for each in looked):,} clients", "has clients",
    ),
    _Rule(
        "polls-uniform", _uniform, "poll staleness is uniform between nothing and one interval",
        lambda looked: f"{sum(len(each.from_due) for each in looked):,} stalenesses", "polls without a limit",
    ),
    _Rule(
        "generator-headroom", _headroom, f"the load generator was below {MAX_SHARE:.0%} of its core",
        lambda looked: f"at most {max(each.block.generator.cpu_share for each in looked if each.block.generator):.0%}",
        "has clients",
    ),
    _Rule("on-schedule", _on_schedule, "what was planned began on time", _worst, "has a schedule"),
)  # fmt: skip
