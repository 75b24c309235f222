"""Rows of jobs on their way into PostgreSQL: gathered while a group of closures runs, and written a table at a time."""

import operator
from collections.abc import Sequence
from typing import Any, Final

from jobctl.model import MAX_INLINE
from jobctl.states import Status
from jobctl.store.committer import Again
from jobctl.store.postgres_arrays import Blobs, Floats, Ints, Names, Texts
from jobctl.store.postgres_link import SQL, Result, Statement
from jobctl.store.rows import Row, inserted

_INSERTED: Final = (
    Texts, Names, Names, Blobs, Names, Ints, Ints, Ints, Ints, Names, Texts, Floats, Names, Names, Ints, Ints,
)  # fmt: skip
_SAVED: Final = (
    Names, Ints, Names, Blobs, Floats, Names, Ints, Ints, Ints, Names, Ints, Ints, Ints, Ints, Ints, Ints, Ints, Ints,
    Ints, Ints,
)  # fmt: skip
_LINES: Final = (Ints, Ints, Ints, Names, Texts)
_STATUS, _RESULT, _COMPLETED_AT, _VERSION, _READY, _HELD = 0, 3, 7, 10, 13, 15
"""Their places among the values of a saved row."""
_COMPLETED: Final = Status.COMPLETED.value


class Memory:
    """What the writer remembers between groups."""

    def __init__(self) -> None:
        self.known: frozenset[str] | None = None
        self.queues: set[str] = set()
        """Those that are sure to be there. Whether they are paused is asked of the database."""
        self.running: dict[str, Row] = {}
        """Jobs that were claimed here, by id, as they stood in the table."""
        self.lines: dict[int, int] = {}
        """The last number of their logs, by ``pk``."""
        self.last_queue = ""
        """The one that a claim served last."""
        self.taken = 0
        """Jobs that were claimed, ever: each has left a dead row in ``ready``."""

    def doubt(self) -> None:
        """A transaction was rolled back: what it had noted here is not so."""
        self.running.clear()
        self.lines.clear()
        self.queues.clear()


