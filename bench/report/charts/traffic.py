"""Requests and bytes, as they add up over a block: a client of each scenario."""

from collections.abc import Callable
from typing import Literal

from markupsafe import Markup

from bench.metrics import CONTROLS, blocks_of
from bench.report.charts.svg import Frame, drawing, polyline, stroke
from bench.report.figures import number, size
from bench.result import Block, Run

_HEIGHT = 230.0

What = Literal["requests", "transferred"]


def scenarios(run: Run) -> list[str]:
    """Those that kept a series."""
    return [each for each in run.plan.scenarios if each not in CONTROLS and _first(run, each)]


def draw(run: Run, what: What) -> Markup | None:
    """The first repeat of each scenario; None where none kept a series."""
    found = {name: block for name in scenarios(run) if (block := _first(run, name))}
    lines = {name: _points(run, block, what) for name, block in found.items()}
    if not lines:
        return None
    most = max(y for points in lines.values() for _, y in points)
    end = max(x for points in lines.values() for x, _ in points)
    if most <= 0 or end <= 0:
        return None
    minutes = end > 120
    frame = Frame.of((0.0, end / 60 if minutes else end), (0.0, most * 1.05), _HEIGHT, left=58.0)
    figure: Callable[[float], str] = number if what == "requests" else size
    words = "requests a client" if what == "requests" else "application bytes a client"
    parts = frame.axes(f"{'minutes' if minutes else 'seconds'} unscaled", words, number, figure)
    for name, points in sorted(lines.items(), key=lambda each: each[0] == "ws"):
        parts.append(polyline(frame.place((x / 60 if minutes else x, y) for x, y in points), stroke(name)))
    return drawing(_HEIGHT, f"Cumulative {words}", parts)


def _first(run: Run, scenario: str) -> Block | None:
    return next((each for each in blocks_of(run, scenario) if each.series is not None and each.clients), None)


def _points(run: Run, block: Block, what: What) -> list[tuple[float, float]]:
    series = block.series
    if series is None:
        return []
    values = series.requests if what == "requests" else series.transferred
    return [(at * run.plan.time_scale, value / block.clients) for at, value in zip(series.at, values, strict=False)]
