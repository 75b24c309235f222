"""What is said about a connection that comes and goes."""

from __future__ import annotations

from jobctl.cli.notices import Notices


class Stream:
    def __init__(self, live: bool = False, retry_at: float | None = None, reason: str = "") -> None:
        self.live, self.retry_at, self.reason = live, retry_at, reason


LIVE, LOST, OPENING = Stream(live=True), Stream(retry_at=7.0, reason="connection refused"), Stream()


def told(*moments: tuple[float, Stream]) -> list[str]:
    now, said = 0.0, list[str]()
    notices = Notices(lambda: now, said.append)
    for at, stream in moments:
        now = at
        notices.look(stream)
    return said


def test_a_lost_connection_is_told_once_and_its_return_with_how_long_it_was_away() -> None:
    assert told((0, OPENING), (1, LIVE), (2, LOST), (3, LOST), (3.5, OPENING), (5.2, LIVE), (6, LIVE), (7, LOST)) == [
        "connection lost (connection refused); trying again",
        "connected again after 3.2s; nothing is missed",
        "connection lost (connection refused); trying again",
    ]


def test_a_reason_that_says_no_more_is_left_out() -> None:
    assert told((0, LIVE), (1, Stream(retry_at=7.0, reason="connection lost"))) == ["connection lost; trying again"]


def test_a_connection_that_was_never_there_is_not_called_lost() -> None:
    assert told((0, OPENING), (1, LOST), (3, LIVE)) == [
        "no live updates yet (connection refused); trying again", "connected after 2.0s",
    ]  # fmt: skip


def test_nothing_is_told_while_all_is_well() -> None:
    assert told((0, OPENING), (1, LIVE), (9, LIVE), (10, OPENING), (11, LIVE)) == []
