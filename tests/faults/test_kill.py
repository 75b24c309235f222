"""``kill -9`` at any moment: what was acknowledged is there, what was pushed stays true, and all comes to one end."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.faults.killing import STRACE, Nursery, Series
from tests.model.world import folder

pytestmark = [pytest.mark.slow, pytest.mark.faults]

PARTS = 8
LIVES = 26
"""Kills of one part in the short form: 208 in all."""
LONG_SERIES = 5
"""Times as many in the long form."""
CALLS = {"pwrite64": 120, "fdatasync": 30, "ftruncate": 2, "rename": 3, "unlink": 2, "openat": 40, "write": 30}
"""At which calls, and up to the how-manieth: writes to the database and its log, syncs, the cut of the log, the mark,
the end of a log or journal, and what is on the way to the disk otherwise."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    born = Nursery()
    yield born
    born.close()


@pytest.mark.parametrize("part", range(PARTS))
def test_a_server_killed_at_any_call_loses_nothing(part: int, nursery: Nursery, long_form: bool) -> None:
    if STRACE is None and os.environ.get("CI"):
        pytest.fail("strace is needed in CI")
    for _ in range(LONG_SERIES if long_form else 1):
        seed = random.SystemRandom().randrange(2**32)
        draw, reached = random.Random(seed), 0
        with folder() as place:
            series = Series(place, nursery)
            for n in range(LIVES):
                if STRACE is None or n % 6 == 5:
                    series.kill_after(draw.uniform(0.0, 0.25))
                    reached += 1
                else:
                    syscall = draw.choice(list(CALLS))
                    reached += series.kill_at(syscall, draw.randint(1, CALLS[syscall]), seconds=0.15)
                series.look()
            outcomes = series.finish()
            assert outcomes.total() > LIVES, f"there was hardly any load: {outcomes}"
            assert reached > LIVES / 3, f"only {reached} lives came to the call that they were to be killed at"
