"""Figures for a person: three digits that count, the fitting unit, a ratio in words."""

import math
from typing import Final

from bench.metrics import METRICS

_CORE: Final = " of a core"
_SI: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def number(value: float, digits: int = 3) -> str:
    """Three digits that count, and thousands set apart: ``0.033``, ``1.5``, ``90``, ``12,400``."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100_000 else f"{value:,.0f}"
    text = f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(seconds: float) -> str:
    """``0 s``, ``840 µs``, ``4.2 ms``, ``29.7 s``, ``15 min``."""
    size = abs(seconds)
    if size == 0:
        return "0 s"
    if size < 0.9995e-3:
        return f"{number(seconds * 1e6)} µs"
    if size < 0.9995:
        return f"{number(seconds * 1e3)} ms"
    return f"{number(seconds)} s" if size < 600 else f"{number(seconds / 60)} min"


def size(count: float) -> str:
    """Bytes: ``412 B``, ``18.4 kB``."""
    for factor, unit in _SI:
        if abs(count) >= factor:
            return f"{number(count / factor)} {unit}"
    return f"{number(count)} B"


def amount(value: float, metric: str) -> str:
    """A value of a metric with its unit, short. One below nothing is a difference that the noise has swallowed."""
    return "not above the noise" if value < 0 else _with_unit(value, metric)


def _with_unit(value: float, metric: str) -> str:
    unit = METRICS[metric].unit if metric in METRICS else ""
    if unit == "s":
        return duration(value)
    if unit.startswith("bytes"):
        return size(value)
    if unit == "CPU s/s":
        return f"{number(value * 100)}%{_CORE}"
    return number(value)


def between(low: float | None, high: float | None, metric: str | None = None) -> str:
    """An interval, ``2.1 to 3.4``; empty where there is none."""
    if low is None or high is None:
        return ""
    if metric is None:
        return f"{number(low)} to {number(high)}"
    ours, theirs = _with_unit(low, metric), _with_unit(high, metric)
    # 21.9% to 26.9% of a core, not 21.9% of a core to 26.9% of a core.
    return f"{ours.removesuffix(_CORE)} to {theirs}"


def ratios(low: float | None, high: float | None) -> str:
    """An interval of ratios, with as many digits as it takes to see whether 1 is in it: ``1.0004 to 1.05``."""
    if low is None or high is None:
        return ""
    return f"{_beside_one(low)} to {_beside_one(high)}"


def _beside_one(value: float) -> str:
    texts = (number(value, digits) for digits in range(3, 10))
    return next((text for text in texts if text != "1"), "1")


def saving(ratio: float, *, counted: bool) -> str:
    """A ratio in words: ``97% fewer``, ``2.4 times as much``, ``none at all``."""
    if ratio == 0:
        return "none at all"
    if ratio < 1:
        share = (1 - ratio) * 100
        # 99.97% is not 100%: nothing is rounded up to all.
        text = f"{math.floor(share * 10) / 10:g}" if share > 99 else f"{share:.0f}"
        return f"{text}% {'fewer' if counted else 'less'}"
    return f"{number(ratio)} times as {'many' if counted else 'much'}"


def repeats(count: int) -> str:
    """``5 repeats``."""
    return f"{count} repeat{'' if count == 1 else 's'}"


def scaled_note(time_scale: float) -> str:
    """That times are not those of the clock on the wall; empty where they are."""
    return "" if time_scale == 1 else f"scaled: {number(time_scale)} times as fast as life"
