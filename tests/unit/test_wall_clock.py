"""A wall clock that is set is noticed, and nothing else is."""

from __future__ import annotations

import pytest

from jobctl.engine.wall_clock import WallClock


class Machine:
    """Two clocks, and how often a jump was noticed."""

    def __init__(self) -> None:
        self.wall, self.steady, self.jumps, self.jumped = 1e9, 5.0, 0, 0.0
        self.clock = WallClock(self.noticed, wall=lambda: self.wall, steady=lambda: self.steady)

    def noticed(self, jump: float) -> None:
        self.jumps += 1
        self.jumped = jump

    def after(self, seconds: float, *, set_by: float = 0.0) -> int:
        self.steady += seconds
        self.wall += seconds + set_by
        self.clock.look()
        return self.jumps


@pytest.mark.parametrize("set_by", [1.5, -1.5, 3600.0, -3600.0])
def test_a_clock_that_is_set_is_noticed_once(set_by: float) -> None:
    machine = Machine()
    assert machine.after(1.0) == 0
    assert machine.after(1.0, set_by=set_by) == 1
    assert machine.jumped == pytest.approx(set_by)
    assert machine.after(1.0) == 1
    assert machine.after(1.0, set_by=-set_by) == 2


def test_time_that_passes_is_no_jump_however_late_the_look_comes() -> None:
    machine = Machine()
    assert machine.after(600.0) == 0
    assert machine.after(1.0, set_by=0.3) == 0


def test_small_steps_add_up() -> None:
    machine = Machine()
    assert [machine.after(1.0, set_by=0.4) for _ in range(6)] == [0, 0, 1, 1, 1, 2]
