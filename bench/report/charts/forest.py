"""Ratios with their intervals, on one logarithmic axis: left of 1 push took less, right of it polling did."""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from bench.metrics import METRICS
from bench.report.charts.svg import WIDTH, Scale, drawing, line, polygon, tag, text
from bench.report.figures import number
from bench.result import Comparison, Run

SHOWN: Final = (
    "requests_per_client", "connections_per_client", "app_bytes_per_client", "wire_bytes_per_client", "cpu_s_attributable",
    "rss_per_client", "db_queries", "staleness_s.p50", "staleness_s.p99",
)  # fmt: skip
_ROW: Final = 34.0
_TOP: Final = 26.0


def draw(run: Run, scenario: str, vs: str) -> Markup | None:
    """The ratios of ``scenario`` over ``vs``."""
    rows = [
        each for name in SHOWN for each in run.comparisons
        if (each.metric, each.scenario, each.vs) == (name, scenario, vs) and each.ratio is not None
    ]  # fmt: skip
    if not rows:
        return None
    scale = _scale(rows)
    bottom = _TOP + _ROW * len(rows)
    parts = []
    for value in scale.ticks(5):
        x = scale(value)
        parts += [line(x, _TOP, x, bottom, "grid"), text(x, bottom + 16, f"{number(value)}×", "tick", "middle")]
    one = scale(1.0)
    parts += [line(one, _TOP - 4, one, bottom, "one"), text(one - 6, 14, f"‹ {scenario} takes less", "words", "end"),
              text(one + 6, 14, f"{vs} less ›", "words")]  # fmt: skip
    for k, each in enumerate(rows):
        parts += _row(each, scale, _TOP + _ROW * k)
    return drawing(bottom + 24, f"Ratios of {scenario} to {vs} with their 95% intervals", parts)


def _scale(rows: Sequence[Comparison]) -> Scale:
    seen = [value for each in rows for value in (each.ratio, each.low, each.high) if value]
    low, high = min([*seen, 0.5]), max([*seen, 2.0])
    # Nothing is drawn a thousand times beyond the rest: an interval that reaches 0 ends at the edge.
    return Scale(max(low / 1.5, 1e-4), min(high * 1.5, 1e4), 8.0, WIDTH - 12.0, log=True)


def _row(each: Comparison, scale: Scale, top: float) -> list[Markup]:
    ratio = each.ratio or 0.0
    y, x = top + 24, scale(ratio)
    side = "even" if not each.resolvable else "less" if ratio < 1 else "more"
    parts = [
        text(8, top + 13, METRICS[each.metric].words, "label"),
        text(WIDTH - 12, top + 13, f"{number(ratio)}×", "figure", "end"),
    ]
    if each.low is not None and each.high is not None:
        parts.append(line(scale(each.low), y, max(scale(each.high), scale(each.low) + 1), y, f"whisker {side}"))
    if ratio < scale.low:  # nothing at all: beyond the axis
        parts.append(polygon([(x, y), (x + 9, y - 5), (x + 9, y + 5)], f"dot {side}"))
    else:
        parts.append(tag("circle", cx=x, cy=y, r=4.5, class_=f"dot {side}"))
    return parts
