"""One transaction of the SQLite store, and what its writer thread remembers between groups (``WriterState``).

The file has one owner, so what was read stays true: after a rollback alone it is read anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apsw

from jobctl.events import Commit
from jobctl.model import MAX_INLINE
from jobctl.store.base import LogEntry
from jobctl.store.rows import SQL, Row, event_of, fetch, fetch_one, inserted, scalar
from jobctl.store.transaction import RUNNING, Mark, Tx


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


class SqliteTx(Tx):
    """A transaction that is open on ``state.connection``."""

    def __init__(self, state: WriterState, now: int) -> None:
        state.refresh()
        super().__init__(now, state.seq, state.known)
        self.state = state
        self._connection = state.connection
        self._cooled: list[str] = []
        self._paused_before: list[bool | None] = []  # beside _queues

    # --- the committer's side ------------------------------------------------------------------------------------

    def mark(self) -> Mark:
        return (*super().mark(), len(self._cooled), self._connection.total_changes())

    def wrote_since(self, mark: Mark) -> bool:
        """Whether any row was written since."""
        return bool(self._connection.total_changes() != mark[-1])

    def back_to(self, mark: Mark) -> None:
        self.state.running.clear()  # one of the rows may have been changed
        *common, cooled, _ = mark
        for queue in self._cooled[cooled:]:
            self.state.hot[queue] = None
        since = common[7]
        for change, before in reversed([*zip(self._queues[since:], self._paused_before[since:], strict=True)]):
            if before is None:
                del self.state.paused[change.name]
                self.state.hot.pop(change.name, None)
            else:
                self.state.paused[change.name] = before
        del self._cooled[cooled:], self._paused_before[since:]
        super().back_to(tuple(common))

    def flush(self) -> Commit:
        """Write events and counters."""
        if self._rows:
            self._connection.executemany(SQL["insert_event"], self._rows)
        changes = [(*key, n) for key, n in self.counts().items() if n]
        if changes:
            self._connection.executemany(SQL["add_to_counter"], changes)
        return Commit(
            events=tuple(map(event_of, self._rows)),
            logs=tuple(self._logs),
            queues=tuple(self._queues),
            cancels=tuple(self._cancels),
            access=tuple(self._access),
            work=self.work,
            looked=self.looked,
            schedules=self.schedules,
            log_start=self.log_start,
        )

    def committed(self) -> None:
        """It is in the database now."""
        self.state.seq, self.state.known = self.seq, self.known

    # --- the database's side -------------------------------------------------------------------------------------

    def one(self, name: str, *values: Any) -> Any:
        return fetch_one(self._connection, SQL[name], *values)

    def all(self, name: str, *values: Any) -> list[Any]:
        return fetch(self._connection, SQL[name], *values)

    def run(self, name: str, *values: Any) -> int:
        self._connection.execute(SQL[name], values)
        return self._connection.changes()

    def run_many(self, name: str, values: Iterable[Sequence[Any]]) -> int:
        before = self._connection.total_changes()
        self._connection.executemany(SQL[name], values)
        return int(self._connection.total_changes() - before)

    def job(self, job_id: str) -> Row | None:
        row = self.state.running.get(job_id)
        if row is None and (found := self.one("job_by_id", job_id)) is not None:
            row = Row(*found)
            if row.status == RUNNING:
                self.state.running[job_id] = row
        return row

    def remove(self, row: Row) -> None:
        for part in ("delete_log", "delete_data", "delete_result", "delete_job"):
            self.run(part, row.pk)

    def insert(self, rows: Sequence[Row]) -> None:
        self._connection.executemany(SQL["insert_job"], list(map(inserted, rows)))
        if large := [(row.data, row.id) for row in rows if len(row.data) > MAX_INLINE]:
            self._connection.executemany(SQL["insert_data"], large)

    def save(self, *rows: Row) -> None:
        self._connection.executemany(SQL["save_job"], [row.saved() for row in rows])
        for row in rows:
            if row.status != RUNNING:
                self.state.running.pop(row.id, None)
            if row.result is not None and len(row.result) > MAX_INLINE:
                self.run("insert_result", row.pk, row.result)

    def save_progress(self, row: Row) -> None:
        self.run("note_progress", row.progress, row.progress_message, row.version, row.seq, row.pk)

    def save_process(self, row: Row) -> None:
        self.run("note_process", row.pid, row.pid_started, row.pk)

    def append_lines(self, row: Row, lines: Sequence[LogEntry]) -> int:
        (n,) = self.one("last_log_line", row.pk)
        self._connection.executemany(
            SQL["insert_log_line"],
            [(row.pk, n + i, line.at, line.stream, line.text) for i, line in enumerate(lines, 1)],
        )
        return int(n) + len(lines)

    def live_by_key(self, owner: str, keys: Sequence[str]) -> Mapping[str, str]:
        found = ((key, self.one("live_by_unique_key", owner, key)) for key in dict.fromkeys(keys))
        return {key: row[1] for key, row in found if row is not None}

    def head(self) -> int:
        return self.seq

    def has_queue(self, queue: str) -> bool:
        return queue in self.state.paused

    def paused(self, queue: str) -> bool | None:
        return self.state.paused.get(queue)

    def queue_count(self) -> int:
        return len(self.state.paused)

    # --- what writes say -----------------------------------------------------------------------------------------

    def cool(self, queue: str) -> None:
        """``queue`` has nothing ready any more."""
        if queue in self.state.hot:
            del self.state.hot[queue]
            self._cooled.append(queue)

    def hot(self, queue: str) -> None:
        super().hot(queue)
        self.state.hot[queue] = None

    def queue_changed(self, name: str, paused: bool) -> None:
        super().queue_changed(name, paused)
        self._paused_before.append(self.state.paused.get(name))
        self.state.paused[name] = paused
