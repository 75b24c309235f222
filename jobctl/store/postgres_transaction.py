"""One transaction of the PostgreSQL store.

Each round trip costs 50 us and more, whatever it carries, so rows are written behind: what a group of closures changes
is gathered, and reaches the database in one statement a table, right before something is read that might depend on it,
or at the end. For the same reason the rows of jobs that this process has claimed are remembered between groups, and
not read again for their ends.

Others may have changed such a row meanwhile (a cancel, a rescue). Every row is therefore saved only where its
``version`` is still the one that was read; if not, all is rolled back and forgotten, and the group starts over with
rows that are read, and locked, in the transaction itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
import psycopg
import uuid_utils

from jobctl.events import AccessEnded, Commit, Event, TokenIssued
from jobctl.states import LIVE
from jobctl.store.base import LogEntry
from jobctl.store.committer import Again
from jobctl.store.postgres_arrays import Blobs, Ints, Names, Texts, without_nul
from jobctl.store.postgres_behind import Behind, Memory
from jobctl.store.postgres_link import SQL, Link, Result, Statement
from jobctl.store.postgres_notes import Note
from jobctl.store.rows import Row, event_of
from jobctl.store.transaction import RUNNING, Mark, Tx

_IN_THE_WAY: Final = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.UniqueViolation,  # another process has just written the same: who looks again will find it
    psycopg.errors.DivisionByZero,  # of `still_pruned`
)
_encode: Final = msgspec.json.Encoder().encode
class PostgresTx(Tx):
    """The transaction of a group; its BEGIN is sent with its first statement.

    Args:
        link: The writing connection.
        memory: What is remembered between groups.
        now: ms since the epoch.
        guarded: Each closure has a savepoint.
    """

    def __init__(self, link: Link, memory: Memory, now: int, *, guarded: bool) -> None:
        super().__init__(now, 0, memory.known)
        self.link = link
        self.memory = memory
        self.guarded = guarded
        self.begun = False
        self.xid: str | None = None
        """The transaction's own number: by it one can learn whether a COMMIT without an answer went well."""
        self.written = 0
        self._behind = Behind()
        self._of: list[Row | None] = []  # whose event, beside _rows
        self._queue_count: int | None = None
        self._fetched: dict[str, Row] = {}
        self._note_body: bytes | None = None
        self._pruning_from: int | None = None  # the head when the jobs to prune were looked for
        self._keys: dict[tuple[str, str], tuple[bytes, bytes]] = {}  # of idempotency, as they are to be remembered
        self._oldest_key = 0
        self._told_pruned: list[tuple[str, int]] = []  # status, and the time (ms) up to which all are told to be gone

    # --- the committer's side ------------------------------------------------------------------------------------

    def mark(self) -> Mark:
        keys, pruned = len(self._keys), len(self._told_pruned)
        return (*super().mark(), self._behind.mark(), keys, pruned, self._pruning_from, self.written)

    def wrote_since(self, mark: Mark) -> bool:
        """Whether any statement that writes was sent since."""
        return bool(self.written != mark[-1])

    def back_to(self, mark: Mark) -> None:
        self.memory.running.clear()  # one of the rows may have been changed
        self.memory.lines.clear()
        self.memory.queues.clear()
        self._fetched.clear()
        super().back_to(mark)
        behind, keys, pruned, self._pruning_from, _ = mark[-5:]
        self._behind.back_to(behind)
        self._keys = dict(islice(self._keys.items(), keys))
        del self._told_pruned[pruned:], self._of[len(self._rows) :]

    # --- sending -------------------------------------------------------------------------------------------------

    def send(self, *statements: Statement) -> list[Result]:
        """Send statements in one round trip, BEGIN before the first of all.

        Raises:
            Again: another process was in the way, or an error has spoilt the transaction of others too.
        """
        opening: list[Statement] = []
        if not self.begun:
            opening = [*self.link.begin(), ("SELECT pg_current_xact_id()::text", ())]
            self.begun = True
        try:
            results = self.link.execute_all([*opening, *statements])
        except psycopg.Error as error:
            raise self.judged(error) from error
        if opening:
            self.xid = results[len(opening) - 1][0][0][0]
        return results[len(opening) :]

    def judged(self, error: psycopg.Error) -> Exception:
        """What an error means to the group: to start over, or the error itself."""
        if isinstance(error, _IN_THE_WAY):
            return Again(str(error).strip(), guarded=False)
        if self.link.broken:  # before COMMIT: nothing of it was kept
            return Again(f"the connection was lost: {str(error).strip()}", guarded=self.guarded)
        if self.guarded or isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
            return error
        return Again(str(error).strip(), guarded=True)  # whose it is, is seen when each has a savepoint

    def flush(self, *more: Statement) -> list[Result]:
        """Write the rows that were gathered, and send ``more`` after them in the same round trip; its results."""
        statements = self._behind.take()
        if not statements and not more:
            return []
        self.written += bool(statements)
        results = self.send(*statements, *more)
        if large := self._behind.written(results):
            self.send(large)
        return results[len(statements) :]

    def closing(self, lock: int) -> list[Statement]:
        """What appends events and notes, as the last thing before COMMIT; empty where nothing was written."""
        note = self._noted()
        if not self._rows and note is None:
            if not self.written:
                return []
            note = _NO_NOTE
        if note is not None and not self._rows:
            note = msgspec.structs.replace(note, receipt=str(uuid_utils.uuid7()))
        self._note_body = None if note is None else _encode(note)
        columns: Sequence[Sequence[Any]] = [*zip(*self._rows, strict=True)] or [()] * 12  # of no EventRow
        _, kinds, ids, _, owners, names, queues, tags, before, after, bodies, _ = columns
        jobs = Ints([row.pk if row else 0 for row, _ in zip(self._of, self._rows, strict=True)])
        texts = map(Names, (owners, names, queues, tags, before, after))
        arrays = [Names(kinds), jobs, Texts(ids), *texts, Blobs(bodies)]
        guards: list[Statement] = [(SQL["lock_log"], (lock,))] if self._told_pruned else []
        guards += [(SQL["still_pruned"], (self._pruning_from, *told)) for told in self._told_pruned]
        return [*guards, (SQL["append"], (*arrays, self._note_body, self.now, lock))]

    def receipt(self) -> Statement:
        """What finds, after ``closing`` was sent, something that is in the database only if it was committed."""
        if not self._rows:
            return SQL["has_note"], (self._note_body,)
        row, owner = self._rows[-1], self._of[-1]
        return SQL["has_event"], (owner.pk if owner else 0, row[2], self.now, row[10])

    def lock_last(self) -> None:
        """Write what transactions of other servers may write too, after all else, and all of them in one order.

        Raises:
            Again: another process has used the same idempotency key.
        """
        statements = self._counters()
        if self._keys:
            owners, keys = zip(*self._keys, strict=True)
            prints, answers = zip(*self._keys.values(), strict=True)
            columns = Texts(owners), Texts(keys), Blobs(prints), Blobs(answers)
            statements.append((SQL["remember"], (*columns, self.now)))
            statements.append((SQL["forget_old"], (self._oldest_key, 2 * len(keys))))
        if not statements:
            return
        self.written += 1
        results = self.send(*statements)
        if self._keys and results[-2][1] != len(self._keys):
            raise Again("another process has used the same idempotency key", guarded=False)

    def _counters(self) -> list[Statement]:
        """Jobs that were pruned: their event counts for many, and so it is not among those that are folded."""
        pruned: dict[tuple[str, str, str], int] = {}
        for owner, queue, status, n in self._pruned:
            for whose in (owner, ""):
                pruned[whose, queue, status] = pruned.get((whose, queue, status), 0) - n
        return [(SQL["add_to_counter"], (*key, n)) for key, n in sorted(pruned.items())]

    def _noted(self) -> Note | None:
        work = self.work and not any(row[9] in _WAITING for row in self._rows)
        note = Note(
            logs=tuple(self._logs),
            queues=tuple(self._queues),
            cancels=tuple(self._cancels),
            issued=tuple(each for each in self._access if isinstance(each, TokenIssued)),
            ended=tuple(each for each in self._access if isinstance(each, AccessEnded)),
            work=work,
            schedules=self.schedules,
            log_start=self.log_start,
        )
        return None if note == _NO_NOTE else note

    def told(self, base: int) -> Commit:
        """What listeners hear, the events numbered on from ``base``."""
        events: list[Event] = [event_of((base + row[0], *row[1:])) for row in self._rows]
        return Commit(
            events=tuple(events),
            logs=tuple(self._logs),
            queues=tuple(self._queues),
            cancels=tuple(self._cancels),
            access=tuple(self._access),
            work=self.work,
            looked=self.looked,
            schedules=self.schedules,
            log_start=self.log_start,
        )

    # --- the database's side -------------------------------------------------------------------------------------

    def one(self, name: str, *values: Any) -> Any:
        rows = self.all(name, *values)
        return rows[0] if rows else None

    def all(self, name: str, *values: Any) -> list[Any]:
        return self.flush((SQL[name], values))[0][0]

    def run(self, name: str, *values: Any) -> int:
        self.written += 1
        return self.flush((SQL[name], values))[0][1]

    def run_many(self, name: str, values: Iterable[Sequence[Any]]) -> int:
        statements = [(SQL[name], each) for each in values]
        self.written += bool(statements)
        return sum(n for _, n in self.flush(*statements))

    def job(self, job_id: str) -> Row | None:
        row = self._fetched.get(job_id) or self.memory.running.get(job_id)
        if row is None:
            found = self.one("lock_job", job_id)
            if found is None:
                return None
            row = Row(*found)
            self._behind.adopt(row)
            if row.status == RUNNING:
                self.memory.running[job_id] = row
        else:
            self._behind.touch(row)
        return row

    def remembered(self, owner: str, key: str, oldest: int) -> Any:
        return self._keys.get((owner, key)) or super().remembered(owner, key, oldest)

    def remember(self, owner: str, key: str, fingerprint: bytes, answer: bytes, *, oldest: int) -> None:
        self._keys[owner, key] = fingerprint, answer
        self._oldest_key = oldest

    def undone(self) -> None:
        """The database is back at the savepoint of a closure."""
        self._behind.undone()
        self._queue_count = None

    def adopt(self, row: Row) -> None:
        """``row`` was read, and locked, by another statement."""
        self._behind.adopt(row)

    def alone(self, name: str) -> None:
        self.send((SQL[name], ()))

    def begin_pruning(self) -> None:
        if self._pruning_from is None:
            self._pruning_from = int(self.send((SQL["begin_pruning"], ()), (SQL["head"], ()))[1][0][0][0])

    def cut_events(self, last: int) -> None:
        self._fold(last)
        super().cut_events(last)

    def fold_counters(self) -> None:
        self._fold(int(self.one("head")[0]))

    def _fold(self, upto: int) -> None:
        folded = self.one("lock_log_row")[0]
        if folded < upto:
            self.run("fold", folded, upto)

    def prefetch(self, ids: Sequence[str]) -> None:
        for found in self.flush((SQL["lock_jobs"], (Texts(list(ids)),)))[0][0]:
            row = Row(*found)
            self.adopt(row)
            self._fetched[row.id] = row

    def text(self, text: str) -> str:
        return without_nul(text)

    def remove(self, row: Row) -> None:
        self._behind.gone.append(row.pk)
        self._fetched.pop(row.id, None)

    def insert(self, rows: Sequence[Row]) -> None:
        self._behind.new += rows

    def save(self, *rows: Row) -> None:
        for row in rows:
            self._behind.save(row)
            if row.status != RUNNING:
                self.memory.running.pop(row.id, None)
                self.memory.lines.pop(row.pk, None)

    def save_progress(self, row: Row) -> None:
        self.save(row)

    def save_process(self, row: Row) -> None:
        self.save(row)

    def append_lines(self, row: Row, lines: Sequence[LogEntry]) -> int:
        self._behind.alive[row.pk] = row.run
        n = self.memory.lines.get(row.pk)
        if n is None:
            n = int(self.one("last_log_line", row.pk)[0])
        self._behind.lines += [
            (row.pk, n + i, line.at, line.stream, without_nul(line.text)) for i, line in enumerate(lines, 1)
        ]
        self.memory.lines[row.pk] = n + len(lines)
        return n + len(lines)

    def live_by_key(self, owner: str, keys: Sequence[str]) -> Mapping[str, str]:
        return dict(self.flush((SQL["live_by_keys"], (owner, Texts(list(dict.fromkeys(keys))))))[0][0])

    def head(self) -> int:
        return int(self.one("head")[0]) + self.seq

    def has_queue(self, queue: str) -> bool:
        if queue not in self.memory.queues:
            self.memory.queues.update(name for name, _ in self.send((SQL["all_queues"], ()))[0][0])
        return queue in self.memory.queues

    def paused(self, queue: str) -> bool | None:
        found = self.one("lock_queue", queue)
        return None if found is None else bool(found[0])

    def queue_count(self) -> int:
        if self._queue_count is None:  # two servers that each made the last one would make one too many
            self.send((SQL["lock_queues"], ()))
            self._queue_count = len(self.send((SQL["all_queues"], ()))[0][0])
        return self._queue_count

    # --- what writes say -----------------------------------------------------------------------------------------

    def can_run(self, name: str) -> bool:  # noqa: ARG002 - another process may: a claim asks for the names it can run
        return True

    def queue_changed(self, name: str, paused: bool) -> None:
        super().queue_changed(name, paused)
        self.memory.queues.add(name)
        self._queue_count = None if self._queue_count is None else self._queue_count + 1

    def _note(self, row: Row, kind: str, before: str | None, status: str | None, body: bytes, prev: int) -> None:
        super()._note(row, kind, before, status, body, prev)
        self._of.append(row)

    def pruned(self, lost: dict[tuple[str, str, str], int], finished_before: int) -> None:
        super().pruned(lost, finished_before)
        self._told_pruned += [(status, finished_before) for status in sorted({status for _, _, status in lost})]
        self._of.append(None)


_NO_NOTE: Final = Note()
_WAITING: Final = LIVE - {RUNNING}
