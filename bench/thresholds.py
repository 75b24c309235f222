"""Thresholds: what a run must hold to, read from TOML and judged. A wrong file is an error before anything runs."""

import math
import tomllib
from collections.abc import Collection, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from bench.metrics import METRICS, SCENARIOS
from bench.result import Comparison, Estimate, Judged, Outcome
from jobctl.errors import ConfigError

SCHEMA: Final = 1
TOLERANCE: Final = 1e-9
"""9 of 90 is 0.1, also when it went through a logarithm."""

Bound = Annotated[float, msgspec.Meta(ge=0)]
Decide = Literal["value", "ci"]


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[[threshold]]``."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    metric: str
    scenario: str
    vs: str | None = None
    max_ratio: Bound | None = None
    min_ratio: Bound | None = None
    max: Bound | None = None
    min: Bound | None = None
    decide: Decide | None = None
    severity: Literal["fail", "warn"] = "fail"

    @property
    def decided_by(self) -> Decide:
        """``decide``, or what suits the metric: a count is judged by its value, a time by its interval."""
        return self.decide or ("value" if METRICS[self.metric].kind == "count" else "ci")

    @property
    def least(self) -> float | None:
        """The lower bound, of the ratio or of the value."""
        return self.min if self.vs is None else self.min_ratio

    @property
    def most(self) -> float | None:
        """The upper bound, of the ratio or of the value."""
        return self.max if self.vs is None else self.max_ratio

    @property
    def bound(self) -> str:
        """As a person reads it."""
        parts = [f"{sign} {limit:g}" for sign, limit in ((">=", self.least), ("<=", self.most)) if limit is not None]
        return " and ".join(parts)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    threshold: tuple[dict[str, Any], ...] = ()


def load(path: Path, scenarios: Collection[str] = SCENARIOS) -> tuple[Threshold, ...]:
    """The thresholds of a file.

    Args:
        path: The TOML file.
        scenarios: Names that a threshold may speak of.

    Raises:
        ConfigError: it cannot be read, or is not right; the message says where.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"cannot read thresholds {path}: {error.strerror}") from None
    return parse(text, str(path), scenarios)


def defaults(scenarios: Collection[str], unknown: Collection[str] = ()) -> tuple[Threshold, ...]:
    """The project's own claims that a run can answer.

    A file of one's own is not thinned out so: what one asks for and does not measure is a failure.

    Args:
        scenarios: Those of the run.
        unknown: Metrics that it says nothing of.
    """
    text = files("bench").joinpath("defaults", "thresholds.toml").read_text(encoding="utf-8")
    return tuple(
        each
        for each in parse(text, "thresholds.toml")
        if each.scenario in scenarios and (each.vs is None or each.vs in scenarios) and each.metric not in unknown
    )


def parse(text: str, where: str, scenarios: Collection[str] = SCENARIOS) -> tuple[Threshold, ...]:
    """The thresholds of a text; ``where`` it is from is for the messages. Raises ``ConfigError``."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not TOML: {error}") from None
    if raw.get("schema") != SCHEMA:
        said = f"it says {raw['schema']!r}" if "schema" in raw else "it is missing"
        raise ConfigError(f"{where}: schema = {SCHEMA} must stand at its top ({said})")
    try:
        tables = msgspec.convert(raw, _File).threshold
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_plainly(error, _File)}") from None
    found = tuple(_one(table, where, place) for place, table in enumerate(tables, 1))
    if not found:
        raise ConfigError(f"{where}: no [[threshold]] in it, so nothing could fail")
    seen: set[str] = set()
    for each in found:
        for problem in _problems(each, scenarios):
            raise ConfigError(f"{where}: threshold {each.id!r}: {problem}")
        if each.id in seen:
            raise ConfigError(f"{where}: threshold {each.id!r} is there twice")
        seen.add(each.id)
    return found


def _one(table: dict[str, Any], where: str, place: int) -> Threshold:
    try:
        return msgspec.convert(table, Threshold)
    except msgspec.ValidationError as error:
        name = repr(table["id"]) if isinstance(table.get("id"), str) else f"number {place}"
        raise ConfigError(f"{where}: threshold {name}: {_plainly(error, Threshold)}") from None


