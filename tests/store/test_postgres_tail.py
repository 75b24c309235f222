"""Where a process has got to in what all processes commit, when the database goes away while it reads on."""

from collections.abc import Sequence
from typing import Any, Final

import psycopg
import pytest

from jobctl.events import Commit, Event
from jobctl.store import postgres_tail
from jobctl.store.postgres_link import SQL, Result, Statement
from jobctl.store.postgres_tail import Tail

PAGE: Final = 3
EVENTS: Final = 8
WORK: Final = 5
"""The one of them that a glance takes for work."""


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_tail, "PAGE", PAGE)


class Log:
    """A database with ``EVENTS`` events and one note, which goes away after ``answers`` round trips."""

    def __init__(self, answers: float = float("inf")) -> None:
        self.answers = answers

    def __call__(self, *statements: Statement) -> list[Result]:
        if self.answers <= 0:
            raise psycopg.OperationalError("the connection was lost")
        self.answers -= 1
        return [(self._rows(sql, values), 0) for sql, values in statements]

    @staticmethod
    def _rows(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if sql == SQL["notes_after"]:
            return [(1, b'{"cancels":[]}')] if values[0] < 1 else []
        after = values[0] + 1
        numbers = range(after, min(after + PAGE, EVENTS + 1))
        if sql == SQL["glance_after"]:
            return [(len(numbers), min(numbers, default=None), max(numbers, default=None), WORK in numbers)]
        return [(seq, "job_update", "id", 0, "ann", "mail", "default", "", None, "pending", b"{}") for seq in numbers]


def seqs(told: Sequence[Commit]) -> list[int]:
    return [event.seq for commit in told for event in commit.events]


@pytest.mark.parametrize("answers", [1, 2])
def test_what_was_read_before_the_connection_was_lost_is_told_by_the_next_poll(answers: int) -> None:
    tail, told = Tail(), list[Commit]()
    with pytest.raises(psycopg.OperationalError):
        tail.poll(Log(answers), told.extend)
    tail.poll(Log(), told.extend)
    assert seqs(told) == list(range(1, EVENTS + 1))
    assert (tail.seq, tail.n) == (EVENTS, 1)


def test_what_was_read_for_a_commit_of_our_own_is_not_lost_either() -> None:
    tail, told = Tail(), list[Commit]()
    event = Event(EVENTS, "job_update", "id", 0, "ann", "mail", "default", (), None, "pending", b"{}")
    tail.hand_over(Commit(events=(event,)), EVENTS - 1, None, Log(1), told.extend)
    tail.poll(Log(), told.extend)
    assert seqs(told) == list(range(1, EVENTS + 1))


def test_without_events_all_that_is_new_is_missed_and_work_on_any_page_is_told() -> None:
    tail, told = Tail(events=False), list[Commit]()
    assert tail.poll(Log(), told.extend)
    assert [(commit.missed, commit.work) for commit in told[:-1]] == [(3, False), (6, True), (8, False)]
    assert (tail.seq, tail.n) == (EVENTS, 1)
    assert not tail.poll(Log(), told.extend)
