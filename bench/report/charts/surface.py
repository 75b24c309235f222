"""Where polling gets cheaper: cost of push over cost of polling, by poll interval and update rate."""

import math
from typing import Final

from markupsafe import Markup

from bench import cost
from bench.report.charts.svg import WIDTH, drawing, line, tag, text
from bench.report.figures import duration, number
from bench.result import Fit, Run

_LEFT: Final = 46.0
_TOP: Final = 22.0
_ROW: Final = 26.0
_FURTHEST: Final = math.log(100)
RATES: Final = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Updates/s; those up to ten times what was measured are shown."""


def fits_of(run: Run, vs: str, resource: str = "cpu") -> tuple[Fit, Fit] | None:
    """Of the stream and of ``vs``, on a clock of 1."""
    found = {
        each.scenario: cost.scaled_back(each, run.plan.time_scale) for each in run.fits if each.resource == resource
    }
    return (found["ws"], found[vs]) if "ws" in found and vs in found else None


def draw(run: Run, vs: str, resource: str = "cpu") -> Markup | None:
    """The map for ``vs``; None where both were not fitted."""
    fits = fits_of(run, vs, resource)
    every = cost.interval_of(run, vs)
    if fits is None or not every:
        return None
    push, poll = fits
    measured = max(push.max_updates, poll.max_updates)
    rates = [each for each in RATES if each <= measured * 10][::-1]
    wide = (WIDTH - _LEFT - 4) / len(cost.INTERVALS)
    bottom = _TOP + _ROW * len(rates)
    parts = [text(0, 12, "updates/s", "words")]
    table = [[cost.relative(push, poll, interval, every, rate) for interval in cost.INTERVALS] for rate in rates]
    for j, rate in enumerate(rates):
        y = _TOP + _ROW * j
        parts.append(text(_LEFT - 6, y + 17, number(rate), "tick", "end"))
        for k, ratio in enumerate(table[j]):
            parts += _cell(_LEFT + wide * k, y, wide, ratio, beyond=rate > measured * (1 + 1e-9))
    parts += _border(table, wide)
    for k, interval in enumerate(cost.INTERVALS):
        parts.append(text(_LEFT + wide * (k + 0.5), bottom + 15, duration(interval).replace(" ", ""), "tick", "middle"))
    parts.append(text(WIDTH - 4, bottom + 32, f"a poll each · measured at {duration(every)}", "words", "end"))
    return drawing(bottom + 38, f"Cost of ws over cost of {vs}", parts)


def _cell(x: float, y: float, wide: float, ratio: float | None, *, beyond: bool) -> list[Markup]:
    if ratio is None:
        return [tag("rect", x=x, y=y, width=wide, height=_ROW, class_="cell none")]
    strength = 0.08 + 0.72 * min(1.0, abs(math.log(max(ratio, 1e-6))) / _FURTHEST)
    side = "push" if ratio < 1 else "poll"
    label = f"{ratio:.2g}" if 0.01 <= ratio < 100 else "<.01" if ratio < 1 else ">99"
    strong = " strong" if strength > 0.45 else ""
    return [
        tag("rect", x=x, y=y, width=wide, height=_ROW, class_=f"cell {side}", fill_opacity=strength),
        text(
            x + wide / 2,
            y + 17,
            label.replace("0.", "."),
            f"cell-figure {side}{strong}{' beyond' if beyond else ''}",
            "middle",
        ),
    ]


def _border(table: list[list[float | None]], wide: float) -> list[Markup]:
    """The line between the cells where the two cost alike."""
    parts = []

    def cheaper(j: int, k: int) -> bool | None:
        ratio = table[j][k]
        return None if ratio is None else ratio < 1

    for j in range(len(table)):
        for k in range(len(table[j])):
            x, y = _LEFT + wide * k, _TOP + _ROW * j
            here = cheaper(j, k)
            if k and None not in (here, cheaper(j, k - 1)) and here != cheaper(j, k - 1):
                parts.append(line(x, y, x, y + _ROW, "break"))
            if j and None not in (here, cheaper(j - 1, k)) and here != cheaper(j - 1, k):
                parts.append(line(x, y, x + wide, y, "break"))
    return parts
