"""Ratios with their intervals, on one logarithmic axis: left of 1 push took less, right of it polling did."""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from bench.report.charts.svg import WIDTH, Scale, drawing, line, polygon, tag, text
from bench.report.claims import differ
from bench.report.figures import number
from bench.result import Comparison, Run

SHOWN: Final = {
    "requests_per_client": "Requests", "connections_per_client": "Connections",
    "app_bytes_per_client": "Application bytes", "wire_bytes_per_client": "Bytes on the wire",
    "cpu_s_attributable": "Server CPU", "rss_per_client": "Memory a client", "db_queries": "Database reads",
    "staleness_s.p50": "Staleness, p50", "staleness_s.p99": "Staleness, p99",
}  # fmt: skip
_ROW: Final = 25.0
_TOP: Final = 26.0
_LEFT: Final = 128.0
_RIGHT: Final = 62.0


def rows_of(run: Run, scenario: str, vs: str) -> list[Comparison]:
    """The comparisons that are drawn."""
    return [
        each for name in SHOWN for each in run.comparisons
        if (each.metric, each.scenario, each.vs) == (name, scenario, vs) and each.ratio is not None
    ]  # fmt: skip


def scale_of(rows: Sequence[Comparison]) -> Scale:
    """An axis that all of ``rows`` are on, so that drawings can be compared."""
    seen = [value for each in rows for value in (each.ratio, each.low, each.high) if value]
    low, high = min([*seen, 0.5]), max([*seen, 2.0])
    # An interval that all but reaches 0 ends at the edge, or nothing else could be told apart.
    return Scale(max(low / 1.3, 1e-4), min(high * 1.3, 1e4), _LEFT + 6, WIDTH - _RIGHT, log=True)


def draw(run: Run, scenario: str, vs: str, scale: Scale) -> Markup | None:
    """The ratios of ``scenario`` over ``vs``."""
    rows = rows_of(run, scenario, vs)
    if not rows:
        return None
    bottom = _TOP + _ROW * len(rows)
    parts = []
    for value in scale.ticks(5):
        x = scale(value)
        parts += [line(x, _TOP, x, bottom, "grid"), text(x, bottom + 16, f"{number(value)}×", "tick", "middle")]
    one = scale(1.0)
    parts += [
        line(one, _TOP - 6, one, bottom, "one"),
        text(scale.start - 6, 14, f"‹ {scenario} takes less", "words"),
        text(WIDTH - 4, 14, "takes more ›", "words", "end"),
    ]
    for k, each in enumerate(rows):
        parts += _row(each, scale, _TOP + _ROW * (k + 0.5))
    return drawing(bottom + 22, f"Ratios of {scenario} to {vs} with their 95% intervals", parts)


def _row(each: Comparison, scale: Scale, y: float) -> list[Markup]:
    ratio = each.ratio or 0.0
    x = scale(ratio)
    side = "even" if not differ(each) else "less" if ratio < 1 else "more"
    parts = [
        text(_LEFT - 8, y + 4, SHOWN[each.metric], "label", "end"),
        text(WIDTH - 4, y + 4, f"{number(ratio)}×", "figure", "end"),
    ]
    if each.low is not None and each.high is not None:
        parts.append(line(scale(each.low), y, max(scale(each.high), scale(each.low) + 1), y, f"whisker {side}"))
    if ratio < scale.low:  # nothing at all: beyond the axis
        parts.append(polygon([(x - 4, y), (x + 5, y - 5), (x + 5, y + 5)], f"dot {side}"))
    else:
        parts.append(tag("circle", cx=x, cy=y, r=4.5, class_=f"dot {side}"))
    return parts
