"""The one meaning of a percentile in a run: the smallest value that so large a share of all is at most. Pure."""

import math
from collections.abc import Sequence


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of values in rising order, by the nearest rank, which is rounded up: with few values the p99 is the largest.

    Args:
        ordered: At least one.
        share: From 0 to 1.
    """
    rank = math.ceil(share * len(ordered) - 1e-9)  # 0.07 * 100 is a little more than 7
    return ordered[max(rank, 1) - 1]
