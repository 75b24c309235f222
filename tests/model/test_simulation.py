"""The engine in a simulated world: what a seed gives, it gives again."""

from __future__ import annotations

import random

import pytest

from tests.model.simulation import simulate
from tests.model.world import folder

PARTS = 6
pytestmark = [pytest.mark.slow, pytest.mark.faults]


def test_the_same_seed_gives_the_same_trace_and_another_one_another() -> None:
    traces = []
    for seed in (1, 2, 1):
        with folder() as place:
            traces.append(simulate(seed, place))
    assert len(traces[0]) > 50
    assert traces[0] == traces[2]
    assert traces[0] != traces[1]


@pytest.mark.parametrize("part", range(PARTS))
def test_no_promise_is_broken_whatever_the_seed(part: int, long_form: bool) -> None:
    """On a failure, the seed is all that it takes to see it again."""
    for _ in range((10_000 if long_form else 300) // PARTS + 1):
        seed = random.SystemRandom().randrange(2**32)
        with folder() as place:
            try:
                simulate(seed, place)
            except BaseException as error:
                error.add_note(f"seed {seed}: simulate({seed}, place) does this again")
                raise