class Behind:
    """What is still to be written. ``take`` empties it, ``written`` checks what became of it."""

    def __init__(self) -> None:
        self.new: list[Row] = []
        self.lines: list[tuple[int, int, int, str, str]] = []
        """Of logs: job, n, at, stream, text."""
        self.gone: list[int] = []
        """Jobs to delete, by ``pk``."""
        self.alive: dict[int, int] = {}
        """Runs that must still be going on, by ``pk``."""
        self._saved: list[tuple[Row, tuple[Any, ...]]] = []
        self._was: dict[int, tuple[int, int]] = {}  # version and readiness in the database, by pk
        self._taken: list[Row] = []
        self._expected: list[tuple[int, int]] = []

    def mark(self) -> tuple[int, int, int, int]:
        """A point to come back to."""
        return len(self.new), len(self._saved), len(self.lines), len(self.gone)

    def back_to(self, mark: tuple[int, int, int, int]) -> None:
        """Forget what was gathered since."""
        new, saved, lines, gone = mark
        del self.new[new:], self._saved[saved:], self.lines[lines:], self.gone[gone:]

    def undone(self) -> None:
        """The database is back at an earlier point: what is known of its rows is not so."""
        self._was.clear()

    def adopt(self, row: Row) -> None:
        """``row`` was read just now, as it is here."""
        self._was[row.pk] = (row.version, row.ready)

    def touch(self, row: Row) -> None:
        """``row`` was read some time ago, and may be about to change."""
        self._was.setdefault(row.pk, (row.version, row.ready))

    def save(self, row: Row) -> None:
        """Write ``row`` as it is now."""
        self._was.setdefault(row.pk, (row.version - 1, 0))  # one that ran, or waits for a time
        values = row.saved()
        self._saved.append((row, (*values[:18], values[19])))

    def take(self) -> list[Statement]:
        """The statements that write it all."""
        statements: list[Statement] = []
        self._expected = []
        self._taken = self.new
        if self.new:
            columns = zip(*[inserted(row)[:16] for row in self.new], strict=True)
            statements.append((SQL["insert_jobs"], [kind(c) for kind, c in zip(_INSERTED, columns, strict=True)]))
        saved = self._saves(statements)
        if self.lines:
            columns = zip(*self.lines, strict=True)
            statements.append((SQL["insert_log_lines"], [kind(c) for kind, c in zip(_LINES, columns, strict=True)]))
        if self.gone:
            gone = Ints(self.gone)
            parts = ("delete_logs", "delete_all_data", "delete_results", "delete_jobs")
            statements += [(SQL[part], (gone,)) for part in parts]
        alive = {pk: run for pk, run in self.alive.items() if pk not in saved}
        if alive:
            self._expected.append((len(statements), len(alive)))
            statements.append((SQL["still_running"], (Ints(list(alive)), Ints(list(alive.values())))))
        self.new, self.lines, self.gone, self.alive = [], [], [], {}
        return statements

    def written(self, results: list[Result]) -> Statement | None:
        """Take note of the numbers of new rows; what is to be written beside them, because it is large.

        Raises:
            Again: another process has changed a job since it was read.
        """
        for place, rows in self._expected:
            if results[place][1] != rows:
                raise Again("a job was changed by another process", guarded=False)
        self._expected = []
        new, self._taken = self._taken, []
        if new:
            for row, (pk,) in zip(new, results[0][0], strict=True):
                row.pk = pk
        large = [row for row in new if len(row.data) > MAX_INLINE]
        if not large:
            return None
        return SQL["insert_data"], (Ints([row.pk for row in large]), Blobs([row.data for row in large]))

    def _saves(self, statements: list[Statement]) -> set[int]:
        if not self._saved:
            return set()
        # In the order in which all lock jobs: one group's runs end in any, and another process may act on many of them.
        by_pk = {row.pk: (row, values) for row, values in self._saved}
        latest = {pk: by_pk[pk] for pk in sorted(by_pk)}
        self._saved = []
        columns: list[Sequence[Any]] = [*zip(*[values for _, values in latest.values()], strict=True)]
        columns.append([self._was[pk][0] for pk in latest])
        self._expected.append((len(statements), len(latest)))
        statements.append(_update(columns))
        ready = [pk for pk, (_, values) in latest.items() if values[_READY] and not self._was[pk][1]]
        unready = [pk for pk, (_, values) in latest.items() if not values[_READY] and self._was[pk][1]]
        if ready:
            statements.append((SQL["make_ready"], (Ints(ready),)))
        if unready:
            statements.append((SQL["make_unready"], (Ints(unready),)))
        large = [row for row, _ in latest.values() if row.result is not None and len(row.result) > MAX_INLINE]
        if large:
            bodies = Ints([row.pk for row in large]), Blobs([row.result for row in large])
            statements.append((SQL["insert_results"], bodies))
        for pk, (_, values) in latest.items():
            self._was[pk] = (values[_VERSION], values[_READY])
        return set(latest)


def _update(columns: Sequence[Sequence[Any]]) -> Statement:
    """What saves rows, their columns as of ``_SAVED``.

    Nearly always all of them are of runs that were completed. If their versions have risen by one, nothing else has
    changed since they were read, and a fifth of the values says it.
    """
    version, (pk, was) = columns[_VERSION], columns[-2:]
    steps = set(map(operator.sub, version, was))
    if set(columns[_STATUS]) == {_COMPLETED} and steps == {1} and not any(columns[_HELD]):
        return SQL["complete_jobs"], (Ints(pk), Ints(was), Blobs(columns[_RESULT]), Ints(columns[_COMPLETED_AT]))
    return SQL["save_jobs"], [kind(c) for kind, c in zip(_SAVED, columns, strict=True)]
