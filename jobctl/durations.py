"""Spans of time as people write them (``7d``, ``90m``) and read them (``2 h 5 min``). Inside they are seconds."""

import re
from typing import Final

from jobctl.errors import InvalidInput

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_SPAN: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhdw])", re.ASCII)
MAX_SPAN_S: Final = 100 * 366 * 86400.0
"""A century: longer than anything here is kept, and far from where dates end."""


def parse_span(text: str, *, field: str | None = None) -> float:
    """``30d`` in seconds. Units: s m h d w.

    Raises:
        InvalidInput: it is not of that form, or more than a century.
    """
    found = _SPAN.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else -1.0
    if not 0 <= seconds <= MAX_SPAN_S:
        raise InvalidInput(
            f"{text.strip()[:40]!r} is no span of time up to a century; write it like 30d (s m h d w)", field=field
        )
    return seconds


def span_as_written(seconds: float) -> str:
    """What ``parse_span`` reads as ``seconds``, in the largest unit that fits: ``7d``."""
    for unit in "dhm":
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def span_in_words(seconds: float) -> str:
    """The two largest units that say something: ``45 s``, ``2 h 5 min``, ``3 d 4 h``, ``12 d``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h" + (f" {minutes} min" if minutes else "")
    days, hours = divmod(hours, 24)
    return f"{days} d" + (f" {hours} h" if hours and days < 10 else "")
