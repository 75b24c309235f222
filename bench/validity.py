"""Whether a run may be believed: what its blocks must have in common with each other and with the plan. Pure.

A run that fails one of these is invalid, whatever its figures say, and never passes.
"""

from collections.abc import Callable, Iterable, Sequence
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


OURS: Final = frozenset({"counts-agree", "updates-planned", "nothing-lost", "polls-uniform"})
"""Checks that compare with what our server counted, or committed."""


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


Finding = str | None
"""What is wrong with a block; None: nothing."""


def checks(evidence: Sequence[Evidence]) -> tuple[Check, ...]:
    """All of them, over all blocks."""
    return tuple(
        _over(evidence, name, look, well)
        for name, look, well in (
            ("counts-agree", _agree, "server and clients counted the same requests and connections"),
            ("counts-expected", _as_planned, "requests and connections are as many as the plan says"),
            ("updates-planned", _updates, "every planned update was committed, as many in each scenario"),
            ("nothing-lost", _lost, "no update was lost, doubled or out of order"),
            ("no-errors", _errors, "every client did all it was to do"),
            ("polls-uniform", _uniform, "poll staleness is uniform between nothing and one interval"),
            ("generator-headroom", _headroom, f"the load generator was below {MAX_SHARE:.0%} of its core"),
            ("on-schedule", _on_schedule, "polls and updates began on time"),
        )
    )


def _over(evidence: Sequence[Evidence], name: str, look: Callable[[Evidence], Finding], well: str) -> Check:
    wrong = [(each, found) for each in evidence if (found := look(each)) is not None]
    if not evidence:
        return Check(name, False, "no block was measured")
    if name in OURS and all(each.block.server is None for each in evidence):
        return Check(name, True, "not looked at: only the clients counted, the server is not ours")
    if not wrong:
        return Check(name, True, f"{well} ({_figures(name, evidence)})")
    first, found = wrong[0]
    more = f" (and {len(wrong) - 1} more blocks)" if len(wrong) > 1 else ""
    where = f"{first.block.scenario}, repeat {first.block.repeat + 1}"
    return Check(name, False, f"{where}: {found}{more}", tuple(each.block.order for each, _ in wrong))


def _figures(name: str, evidence: Sequence[Evidence]) -> str:
    blocks = [each.block for each in evidence]
    match name:
        case "counts-agree" | "counts-expected":
            return f"{sum(each.client.total for each in blocks):,} requests in {len(blocks)} blocks"
        case "updates-planned" | "nothing-lost":
            return f"{sum(each.updates.due for each in blocks):,} observations"
        case "no-errors":
            return f"{sum(each.clients for each in blocks):,} clients"
        case "polls-uniform":
            return f"{sum(len(each.from_due) for each in evidence):,} stalenesses"
        case "generator-headroom":
            return f"at most {max((each.generator.cpu_share for each in blocks if each.generator), default=0.0):.0%}"
        case _:
            polls = max((each.generator.late_p99 for each in blocks if each.generator), default=0.0)
            updates = max(each.server_late_p99 for each in evidence)
            return f"p99 at most {polls * 1000:.1f} ms late, updates {updates * 1000:.1f} ms"


def _agree(each: Evidence) -> Finding:
    server = each.block.server
    if server is None:
        return None  # somebody else's: there is nothing to compare with
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
        return None
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


def _updates(each: Evidence) -> Finding:
    committed = each.block.updates.committed
    if each.block.server is not None and committed != each.planned:
        return f"{committed} updates were committed, and {each.planned} were planned"
    return None


def _lost(each: Evidence) -> Finding:
    updates, scenario = each.block.updates, each.cell.scenario
    lost = 0 if scenario.limited else updates.lost  # who is refused does not see: that is what it is to show
    if lost or updates.duplicated or updates.out_of_order:
        doubled, disordered = updates.duplicated, updates.out_of_order
        return f"{lost} of {updates.due} updates lost, {doubled} doubled, {disordered} out of order"
    return None


def _errors(each: Evidence) -> Finding:
    if each.errors:
        return f"{each.errors[0]} (of {len(each.errors)} errors)"
    if each.finished != each.block.clients:
        return f"{each.finished} of {each.block.clients} clients did all they were to do"
    return None


def _uniform(each: Evidence) -> Finding:
    if not each.cell.scenario.polls or each.cell.scenario.limited or not each.from_due:
        return None
    # Clients see the same updates: only as many values are independent as there are clients, or updates if fewer.
    independent = min(each.block.updates.committed, len(each.from_due))
    if independent < UNIFORM_LEAST:
        return None  # too few to tell, and no sign of anything wrong
    passed, detail = uniform_check(each.from_due, each.block.interval, independent)
    return None if passed else detail


def _headroom(each: Evidence) -> Finding:
    found = each.block.generator
    if found is not None and found.cpu_share >= MAX_SHARE:
        return f"the load generator took {found.cpu_share:.0%} of its core, and has to stay below {MAX_SHARE:.0%}"
    return None


def _on_schedule(each: Evidence) -> Finding:
    polls = each.block.generator.late_p99 if each.block.generator else 0.0
    # Staleness counts from the commit, so a late update does no harm while it comes in time to be seen.
    for what, seconds, share in (("polls and arrivals", polls, MAX_LATE), ("updates", each.server_late_p99, MARGIN)):
        allowed = max(LATE_FLOOR_S, share * each.cell.interval)
        if seconds > allowed:
            told = f"{seconds * 1000:.1f} ms late; {allowed * 1000:.1f} ms are allowed"
            return f"the 99th percentile of {what} came {told}"
    return None


def failing(found: Iterable[Check]) -> list[str]:
    """Ids of those that failed."""
    return [each.id for each in found if not each.passed]
