"""What follows from the blocks of a run: estimates, comparisons, thresholds, fits, and one conclusion. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from bench import cost, thresholds
from bench.metrics import (
    CONTROLS,
    METRICS,
    POLLING,
    PUSHING,
    SCENARIOS,
    Cell,
    Metric,
    cells,
    common_cell,
    shown_cell,
    values,
)
from bench.result import Check, Comparison, Conclusion, Estimate, Fit, Judged, Run
from bench.statistics import mean, paired_ratio
from bench.thresholds import Threshold

DERIVED: Final = ("complete", "blocks", "checked")
"""Checks that are made here, from the rest of the run."""

EXIT_OF: Final[dict[Conclusion, int]] = {"pass": 0, "fail": 1, "inconclusive": 7, "invalid": 6}


def judge(run: Run, asked: Sequence[Threshold]) -> Run:
    """The run with all that follows from its blocks and checks; what it said of that before is replaced."""
    checks = (*(each for each in run.checks if each.id not in DERIVED), *_own_checks(run))
    estimates = tuple(_estimates(run))
    wanted = [*_wanted(run), *((each.metric, each.scenario, each.vs) for each in asked if each.vs is not None)]
    comparisons = tuple(
        found
        for metric, ours, theirs in dict.fromkeys(wanted)
        if (found := compare(run, METRICS[metric], ours, theirs))
    )
    judged = tuple(_judged(each, estimates, comparisons) for each in asked)
    fits = tuple(_fits(run))
    return msgspec.structs.replace(
        run, checks=checks, estimates=estimates, comparisons=comparisons, thresholds=judged, fits=fits,
        break_even=cost.surface(run, fits), conclusion=_conclusion(checks, judged),
    )  # fmt: skip


def exit_code(run: Run, *, strict: bool = False) -> int:
    """0 passed, 1 a threshold failed, 6 invalid, 7 inconclusive (0, unless ``strict``)."""
    code = EXIT_OF[run.conclusion]
    return 0 if run.conclusion == "inconclusive" and not strict else code


def _own_checks(run: Run) -> Iterable[Check]:
    others = [each for each in run.checks if each.id not in DERIVED]
    yield Check("checked", bool(others), f"{len(others)} checks of validity were made" if others else
                "no check of validity was made: nothing says that the figures may be believed")  # fmt: skip
    yield Check("complete", run.complete, "the run came to its end" if run.complete else
                "the run was interrupted: what is here was measured, and is less than was asked for")  # fmt: skip
    missing = _missing(run)
    lacks = ", ".join(f"{name} has {n} of {run.plan.repeats} repeats" for name, n in missing)
    yield Check("blocks", not missing, lacks or f"no scenario has fewer repeats than the {run.plan.repeats} asked for")


def _missing(run: Run) -> list[tuple[str, int]]:
    """Scenarios that were asked for, with how many whole repeats there are, where that is too few."""
    found = []
    for name in run.plan.scenarios:
        repeats: dict[Cell, set[int]] = {cell: set() for cell in cells(run, name)}
        for block in run.blocks:
            if block.scenario == name:
                repeats[Cell(block.clients, block.updates_per_s)].add(block.repeat)
        least = min((len(each) for each in repeats.values()), default=0)
        if least < max(1, run.plan.repeats):
            found.append((name, least))
    return found


def _estimates(run: Run) -> Iterable[Estimate]:
    for scenario in run.plan.scenarios:
        at = shown_cell(run, scenario)
        if at is None:
            continue
        for metric in METRICS.values():
            found = tuple(values(run, metric, scenario, None if metric.summed else at).values())
            if found:
                centre, low, high = mean(found)
                yield Estimate(scenario, metric.name, metric.unit, found, centre, low, high)


def baseline(run: Run) -> str | None:
    """The way of polling that the others are shown against."""
    return next((each for each in POLLING if each in run.plan.scenarios), None)


def rivals_of_push(run: Run) -> list[str]:
    """What the stream is set against: every way of polling, and every scenario of somebody's own."""
    return [each for each in run.plan.scenarios if each in POLLING or each not in SCENARIOS]


def _wanted(run: Run) -> Iterable[tuple[str, str, str]]:
    """Everything against the baseline, and the stream against all its rivals: also the thriftiest ones."""
    base = baseline(run)
    others = [each for each in run.plan.scenarios if each not in CONTROLS]
    for ours in sorted(others, key=lambda name: name not in PUSHING):
        rivals = rivals_of_push(run) if ours == "ws" else [base] if base else []
        for theirs in rivals:
            if theirs != ours:
                yield from ((metric, ours, theirs) for metric in METRICS)


def compare(run: Run, metric: Metric, scenario: str, vs: str) -> Comparison | None:
    """The two in pairs, at what both were measured at; None where they have no pair of values."""
    ours, theirs = pairs(run, metric, scenario, vs)
    if not ours:
        return None
    ratio = paired_ratio(ours, theirs)
    return Comparison(metric.name, scenario, vs, ratio.value, ratio.low, ratio.high, ratio.resolvable, ratio.note)


def pairs(run: Run, metric: Metric, scenario: str, vs: str) -> tuple[list[float], list[float]]:
    """What both gave, by repeat, at the cell that both were measured at; empty where there is none."""
    cell = common_cell(run, scenario, vs)
    if cell is None:
        return [], []
    ours, theirs = values(run, metric, scenario, cell), values(run, metric, vs, cell)
    both = sorted(ours.keys() & theirs.keys())
    return [ours[k] for k in both], [theirs[k] for k in both]


def _judged(threshold: Threshold, estimates: Iterable[Estimate], comparisons: Iterable[Comparison]) -> Judged:
    estimate = next((e for e in estimates if (e.metric, e.scenario) == (threshold.metric, threshold.scenario)), None)
    wanted = (threshold.metric, threshold.scenario, threshold.vs)
    comparison = next((c for c in comparisons if (c.metric, c.scenario, c.vs) == wanted), None)
    return thresholds.judge(threshold, estimate, comparison)


def _fits(run: Run) -> Iterable[Fit]:
    for scenario in run.plan.scenarios:
        if scenario not in CONTROLS:
            found = (cost.fit(run, scenario, resource) for resource in cost.RESOURCES)
            yield from (each for each in found if each is not None)


def _conclusion(checks: Iterable[Check], judged: Sequence[Judged]) -> Conclusion:
    if not all(each.passed for each in checks):
        return "invalid"
    hard = [each.outcome for each in judged if each.severity == "fail"]
    if any(each in ("fail", "no_data") for each in hard):
        return "fail"
    if "inconclusive" in hard or not judged:  # nothing asked is nothing shown
        return "inconclusive"
    return "pass"
