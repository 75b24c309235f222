"""Where this process has got to in what all processes commit: it hears of every commit once, in the order of the log.

A process that has no stream hears of others' events only that there were some, and whether they made work; of its own
as well, where others have committed in between.

One tail a process. What the process commits itself it has in its hands: when it follows right on what was heard before,
it is told at once, without asking the database; else what others have committed in between is fetched first. Whoever
fetches, the writer's thread or the task that watches for others' commits, does it under one lock and hands over before
it lets go, so that nothing is told twice or out of order.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from jobctl.errors import LeaseLost
from jobctl.events import Commit
from jobctl.states import LIVE, Status
from jobctl.store.postgres_link import SQL, Result, Statement
from jobctl.store.postgres_notes import decode
from jobctl.store.rows import event_of

log = logging.getLogger("jobctl.store")

PAGE: Final = 2000
"""Events that are fetched at once: some MB."""
_WAITING: Final = LIVE - {Status.RUNNING}
Fetch = Callable[..., list[Result]]


class Gap(LeaseLost):
    """The next notes are not in the database any more: this process was out of touch for too long.

    Who may come in no more, and what is to be cancelled, stands nowhere else in such a form that it could be caught up
    with. Of events that are gone the outcome is in the tables: they are told to be missed.
    """


class Tail:
    """The position, and what moves it. Positions are the last number of an event, and of a note, that was told.

    Args:
        events: Others' events are told; else they are told to be missed, and whether one of them made work.
    """

    def __init__(self, *, events: bool = True) -> None:
        self._page, self._told_of = (SQL["events_after"], _events) if events else (SQL["glance_after"], _glance)
        self._lock = threading.Lock()
        self.seq = 0
        self.n = 0

    def begin(self, seq: int, n: int) -> None:
        """Tell what comes after these."""
        self.seq, self.n = seq, n

    def hand_over(
        self, own: Commit, base: int, n: int | None, fetch: Fetch, give: Callable[[Sequence[Commit]], None]
    ) -> None:
        """Tell of a commit of this process, after all that others have committed before.

        Args:
            own: What it changed.
            base: The number before its first event; -1 where it is not known.
            n: Its note's number, if it has one.
            fetch: Asks the database, as ``Link.ask``.
            give: Hands what is to be told to the trio thread.
        """
        with self._lock:
            before_note = self.n if n is None else n - 1
            if (base, before_note) == (self.seq, self.n):
                self.seq += len(own.events)
                self.n = self.n if n is None else n
                give((own,))
                return
            try:
                told = self._fetch_all(fetch)
            except Exception:  # it is committed, and its callers must be answered; the watch will tell of it
                log.warning("what was committed is told later: the database cannot be read", exc_info=True)
                told = []
            give(told)

    def poll(self, fetch: Fetch, give: Callable[[Sequence[Commit]], None]) -> bool:
        """Tell of what is new; whether there was anything."""
        with self._lock:
            told = self._fetch_all(fetch)
            if told:
                give(told)
        return bool(told)

    def _fetch_all(self, fetch: Fetch) -> list[Commit]:
        """All that is new. Of several commits' events and notes one commit is made: they are in order, each is once.

        The position moves once all of it is there: what was read before the connection was lost is read again.
        """
        # Notes first: whoever sees one sees its commit's events, too.
        (notes, _), (rows, _) = fetch((SQL["notes_after"], (self.n, PAGE)), self._after(self.seq))
        if notes and notes[0][0] != self.n + 1:
            raise Gap(f"notes {self.n + 1} to {notes[0][0] - 1} are gone")
        told, seq, more = self._told_of(self.seq, rows)
        while more:
            next_told, seq, more = self._told_of(seq, fetch(self._after(seq))[0][0])
            told += next_told
        for _, body in notes:
            note = decode(body)
            start = note.log_start or 0
            told += _missed(seq, start)
            seq = max(seq, start - 1)
            told.append(
                Commit(
                    logs=note.logs,
                    queues=note.queues,
                    cancels=note.cancels,
                    access=(*note.issued, *note.ended),
                    work=note.work,
                    schedules=note.schedules,
                    log_start=note.log_start,
                )
            )
        self.seq = seq
        self.n = notes[-1][0] if notes else self.n
        return told

    def _after(self, seq: int) -> Statement:
        return self._page, (seq, 2**62, PAGE)


def _events(seq: int, rows: list[tuple[Any, ...]]) -> tuple[list[Commit], int, bool]:
    """What a page of the events after ``seq`` tells, its last number, and whether there may be more."""
    if not rows:
        return [], seq, False
    events = tuple(event_of(row) for row in rows)
    commit = Commit(events=events, work=any(event.status in _WAITING for event in events))
    return [*_missed(seq, events[0].seq), commit], events[-1].seq, len(rows) == PAGE


def _glance(seq: int, rows: list[tuple[Any, ...]]) -> tuple[list[Commit], int, bool]:
    """The same of a page that was only counted."""
    ((n, first, last, work),) = rows
    if not n:
        return [], seq, False
    return [*_missed(seq, first), Commit(missed=last, work=work)], last, n == PAGE


def _missed(seq: int, start: int) -> list[Commit]:
    """What is to be told after number ``seq``, where the log was found to begin at ``start``."""
    if start <= seq + 1:
        return []
    log.info("events %d to %d were pruned before they were read here", seq + 1, start - 1)
    return [Commit(missed=start - 1, work=True)]
