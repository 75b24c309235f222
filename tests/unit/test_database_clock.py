"""The database's clock, as a process that asks it now and then goes by it."""

import pytest

from jobctl.store import postgres_clock
from jobctl.store.postgres_clock import DatabaseClock


class Steady:
    """A steady clock that is moved, and calls ``meanwhile`` once, right before it answers."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.meanwhile = lambda: None

    def monotonic(self) -> float:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return self.seconds


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> Steady:
    made = Steady()
    monkeypatch.setattr(postgres_clock, "time", made)
    return made


def test_it_goes_on_by_the_steady_clock_from_the_middle_of_the_question(steady: Steady) -> None:
    clock = DatabaseClock()
    clock.told(5_000_000, 999.0, 1001.0)
    assert clock() == 5_000_000
    steady.seconds += 2.5
    assert clock() == 5_002_500


def test_an_answer_that_comes_while_another_thread_reads_it_does_not_set_it_back(steady: Steady) -> None:
    clock = DatabaseClock()
    clock.told(5_000_000, 1000.0, 1000.0)
    steady.seconds += 2
    steady.meanwhile = lambda: clock.told(5_002_000, 1002.0, 1002.0)
    assert clock() == 5_002_000
