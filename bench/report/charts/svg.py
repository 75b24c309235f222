"""Just enough SVG: elements with escaped text, linear and logarithmic scales with round ticks, a frame with axes.

Colours and fonts are classes of the page's style sheet, so that one drawing is right in light and dark. A drawing is
440 units wide: on a phone that is little less than life size, on a desk two stand beside each other.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup, escape

from bench.report.figures import number
from jobctl.cli.output import safe

WIDTH: Final = 440.0


def tag(name: str, content: str | Markup = "", **attributes: object) -> Markup:
    """An element; what is no ``Markup`` is escaped. ``class_`` is ``class``, ``stroke_width`` is ``stroke-width``."""
    parts = [
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-"), f"{value:.2f}" if isinstance(value, float) else value
        )
        for key, value in attributes.items()
        if value is not None
    ]
    inside = content if isinstance(content, Markup) else safe(content)
    return Markup("<{0}{1}>{2}</{0}>").format(escape(name), Markup("").join(parts), escape(inside))


def join(parts: Iterable[str]) -> Markup:
    """All of them, one after the other."""
    return Markup("").join(parts)


def drawing(height: float, title: str, parts: Iterable[str], width: float = WIDTH) -> Markup:
    """The whole SVG; ``title`` is for those who do not see it."""
    inside = join((tag("title", title), *parts))
    return tag("svg", inside, viewBox=f"0 0 {width:g} {height:g}", role="img", class_="chart")


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start", **attributes: object) -> Markup:
    """A label; ``y`` is its base line."""
    return tag("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def polyline(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """A line through all points."""
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def polygon(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """An area."""
    return tag("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


class Scale(NamedTuple):
    """Takes values from ``low`` to ``high`` to places from ``start`` to ``end``; what is beyond stays at the ends."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where ``value`` is drawn."""
        if self.log:
            value = max(value, self.low)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * min(1.0, max(0.0, share))

    def ticks(self, about: int = 5) -> list[float]:
        """Round values within, some ``about`` of them."""
        if not self.log:
            step = _round_step((self.high - self.low) / about)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            return [k * step for k in range(first, last + 1)]
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        stride = max(1, math.ceil((last - first) / max(1, about)))
        decades = [10.0**k for k in range(first, last + 1, stride)]
        if len(decades) >= 3:
            return decades
        return [
            factor * 10.0**k for k in range(first - 1, last + 1) for factor in (1, 2, 5)
            if self.low * (1 - 1e-9) <= factor * 10.0**k <= self.high * (1 + 1e-9)
        ]  # fmt: skip


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))


class Frame(NamedTuple):
    """A plot's area with its two scales."""

    x: Scale
    y: Scale

    @classmethod
    def of(
        cls, x: tuple[float, float], y: tuple[float, float], height: float, *, log_x: bool = False, log_y: bool = False,
        left: float = 48.0,
    ) -> "Frame":  # fmt: skip
        """A frame in a drawing of ``height`` with room for the axes' figures."""
        return cls(Scale(*x, left, WIDTH - 14.0, log_x), Scale(*y, height - 40.0, 22.0, log_y))

    def axes(
        self,
        x_words: str,
        y_words: str,
        x_figure: Callable[[float], str] = number,
        y_figure: Callable[[float], str] = number,
    ) -> list[Markup]:
        """Grid, figures and what the axes are."""
        left, right, bottom = self.x.start, self.x.end, self.y.start
        parts = [line(left, bottom, right, bottom, "axis")]
        for value in self.y.ticks(4):
            y = self.y(value)
            parts += [line(left, y, right, y, "grid"), text(left - 6, y + 4, y_figure(value), "tick", "end")]
        for value in self.x.ticks(6):
            x = self.x(value)
            parts += [line(x, bottom, x, bottom + 4, "axis"), text(x, bottom + 17, x_figure(value), "tick", "middle")]
        parts += [
            text(right, bottom + 34, x_words, "words", "end"),
            text(left - 40 if left > 40 else 2, 12, y_words, "words"),
        ]
        return parts

    def place(self, points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        """Where values are drawn."""
        return [(self.x(a), self.y(b)) for a, b in points]


STROKES: Final = {
    "ws": "push", "ws-churn": "push two", "ws-idle": "push three", "poll": "poll", "poll-keepalive": "poll two",
    "poll-etag": "poll three", "longpoll": "poll four", "poll-limited": "poll five",
}  # fmt: skip


def stroke(scenario: str) -> str:
    """The classes of a scenario's line: the accent is push, ink is polling, dashes tell them apart."""
    return f"line {STROKES.get(scenario, 'other')}"


def legend(scenarios: Iterable[str], *more: tuple[str, str]) -> Markup:
    """Names beside samples of their lines; ``more`` is of class and name."""
    items = [(stroke(each), each) for each in scenarios] + list(more)
    samples = [
        tag("span", join((
            tag("svg", line(0, 5, 26, 5, class_), viewBox="0 0 26 10", width=26, height=10, aria_hidden="true"),
            escape(safe(name)),
        )))
        for class_, name in items
    ]  # fmt: skip
    return tag("p", join(samples), class_="legend")
