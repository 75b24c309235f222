"""When a failed run is tried again: exponential backoff with full jitter.

Full jitter (a uniform draw below the exponential bound) spreads a herd of failures best and needs no state; see
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from typing import Final

BASE_S: Final = 1.0
CAP_S: Final = 60.0


def backoff(attempt: int, draw: float, *, base: float = BASE_S, cap: float = CAP_S) -> float:
    """Seconds to wait after the ``attempt``-th failed run (1 is the first).

    Args:
        attempt: How many runs have failed, >= 1.
        draw: A uniform random number in [0, 1).
        base: The bound after the first failure, seconds.
        cap: The largest bound, seconds.
    """
    exponent = min(attempt - 1, 32)  # 2**32 s is past every cap; a larger power would only be a bigger integer
    return draw * min(base * 2.0**exponent, cap)
