"""How an outcome looks: word, mood and glyph, never colour alone."""

from typing import Final, Literal

from bench.report.figures import amount, between, number, ratios
from bench.result import Conclusion, Judged, Outcome

Mood = Literal["good", "bad", "open", "warn", "plain"]

GLYPHS: Final[dict[Mood, str]] = {"good": "✔", "bad": "✘", "open": "?", "warn": "!", "plain": "·"}
VERDICTS: Final[dict[Conclusion, tuple[str, Mood]]] = {
    "pass": ("PASS", "good"), "fail": ("FAIL", "bad"), "inconclusive": ("INCONCLUSIVE", "open"),
    "invalid": ("INVALID", "bad"),
}  # fmt: skip
OUTCOMES: Final[dict[Outcome, tuple[str, Mood]]] = {
    "pass": ("pass", "good"), "fail": ("fail", "bad"), "warn": ("warning", "warn"),
    "inconclusive": ("inconclusive", "open"), "no_data": ("no data", "bad"),
}  # fmt: skip


def measured(judged: Judged) -> str:
    """The figure that a threshold was held against."""
    if judged.value is None:
        return "no data"
    return number(judged.value) if judged.vs else amount(judged.value, judged.metric)


def spread(judged: Judged) -> str:
    """Its interval; empty where it has none, or none worth showing."""
    if judged.low is None or judged.high is None or judged.high - judged.low <= 1e-9 * abs(judged.high):
        return ""
    return ratios(judged.low, judged.high) if judged.vs else between(judged.low, judged.high, judged.metric)
