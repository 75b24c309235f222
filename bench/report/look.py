"""How an outcome looks: word, mood and glyph, never colour alone."""

from typing import Final, Literal

from bench.result import Conclusion, Outcome

Mood = Literal["good", "bad", "open", "plain"]

GLYPHS: Final[dict[Mood, str]] = {"good": "✔", "bad": "✘", "open": "?", "plain": "·"}
VERDICTS: Final[dict[Conclusion, tuple[str, Mood]]] = {
    "pass": ("PASS", "good"), "fail": ("FAIL", "bad"), "inconclusive": ("INCONCLUSIVE", "open"), "invalid": ("INVALID", "bad"),
}  # fmt: skip
OUTCOMES: Final[dict[Outcome, tuple[str, Mood]]] = {
    "pass": ("pass", "good"), "fail": ("fail", "bad"), "warn": ("warning", "open"), "inconclusive": ("inconclusive", "open"),
    "no_data": ("no data", "bad"),
}  # fmt: skip
