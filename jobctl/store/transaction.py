"""One transaction of a store: rows change, and what changed is gathered to be written once a group.

Events get their numbers in order and are inserted together at the end. Here is what all databases have in common; the
functions of ``writes``, ``enqueue``, ``bulk`` and their like work on a ``Tx`` and know no database.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from jobctl.events import (
    JOB_DELETED,
    JOB_UPDATE,
    JOBS_PRUNED,
    AccessEnded,
    CancelAsked,
    LogsAppended,
    Pruning,
    QueueChanged,
    TokenIssued,
)
from jobctl.model import Job, wire_time
from jobctl.states import Status
from jobctl.store.base import LogEntry
from jobctl.store.rows import Row, fill

_encode: Final = msgspec.json.Encoder().encode
RUNNING: Final = Status.RUNNING.value

EventRow = tuple[int, str, str, int, str, str, str, str | None, str | None, str | None, bytes, int]
"""A row of ``job_event``: seq, kind, job_id, at, owner, name, queue, tags, status_before, status, body, prev."""

Mark = tuple[Any, ...]
"""How far a transaction was."""


class Tx(ABC):
    """The transaction that a group of closures works in. ``now`` is ms since the epoch, the same for all.

    ``seq`` is the last number that was given to an event. Where other processes write too they are provisional, from 1,
    and become the log's own when the transaction is committed.
    """

    def __init__(self, now: int, seq: int, known: frozenset[str] | None) -> None:
        self.now = now
        self.seq = seq
        self.known = known
        self.work = False
        self.looked = False
        self.schedules = False
        self.log_start: int | None = None
        self._rows: list[EventRow] = []
        self._logs: list[LogsAppended] = []
        self._queues: list[QueueChanged] = []
        self._cancels: list[CancelAsked] = []
        self._access: list[TokenIssued | AccessEnded] = []
        self._pruned: list[tuple[str, str, str, int]] = []

    # --- the committer's side ------------------------------------------------------------------------------------

    def mark(self) -> Mark:
        """A point to come back to."""
        return (
            self.seq,
            self.work,
            self.schedules,
            self.known,
            self.log_start,
            len(self._rows),
            len(self._logs),
            len(self._queues),
            len(self._cancels),
            len(self._pruned),
            len(self._access),
        )

    def back_to(self, mark: Mark) -> None:
        """Forget what was noted since."""
        self.seq, self.work, self.schedules, self.known, self.log_start, *lengths = mark[:11]
        rows, logs, queues, cancels, pruned, access = lengths
        del self._rows[rows:], self._logs[logs:], self._queues[queues:], self._cancels[cancels:]
        del self._pruned[pruned:], self._access[access:]

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

    # --- the database's side -------------------------------------------------------------------------------------

    @abstractmethod
    def one(self, name: str, *values: Any) -> Any:
        """The first row of a named statement, or None."""

    @abstractmethod
    def all(self, name: str, *values: Any) -> list[Any]:
        """All rows of a named statement."""

    @abstractmethod
    def run(self, name: str, *values: Any) -> int:
        """Execute a named statement that writes; how many rows it wrote."""

    @abstractmethod
    def run_many(self, name: str, values: Iterable[Sequence[Any]]) -> int:
        """Execute it for each of ``values``; how many rows were written in all."""

    @abstractmethod
    def job(self, job_id: str) -> Row | None:
        """The row of a job, ours until the transaction ends. That of one that runs is the same object each time."""

    def remembered(self, owner: str, key: str, oldest: int) -> Any:
        """(fingerprint, answer) of the owner's idempotency key, if it was used after ``oldest`` (ms); else None."""
        return self.one("remembered", owner, key, oldest)

    def remember(self, owner: str, key: str, fingerprint: bytes, answer: bytes, *, oldest: int) -> None:
        """Keep an idempotency key from now on, and forget some that were used before ``oldest`` (ms)."""
        self.run("forget_old", oldest)
        self.run("remember", owner, key, fingerprint, answer, self.now)

    def alone(self, name: str) -> None:  # noqa: B027 - where nobody else writes there is nothing to do
        """Keep other processes, until the transaction ends, from what the named statement locks."""

    def begin_pruning(self) -> None:  # noqa: B027 - as above
        """Let other processes prune before this transaction, or after it."""

    def cut_events(self, last: int) -> None:
        """Remove the events up to number ``last``."""
        self.run("prune_delete_events", last)
        self.log_start = last + 1

    def fold_counters(self) -> None:  # noqa: B027 - where they change with the jobs there is nothing to do
        """Bring the counters up to date with the log."""

    def prefetch(self, ids: Sequence[str]) -> None:  # noqa: B027 - where a look-up costs nothing there is nothing to do
        """These jobs are about to be asked for."""

    def text(self, text: str) -> str:
        """``text`` as the database can keep it."""
        return text

    @abstractmethod
    def remove(self, row: Row) -> None:
        """Delete the row, with all that belongs to it."""

    @abstractmethod
    def insert(self, rows: Sequence[Row]) -> None:
        """Write new rows."""

    @abstractmethod
    def save(self, *rows: Row) -> None:
        """Write changed rows."""

    @abstractmethod
    def save_progress(self, row: Row) -> None:
        """Write the row of a job that runs; no more than its progress has changed."""

    @abstractmethod
    def save_process(self, row: Row) -> None:
        """Write the row of a job that runs; no more than its process has changed."""

    @abstractmethod
    def append_lines(self, row: Row, lines: Sequence[LogEntry]) -> int:
        """Append to the log of a job that runs; the number of its last line."""

    @abstractmethod
    def live_by_key(self, owner: str, keys: Sequence[str]) -> Mapping[str, str]:
        """Ids of the owner's live jobs by their unique key; of these keys, those that are taken."""

    @abstractmethod
    def head(self) -> int:
        """The last number of the event log, those of this transaction's own events counted in."""

    @abstractmethod
    def has_queue(self, queue: str) -> bool:
        """Whether there is such a queue."""

    @abstractmethod
    def paused(self, queue: str) -> bool | None:
        """Whether a queue is paused; None: there is no such queue."""

    @abstractmethod
    def queue_count(self) -> int:
        """How many queues there are."""

    # --- what writes say -----------------------------------------------------------------------------------------

    def whole(self, row: Row) -> Job:
        """``row`` on the wire, with all of its data and result."""
        return fill(self, row).job(whole=True)

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

    def enqueued(self, row: Row) -> None:
        """Make ``row`` ready, delayed or parked, by its ``due`` and by who can run it. Save it afterwards."""
        if row.held and row.due is None:
            row.due = self.now  # staged once the held run has ended
        row.ready = int(row.due is None and self.can_run(row.name))
        self.hot(row.queue)

    def can_run(self, name: str) -> bool:
        """Whether a handler of that name is here."""
        return self.known is None or name in self.known

    def hot(self, queue: str) -> None:  # noqa: ARG002 - a database may note which
        """The runner should look at ``queue`` (a hint: one too many costs a look-up)."""
        self.work = True

    def logged(self, job_id: str, n: int) -> None:
        """The job's log reaches line ``n`` now."""
        self._logs.append(LogsAppended(job_id, n))

    def queue_changed(self, name: str, paused: bool) -> None:
        """A queue is new, paused or resumed."""
        self._queues.append(QueueChanged(name, paused))

    def cancel_asked(self, job_id: str, run: int) -> None:
        """That run is to stop."""
        self._cancels.append(CancelAsked(job_id, run))

    def access_changed(self, change: TokenIssued | AccessEnded) -> None:
        """Somebody may come in, or no more."""
        self._access.append(change)

    def _note(self, row: Row, kind: str, before: str | None, status: str | None, body: bytes, prev: int) -> None:
        self._rows.append(
            (row.seq, kind, row.id, self.now, row.created_by, row.name, row.queue, row.tags, before, status, body, prev)
        )
