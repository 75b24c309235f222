"""One figure of every scenario, as bars with their intervals."""

from typing import Final

from markupsafe import Markup

from bench.metrics import METRICS
from bench.report.charts.svg import WIDTH, Scale, drawing, line, tag, text
from bench.report.figures import amount
from bench.result import Run

_ROW: Final = 26.0
_LEFT: Final = 112.0
_RIGHT: Final = 126.0


def draw(run: Run, metric: str) -> Markup | None:
    """The estimates of ``metric``; None where there is none."""
    rows = [each for each in run.estimates if each.metric == metric and each.scenario != "idle"]
    if not rows:
        return None
    most = max(max(each.mean, each.high or 0.0) for each in rows)
    scale = Scale(0.0, most or 1.0, _LEFT, WIDTH - _RIGHT)
    parts = []
    for k, each in enumerate(rows):
        y = 4 + _ROW * k
        wide = max(1.0, scale(max(0.0, each.mean)) - _LEFT)
        kind = "push" if each.scenario.startswith("ws") else "poll"
        parts += [
            text(_LEFT - 8, y + 16, each.scenario, "label", "end"),
            tag("rect", x=_LEFT, y=y + 4, width=wide, height=15, rx=2, class_=f"bar {kind}"),
            text(WIDTH - 4, y + 16, amount(each.mean, metric), "figure", "end"),
        ]  # fmt: skip
        if each.low is not None and each.high is not None and each.high > each.low:
            parts.append(line(scale(each.low), y + 11.5, scale(each.high), y + 11.5, "spread"))
    return drawing(8 + _ROW * len(rows), f"{METRICS[metric].words} by scenario", parts)
