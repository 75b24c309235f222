"""Two runs beside each other: did a figure change from the one to the other? Pure."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from bench.metrics import METRICS, cells
from bench.result import Estimate, Run
from bench.statistics import Ratio, unpaired_ratio


class Change(NamedTuple):
    """One metric of one scenario in both runs; ``ratio`` is of the second over the first."""

    scenario: str
    metric: str
    before: Estimate
    after: Estimate
    ratio: Ratio

    @property
    def better(self) -> bool | None:
        """Whether it got better; None where no difference is resolved.

        A count without an interval (a 0 among its values, one repeat) is told by its value: it has no noise.
        """
        metric, ratio = METRICS[self.metric], self.ratio
        if ratio.resolvable and ratio.value is not None:
            return (ratio.value < 1) == (metric.direction == "lower")
        ours, theirs = self.after.mean, self.before.mean
        if metric.kind != "count" or ratio.low is not None or math.isclose(ours, theirs, rel_tol=1e-9):
            return None
        return (ours < theirs) == (metric.direction == "lower")


def changes(before: Run, after: Run) -> list[Change]:
    """Of every metric that both have. The repeats of two runs are no pairs, so the intervals are Welch's."""
    known = {(each.scenario, each.metric): each for each in before.estimates}
    return [
        Change(each.scenario, each.metric, found, each, unpaired_ratio(each.values, found.values))
        for each in after.estimates
        if (found := known.get((each.scenario, each.metric))) is not None
    ]


def caveats(before: Run, after: Run) -> Iterable[str]:
    """What is different between the two besides what was measured; each makes the comparison say less."""
    for run, which in ((before, "first"), (after, "second")):
        if run.conclusion == "invalid":
            yield f"the {which} run is invalid: its figures are not to be believed"
    for name, words in (
        ("interval", "poll intervals"), ("duration", "durations"), ("time_scale", "time scales"), ("seed", "seeds"),
        ("url", "servers"),
    ):  # fmt: skip
        ours, theirs = getattr(before.plan, name), getattr(after.plan, name)
        if ours != theirs:
            yield f"the {words} differ: {ours} and {theirs}"
    for scenario in before.plan.scenarios:
        ours_at, theirs_at = cells(before, scenario)[:1], cells(after, scenario)[:1]
        if ours_at and theirs_at and ours_at != theirs_at:
            yield f"{scenario} was not measured at the same number of clients and rate"
    for name in ("platform", "processor", "cpus", "python", "durability"):
        ours, theirs = getattr(before.environment, name), getattr(after.environment, name)
        if ours != theirs:
            yield f"the environments differ in {name}: {ours} and {theirs}"
