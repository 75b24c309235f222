"""The clock that every process of a block shares: CLOCK_MONOTONIC, ns. Pure, but for looking at it."""

import time


def seconds_until(at: int) -> float:
    """How long it is until ``at``; 0 where that has passed. Trio's and gevent's own clocks are others."""
    return max(0, at - time.monotonic_ns()) / 1e9