def _plainly(error: msgspec.ValidationError, of: type[msgspec.Struct]) -> str:
    """The error in the words of the file: its keys, and where one is not known those that are."""
    text = str(error).replace("`$.", "`").replace("Object contains unknown field", "unknown key")
    text = text.replace("Object missing required field", "it lacks")
    return f"{text}; there are {', '.join(of.__struct_fields__)}" if "unknown key" in text else text


def _problems(threshold: Threshold, scenarios: Collection[str]) -> Iterable[str]:
    if threshold.metric not in METRICS:
        yield f"unknown metric {threshold.metric!r}; there are {', '.join(METRICS)}"
    for name in (threshold.scenario, threshold.vs):
        if name is not None and name not in scenarios:
            yield f"unknown scenario {name!r}; there are {', '.join(scenarios)}"
    if threshold.vs == threshold.scenario:
        yield "a scenario against itself"
    given = [key for key in ("max_ratio", "min_ratio", "max", "min") if getattr(threshold, key) is not None]
    fitting = ("max", "min") if threshold.vs is None else ("max_ratio", "min_ratio")
    for key in given:
        if key not in fitting:
            yield f"{key} needs vs" if threshold.vs is None else f"{key} is without vs; with it: max_ratio, min_ratio"
    if not given:
        yield f"no bound; give {' or '.join(fitting)}"
    if not all(math.isfinite(getattr(threshold, key)) for key in given):
        yield "a bound is a finite number"
    if threshold.least is not None and threshold.most is not None and threshold.least > threshold.most:
        yield "the lower bound is above the upper one"


def judge(threshold: Threshold, estimate: Estimate | None, comparison: Comparison | None) -> Judged:
    """What becomes of a threshold; ``estimate`` or ``comparison`` is what it speaks of, None: was not measured."""
    value, low, high, missing = _figures(threshold, estimate, comparison)
    outcome, detail = _outcome(threshold, value, low, high)
    if value is None:
        detail = missing
        # The comparison was measured, but one side cannot be told from nothing: that is no answer, and no lack of one.
        noise = threshold.decided_by == "ci" and comparison is not None and "noise" in comparison.note
        outcome = "inconclusive" if noise else "no_data"
    elif outcome == "fail" and threshold.severity == "warn":
        outcome = "warn"
    return Judged(
        threshold.id, threshold.metric, threshold.scenario, threshold.vs, threshold.bound, value, low, high, outcome,
        threshold.severity, detail,
    )  # fmt: skip


def _figures(
    threshold: Threshold, estimate: Estimate | None, comparison: Comparison | None
) -> tuple[float | None, float | None, float | None, str]:
    if threshold.vs is None:
        if estimate is None:
            return None, None, None, _missing(threshold, "not measured")
        return estimate.mean, estimate.low, estimate.high, ""
    if comparison is None:
        return None, None, None, _missing(threshold, "not measured against each other")
    return comparison.ratio, comparison.low, comparison.high, comparison.note or "no ratio"


def _missing(threshold: Threshold, usual: str) -> str:
    return "not resolvable: a slope takes two numbers of clients" if threshold.metric == "rss_per_client" else usual


def _outcome(threshold: Threshold, value: float | None, low: float | None, high: float | None) -> tuple[Outcome, str]:
    if value is None:
        return "no_data", ""
    if threshold.decided_by == "value":
        return ("pass", "by the value") if _within(threshold, value) else ("fail", "by the value")
    if low is None or high is None:
        return "inconclusive", "no interval: it takes two repeats"
    inside = [_within(threshold, low), _within(threshold, high)]
    if all(inside):
        return "pass", "the whole interval is within"
    overlaps = (threshold.most is None or low <= _raised(threshold.most)) and (
        threshold.least is None or high >= _lowered(threshold.least)
    )
    if not overlaps:
        return "fail", "the whole interval is outside"
    return "inconclusive", "the interval is on both sides of the bound"


def _within(threshold: Threshold, value: float) -> bool:
    return (threshold.most is None or value <= _raised(threshold.most)) and (
        threshold.least is None or value >= _lowered(threshold.least)
    )


def _raised(bound: float) -> float:
    return bound + TOLERANCE * abs(bound)


def _lowered(bound: float) -> float:
    return bound - TOLERANCE * abs(bound)
