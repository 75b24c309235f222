"""Which updates clients missed: how many were seen as they were, superseded unseen, or lost; and by which client."""

from typing import Final

from markupsafe import Markup

from bench.metrics import CONTROLS, blocks_of
from bench.report.charts.svg import WIDTH, drawing, polygon, tag, text
from bench.result import Run

_ROW: Final = 30.0
_LEFT: Final = 112.0
_RIGHT: Final = 96.0


def scenarios(run: Run) -> list[str]:
    """Those with updates that were due."""
    return [
        each for each in run.plan.scenarios
        if each not in CONTROLS and any(block.updates.due for block in blocks_of(run, each))
    ]  # fmt: skip


def draw(run: Run) -> Markup | None:
    """All repeats of a scenario together, a bar each."""
    rows = scenarios(run)
    parts = []
    room = WIDTH - _LEFT - _RIGHT
    for k, name in enumerate(rows):
        updates = [each.updates for each in blocks_of(run, name)]
        due = sum(each.due for each in updates)
        superseded, lost = sum(each.superseded for each in updates), sum(each.lost for each in updates)
        y, x = 4 + _ROW * k, _LEFT
        parts.append(text(_LEFT - 8, y + 16, name, "label", "end"))
        for count, kind in ((due - superseded - lost, "seen"), (superseded, "superseded"), (lost, "lost")):
            wide = room * max(0, count) / due
            if count > 0:
                wide = max(wide, 1.5)  # one lost update is to be seen
                parts.append(tag("rect", x=x, y=y + 4, width=wide, height=15.0, class_=f"part {kind}"))
                x += wide
        missed = superseded + lost
        parts.append(text(WIDTH - 4, y + 16, "none missed" if not missed else f"{missed / due:.1%}", "figure", "end"))
    return drawing(8 + _ROW * len(rows), "Updates seen, superseded unseen and lost", parts) if rows else None


def by_client(run: Run, scenario: str) -> Markup | None:
    """A column a client of the first repeat, most missed first: from the top, lost, superseded, seen."""
    block = next((each for each in blocks_of(run, scenario) if each.per_client), None)
    if block is None or not any(superseded or lost for _, superseded, lost in block.per_client):
        return None
    clients = sorted(block.per_client, key=lambda each: (-each[2], -each[1]))
    wide, high = (WIDTH - 8) / len(clients), 64.0
    edges = [_edges(each) for each in clients]
    parts = []
    for kind, upper, lower in (("lost", 0, 1), ("superseded", 1, 2), ("seen", 2, 3)):
        if any(each[lower] > each[upper] for each in edges):
            ends = [(4 + wide * (k + side), each) for k, each in enumerate(edges) for side in (0, 1)]
            outline = [(x, 2 + high * each[upper]) for x, each in ends] + [
                (x, 2 + high * each[lower]) for x, each in ends[::-1]
            ]
            parts.append(polygon(outline, f"part {kind}"))
    return drawing(high + 4, f"What each client of {scenario} missed", parts)


def _edges(client: tuple[int, int, int]) -> tuple[float, float, float, float]:
    """Where the parts lost, superseded and seen begin and end, from 0 to 1."""
    seen, superseded, lost = client
    total = max(1, seen + superseded + lost)
    return 0.0, lost / total, (lost + superseded) / total, (lost + superseded + seen) / total
