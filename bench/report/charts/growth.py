"""What N clients cost, on logarithmic axes, with the band: solid where measured, dashed beyond, up to a full core."""

import math
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from bench import cost
from bench.metrics import cpu_attributable
from bench.report.charts.svg import Frame, drawing, line, polygon, polyline, stroke, tag, text
from bench.report.figures import number
from bench.result import Fit, Run

_HEIGHT: Final = 270.0
_MOST: Final = 1_000_000.0
_FLOOR: Final = (1e-6, 1e-2)
"""Cores that the axis may begin at: a fit whose constant is below the noise must not squeeze the rest."""


def draw(run: Run, fits: Sequence[Fit], rate: float) -> Markup | None:
    """The fits (on a clock of 1) at ``rate``; None where there is none."""
    if not fits:
        return None
    one = [max(_FLOOR[0], min(_FLOOR[1], cost.cost(each, 1.0, rate).value)) for each in fits]
    frame = Frame.of(
        (1.0, _MOST), (10.0 ** math.floor(math.log10(min(one))), 2.0), _HEIGHT, log_x=True, log_y=True, left=58.0
    )
    parts = frame.axes("clients", "cores", _thousands, number)
    full = frame.y(1.0)
    parts += [
        line(frame.x.start, full, frame.x.end, full, "one"),
        text(frame.x.start + 4, full - 4, "one core is full", "words"),
    ]
    for fitted in fits:
        parts += _band(frame, fitted, rate)
    for fitted in sorted(fits, key=lambda each: each.scenario == "ws"):
        parts += _line(frame, fitted, rate)
        parts += _points(frame, run, fitted, rate)
    return drawing(_HEIGHT, f"Server CPU by number of clients at {number(rate)} updates/s", parts)


def _thousands(value: float) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


def _grid(start: float, end: float) -> list[float]:
    return [start * (end / start) ** (k / 40) for k in range(41)]


def _end(fitted: Fit, rate: float) -> float:
    full = cost.saturation(fitted, rate)
    return _MOST if full is None else min(_MOST, max(1.0, full * (1 - 1e-9)))


def _band(frame: Frame, fitted: Fit, rate: float) -> list[Markup]:
    found = [(n, cost.cost(fitted, n, rate)) for n in _grid(1.0, _end(fitted, rate))]
    upper = frame.place([(n, each.high) for n, each in found])
    lower = frame.place([(n, each.low) for n, each in found])
    return [polygon(upper + lower[::-1], f"band {'push' if fitted.scenario.startswith('ws') else 'poll'}")]


def _line(frame: Frame, fitted: Fit, rate: float) -> list[Markup]:
    end = _end(fitted, rate)
    measured = min(end, float(fitted.max_clients))
    parts = []
    for start, stop, more in ((1.0, measured, ""), (measured, end, " beyond")):
        points = [(n, cost.cost(fitted, n, rate).value) for n in _grid(start, stop)]
        parts.append(polyline(frame.place(points), stroke(fitted.scenario) + more))
    if end < _MOST:
        x, y = frame.x(end), frame.y(1.0)
        parts.append(tag("circle", cx=x, cy=y, r=3.5, class_="stop"))
    return parts


def _points(frame: Frame, run: Run, fitted: Fit, rate: float) -> list[Markup]:
    scale = run.plan.time_scale
    at = rate * scale
    kind = "push" if fitted.scenario.startswith("ws") else "poll"
    parts = []
    for block in run.blocks:
        if block.scenario != fitted.scenario or abs(block.updates_per_s - at) > 1e-6 * at or not block.clients:
            continue
        value = cpu_attributable(block, run)
        if value is not None and value > 0:
            parts.append(
                tag("circle", cx=frame.x(block.clients), cy=frame.y(value / scale), r=2.2, class_=f"point {kind}")
            )
    return parts
