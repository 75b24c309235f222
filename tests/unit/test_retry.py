"""Backoff: min(base * 2^(n-1), cap), with full jitter."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobctl.retry import BASE_S, CAP_S, backoff


@pytest.mark.parametrize(
    ("attempt", "bound"),
    [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60), (100, 60), (10**9, 60)],
)
def test_the_bound_doubles_up_to_a_minute(attempt: int, bound: float) -> None:
    assert backoff(attempt, 1.0) == bound
    assert backoff(attempt, 0.5) == bound / 2
    assert backoff(attempt, 0.0) == 0


def test_base_and_cap_may_be_others() -> None:
    assert [backoff(n, 1.0, base=0.1, cap=0.5) for n in (1, 2, 3, 4)] == [0.1, 0.2, 0.4, 0.5]


@settings(deadline=None)
@given(attempt=st.integers(1, 10**6), draw=st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_negative_nor_above_the_cap(attempt: int, draw: float) -> None:
    assert 0 <= backoff(attempt, draw) < CAP_S
    assert backoff(attempt, draw) <= backoff(attempt + 1, draw)
    assert backoff(1, draw) < BASE_S
