"""How stale updates were: the distribution of each scenario, and for a poll what theory says of it."""

from typing import NamedTuple

from markupsafe import Markup

from bench import histograms
from bench.metrics import CONTROLS, blocks_of
from bench.report.charts.svg import Frame, drawing, join, legend, polyline, stroke
from bench.report.figures import duration
from bench.result import Run

_HEIGHT = 250.0
_POINTS = 160


class Curve(NamedTuple):
    """A scenario's distribution over all its repeats."""

    scenario: str
    interval: float
    steps: tuple[histograms.Step, ...]


def curves(run: Run) -> list[Curve]:
    """Of every scenario that saw updates."""
    found = []
    for scenario in (each for each in run.plan.scenarios if each not in CONTROLS):
        blocks = [each for each in blocks_of(run, scenario) if each.staleness is not None]
        steps = histograms.distribution([each.staleness.histogram for each in blocks if each.staleness])
        if steps:
            found.append(Curve(scenario, blocks[0].interval, steps))
    return found


def draw(shown: list[Curve], *, log: bool) -> Markup | None:
    """The distributions; linear as waiting feels, logarithmic to tell milliseconds from each other."""
    if not shown:
        return None
    high = max([each for curve in shown for each in (curve.interval * 1.1, _most(curve))])
    low = min(_least(curve) for curve in shown) / 2 if log else 0.0
    frame = Frame.of((low, high), (0.0, 1.0), _HEIGHT, log_x=log)
    parts = frame.axes("from commit to first seen", "share of updates", duration, lambda share: f"{share:.0%}")
    for interval in sorted({curve.interval for curve in shown if curve.interval}):
        theory = [
            (low + (interval - low) * k / 60 if not log else low * (interval / low) ** (k / 60)) for k in range(61)
        ]
        parts.append(polyline(frame.place([(x, x / interval) for x in theory] + [(high, 1.0)]), "theory"))
    for curve in sorted(shown, key=lambda each: each.scenario == "ws"):
        points = [(low, 0.0), *_thinned(curve), (high, 1.0)]
        parts.append(polyline(frame.place(points), stroke(curve.scenario)))
    return drawing(_HEIGHT, f"Staleness, {'logarithmic' if log else 'linear'}", parts)


def legend_of(shown: list[Curve]) -> Markup:
    """What the lines are."""
    theory = [("theory", "U(0, T), what a poll must do")] if any(each.interval for each in shown) else []
    return join([legend((each.scenario for each in shown), *theory)])


def _least(curve: Curve) -> float:
    """Where the axis may begin: one update that was seen at once must not squeeze all the others."""
    return histograms.quantile(curve.steps, 0.005) or curve.steps[0].seconds


def _most(curve: Curve) -> float:
    return histograms.quantile(curve.steps, 0.999) or curve.steps[-1].seconds


def _thinned(curve: Curve) -> list[tuple[float, float]]:
    """A step curve of some hundred points, its first and last among them."""
    every = max(1, len(curve.steps) // _POINTS)
    kept = [step for k, step in enumerate(curve.steps) if k % every == 0 or k == len(curve.steps) - 1]
    points, before = [], 0.0
    for step in kept:
        points += [(step.seconds, before), (step.seconds, step.at_most)]
        before = step.at_most
    return points
