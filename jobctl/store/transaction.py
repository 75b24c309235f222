"""One transaction of the SQLite store: rows change, and what changed is gathered to be written once a group.

Events get their numbers here, in order, and are inserted together at the end; counters are summed over the group.
``WriterState`` is what the writer thread remembers between groups; after a rollback it is read anew.
"""

from typing import Any, Final

import apsw
import msgspec

from jobctl.events import (
    JOB_DELETED,
    JOB_UPDATE,
    JOBS_PRUNED,
    AccessEnded,
    Commit,
    LogsAppended,
    Pruning,
    QueueChanged,
    TokenIssued,
)
from jobctl.model import Job, wire_time
from jobctl.states import Status
from jobctl.store.rows import SQL, Row, event_of, fetch, fetch_one, fill, scalar

_encode: Final = msgspec.json.Encoder().encode
RUNNING: Final = Status.RUNNING.value


class WriterState:
    """What the writer knows without asking: the last ``seq``, the queues, and which of them may have ready jobs."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.known: frozenset[str] | None = None
        self.seq = 0
        self.paused: dict[str, bool] = {}
        self.hot: dict[str, None] = {}
        self.running: dict[str, Row] = {}
        """Jobs that run, by id, as they stand in the table: their ends need not look them up."""
        self.stale = True
        self.refresh()

    def refresh(self) -> None:
        """Read it from the database if a rollback has made it doubtful; every queue is worth a look again."""
        if self.stale:
            self.seq = scalar(self.connection, SQL["head"])
            self.paused = {name: bool(paused) for name, paused in fetch(self.connection, SQL["all_queues"])}
            self.hot = dict.fromkeys(self.paused)
            self.stale = False

    def doubt(self) -> None:
        """A transaction was rolled back: what it had noted here is not so."""
        self.stale = True
        self.running.clear()


Mark = tuple[int, int, bool, bool, frozenset[str] | None, int | None, int, int, int, int, int, int, int]
"""How far a transaction was: changes in the database, ``seq``, ``work``, ``schedules``, ``known``, ``log_start``, and
the length of each list."""


class Tx:
    """The transaction that a group of closures works in. ``now`` is ms since the epoch, the same for all."""

    def __init__(self, state: WriterState, now: int) -> None:
        state.refresh()
        self.state = state
        self.execute = state.connection.execute
        self.executemany = state.connection.executemany
        self.now = now
        self.seq = state.seq
        self.known = state.known
        self.work = False
        self.schedules = False
        self.log_start: int | None = None
        self._rows: list[tuple[Any, ...]] = []
        self._logs: list[LogsAppended] = []
        self._queues: list[tuple[QueueChanged, bool | None]] = []
        self._cancels: list[str] = []
        self._cooled: list[str] = []
        self._access: list[TokenIssued | AccessEnded] = []
        self._pruned: list[tuple[str, str, str, int]] = []

    # --- the committer's side ------------------------------------------------------------------------------------

    def mark(self) -> Mark:
        """A point to come back to."""
        return (
            self.state.connection.total_changes(),
            self.seq,
            self.work,
            self.schedules,
            self.known,
            self.log_start,
            len(self._rows),
            len(self._logs),
            len(self._queues),
            len(self._cancels),
            len(self._cooled),
            len(self._pruned),
            len(self._access),
        )

    def wrote_since(self, mark: Mark) -> bool:
        """Whether any row was written since."""
        return self.state.connection.total_changes() != mark[0]

    def back_to(self, mark: Mark) -> None:
        """Forget what was noted since."""
        self.state.running.clear()  # one of the rows may have been changed
        _, self.seq, self.work, self.schedules, self.known, self.log_start, *lengths = mark
        rows, logs, queues, cancels, cooled, pruned, access = lengths
        for queue in self._cooled[cooled:]:
            self.state.hot[queue] = None
        for change, before in reversed(self._queues[queues:]):
            if before is None:
                del self.state.paused[change.name]
                self.state.hot.pop(change.name, None)
            else:
                self.state.paused[change.name] = before
        del self._rows[rows:], self._logs[logs:], self._queues[queues:], self._cancels[cancels:], self._cooled[cooled:]
        del self._pruned[pruned:], self._access[access:]

    def flush(self) -> Commit:
        """Write events and counters."""
        if self._rows:
            self.executemany(SQL["insert_event"], self._rows)
        changes = [(*key, n) for key, n in self.counts().items() if n]
        if changes:
            self.executemany(SQL["add_to_counter"], changes)
        return Commit(
            events=tuple(map(event_of, self._rows)),
            logs=tuple(self._logs),
            queues=tuple(change for change, _ in self._queues),
            cancels=tuple(self._cancels),
            access=tuple(self._access),
            work=self.work,
            schedules=self.schedules,
            log_start=self.log_start,
        )

    def committed(self) -> None:
        """It is in the database now."""
        self.state.seq, self.state.known = self.seq, self.known

    def counts(self) -> dict[tuple[str, str, str], int]:
        """What is to be added to each counter (owner, queue, status); the owner ``''`` has the totals."""
        counts: dict[tuple[str, str, str], int] = {}
        for owner, queue, lost, n in self._pruned:
            for whose in (owner, ""):
                key = (whose, queue, lost)
                counts[key] = counts.get(key, 0) - n
        moves: dict[tuple[str, str, str | None, str | None], int] = {}
        for _, _, _, _, owner, _, queue, _, before, status, _, _ in self._rows:
            if before != status:
                move = (owner, queue, before, status)
                moves[move] = moves.get(move, 0) + 1
        for (owner, queue, before, status), n in moves.items():
            for whose in (owner, ""):
                if before is not None:
                    key = (whose, queue, before)
                    counts[key] = counts.get(key, 0) - n
                if status is not None:
                    key = (whose, queue, status)
                    counts[key] = counts.get(key, 0) + n
        return counts

    # --- asking --------------------------------------------------------------------------------------------------

    def one(self, name: str, *values: Any) -> Any:
        """The first row of a named statement, or None."""
        return fetch_one(self.state.connection, SQL[name], *values)

    def all(self, name: str, *values: Any) -> list[Any]:
        """All rows of a named statement."""
        return fetch(self.state.connection, SQL[name], *values)

    def job(self, job_id: str) -> Row | None:
        """The row of a job. That of one that runs is the same object each time."""
        row = self.state.running.get(job_id)
        if row is None and (found := self.one("job_by_id", job_id)) is not None:
            row = Row(*found)
            if row.status == RUNNING:
                self.state.running[job_id] = row
        return row

    def whole(self, row: Row) -> Job:
        """``row`` on the wire, with all of its data and result."""
        return fill(self.state.connection, row).job(whole=True)

    # --- what writes say -----------------------------------------------------------------------------------------

    def next_seq(self) -> int:
        """The number of the event that is about to be noted."""
        self.seq += 1
        return self.seq

    def changed(self, row: Row, before: str | None, *, prev: int) -> Job:
        """``row`` is new (``before`` None) or has changed; its ``seq`` is already the event's. Returns what is told."""
        told = row.job()
        self._note(row, JOB_UPDATE, before, row.status, _encode(told), prev)
        return told

    def deleted(self, row: Row) -> None:
        """``row`` was removed."""
        prev, row.seq = row.seq, self.next_seq()
        self._note(row, JOB_DELETED, row.status, None, _encode({"id": row.id}), prev)

    def pruned(self, lost: dict[tuple[str, str, str], int], finished_before: int) -> None:
        """Rows were removed, so many of each (owner, queue, status): all that had ended before that time (ms)."""
        counts: dict[str, dict[str, dict[str, int]]] = {}
        for (owner, queue, status), n in sorted(lost.items()):
            counts.setdefault(owner, {}).setdefault(queue, {})[status] = n
            self._pruned.append((owner, queue, status, n))
        body = _encode(Pruning(wire_time(finished_before), counts))
        # It is of no one job, owner or queue: their columns are empty, and the body says whom it concerns.
        self._rows.append((self.next_seq(), JOBS_PRUNED, "", self.now, "", "", "", None, None, None, body, 0))

    def note(self, row: Row, before: str) -> None:
        """``row`` has changed, which had the status ``before``: ``version`` and ``seq`` rise. Save it afterwards."""
        prev, row.seq = row.seq, self.next_seq()
        row.version += 1
        self.changed(row, before, prev=prev)

    def save(self, *rows: Row) -> None:
        """Write changed rows."""
        self.executemany(SQL["save_job"], [row.saved() for row in rows])
        for row in rows:
            if row.status != RUNNING:
                self.state.running.pop(row.id, None)

    def enqueued(self, row: Row) -> None:
        """Make ``row`` ready, delayed or parked, by its ``due`` and by who can run it. Save it afterwards."""
        if row.held and row.due is None:
            row.due = self.now  # staged once the held run has ended
        row.ready = int(row.due is None and self.can_run(row.name))
        self.hot(row.queue)

    def can_run(self, name: str) -> bool:
        """Whether a handler of that name is here."""
        return self.known is None or name in self.known

    def cool(self, queue: str) -> None:
        """``queue`` has nothing ready any more."""
        if queue in self.state.hot:
            del self.state.hot[queue]
            self._cooled.append(queue)

    def hot(self, queue: str) -> None:
        """The runner should look at ``queue`` (a hint: one too many costs a look-up)."""
        self.state.hot[queue] = None
        self.work = True

    def logged(self, job_id: str, n: int) -> None:
        """The job's log reaches line ``n`` now."""
        self._logs.append(LogsAppended(job_id, n))

    def queue_changed(self, name: str, paused: bool) -> None:
        """A queue is new, paused or resumed."""
        self._queues.append((QueueChanged(name, paused), self.state.paused.get(name)))
        self.state.paused[name] = paused

    def cancel_asked(self, job_id: str) -> None:
        """A running job is to stop."""
        self._cancels.append(job_id)

    def access_changed(self, change: TokenIssued | AccessEnded) -> None:
        """Somebody may come in, or no more."""
        self._access.append(change)

    def _note(self, row: Row, kind: str, before: str | None, status: str | None, body: bytes, prev: int) -> None:
        self._rows.append(
            (row.seq, kind, row.id, self.now, row.created_by, row.name, row.queue, row.tags, before, status, body, prev)
        )
