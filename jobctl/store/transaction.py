"""One transaction of the SQLite store: rows change, and what changed is gathered to be written once a group.

Events get their numbers here, in order, and are inserted together at the end; counters are summed over the group.
``WriterState`` is what the writer thread remembers between groups; after any rollback it is read anew.
"""

from typing import Any, Final

import apsw
import msgspec

from jobctl.events import JOB_DELETED, JOB_UPDATE, Commit, Event, LogsAppended, QueueChanged
from jobctl.store.rows import SQL, Row, fetch, fetch_one, load_tags, scalar

_encode: Final = msgspec.json.Encoder().encode


class WriterState:
    """What the writer knows without asking: the last ``seq``, the queues, and which of them may have ready jobs."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.known: frozenset[str] | None = None
        self.seq = 0
        self.paused: dict[str, bool] = {}
        self.hot: dict[str, None] = {}
        self.reload()

    def reload(self) -> None:
        """Read it all from the database; every queue is worth a look again."""
        self.seq = scalar(self.connection, SQL["head"])
        self.paused = {name: bool(paused) for name, paused in fetch(self.connection, SQL["all_queues"])}
        self.hot = dict.fromkeys(self.paused)

    def can_run(self, name: str) -> bool:
        """Whether a handler of that name is here."""
        return self.known is None or name in self.known


class Tx:
    """The transaction that a group of closures works in. ``now`` is ms since the epoch, the same for all."""

    def __init__(self, state: WriterState, now: int) -> None:
        self.state = state
        self.execute = state.connection.execute
        self.executemany = state.connection.executemany
        self.now = now
        self.seq = state.seq
        self.work = False
        self._events: list[Event] = []
        self._rows: list[tuple[Any, ...]] = []
        self._counts: dict[tuple[str, str, str], int] = {}
        self._logs: list[LogsAppended] = []
        self._queues: list[QueueChanged] = []
        self._cancels: list[str] = []

    # --- the committer's side ------------------------------------------------------------------------------------

    def mark(self) -> tuple[Any, ...]:
        """A point to come back to."""
        sizes = (len(self._events), len(self._logs), len(self._queues), len(self._cancels))
        return (self.seq, self.work, self._counts.copy(), sizes)

    def back_to(self, mark: tuple[Any, ...]) -> None:
        """Forget what was noted since."""
        self.seq, self.work, self._counts, (events, logs, queues, cancels) = mark
        del self._events[events:], self._rows[events:]
        del self._logs[logs:], self._queues[queues:], self._cancels[cancels:]

    def flush(self) -> Commit:
        """Write events and counters."""
        if self._rows:
            self.executemany(SQL["insert_event"], self._rows)
        changes = [(*key, n) for key, n in self._counts.items() if n]
        if changes:
            self.executemany(SQL["add_to_counter"], changes)
        self.state.seq = self.seq
        return Commit(
            events=tuple(self._events),
            logs=tuple(self._logs),
            queues=tuple(self._queues),
            cancels=tuple(self._cancels),
            work=self.work,
        )

    # --- asking --------------------------------------------------------------------------------------------------

    def one(self, name: str, *values: Any) -> Any:
        """The first row of a named statement, or None."""
        return fetch_one(self.state.connection, SQL[name], *values)

    def all(self, name: str, *values: Any) -> list[Any]:
        """All rows of a named statement."""
        return fetch(self.state.connection, SQL[name], *values)

    # --- what writes say -----------------------------------------------------------------------------------------

    def next_seq(self) -> int:
        """The number of the event that is about to be noted."""
        self.seq += 1
        return self.seq

    def changed(self, row: Row, before: str | None, *, prev: int) -> None:
        """``row`` is new (``before`` None) or has changed; its ``seq`` is already the event's."""
        self._note(row, JOB_UPDATE, before, row.status, _encode(row.job()), prev)

    def deleted(self, row: Row) -> None:
        """``row`` was removed."""
        prev, row.seq = row.seq, self.next_seq()
        self._note(row, JOB_DELETED, row.status, None, _encode({"id": row.id}), prev)

    def save(self, row: Row, before: str) -> None:
        """Write a changed row with its event: ``version`` and ``seq`` rise."""
        prev, row.seq = row.seq, self.next_seq()
        row.version += 1
        self.execute(SQL["save_job"], row.saved())
        self.changed(row, before, prev=prev)

    def enqueued(self, row: Row) -> None:
        """Make ``row`` ready, delayed or parked, by its ``due`` and by who can run it. Save it afterwards."""
        if row.held and row.due is None:
            row.due = self.now  # staged once the held run has ended
        row.ready = int(row.due is None and self.state.can_run(row.name))
        self.hot(row.queue)

    def hot(self, queue: str) -> None:
        """The runner should look at ``queue`` (a hint: one too many costs a look-up)."""
        self.state.hot[queue] = None
        self.work = True

    def logged(self, job_id: str, n: int) -> None:
        """The job's log reaches line ``n`` now."""
        self._logs.append(LogsAppended(job_id, n))

    def queue_changed(self, name: str, paused: bool) -> None:
        """A queue is new, paused or resumed."""
        self.state.paused[name] = paused
        self._queues.append(QueueChanged(name, paused))

    def cancel_asked(self, job_id: str) -> None:
        """A running job is to stop."""
        self._cancels.append(job_id)

    def _note(self, row: Row, kind: str, before: str | None, status: str | None, body: bytes, prev: int) -> None:
        if before != status:
            counts, owner, queue = self._counts, row.created_by, row.queue
            for whose in (owner, ""):
                if before is not None:
                    key = (whose, queue, before)
                    counts[key] = counts.get(key, 0) - 1
                if status is not None:
                    key = (whose, queue, status)
                    counts[key] = counts.get(key, 0) + 1
        seq, at = row.seq, self.now
        self._rows.append(
            (seq, kind, row.id, at, row.created_by, row.name, row.queue, row.tags, before, status, body, prev)
        )
        self._events.append(
            Event(
                seq, kind, row.id, at, row.created_by, row.name, row.queue, load_tags(row.tags), before, status, body
            )
        )
