"""A row of the ``job`` table, what becomes of it on the wire, and the named statements of SQLite."""

from collections.abc import Sequence
from typing import Any, Final

import apsw
import msgspec

from jobctl.events import Event
from jobctl.model import MAX_INLINE, Job, Progress, wire_time
from jobctl.states import Status
from jobctl.store.queries import Queries, load

APART: Final = b""
"""In place of a large field: JSON text is never empty."""


class Row(msgspec.Struct, gc=False):
    """One job as it is stored; the fields are the columns, in order. Changed in place, then saved.

    ``data`` and ``result`` above 4 KiB stand in tables of their own, and are empty here until ``fill``.
    """

    pk: int
    id: str
    name: str
    queue: str
    data: bytes
    status: str
    priority: int
    attempts: int
    max_attempts: int
    error: str | None
    result: bytes | None
    progress: float | None
    progress_message: str | None
    created_at: int
    started_at: int | None
    completed_at: int | None
    scheduled_for: int | None
    processing_by: str | None
    created_by: str
    unique_key: str | None
    timeout: float
    tags: str | None
    version: int
    cancel_requested: int
    run: int
    ready: int
    due: int | None
    held: int
    pid: int | None
    pid_started: int | None
    seq: int

    def saved(self) -> tuple[object, ...]:
        """The parameters of ``save_job``."""
        return (
            self.status,
            self.attempts,
            self.error,
            APART if self.result is not None and len(self.result) > MAX_INLINE else self.result,
            self.progress,
            self.progress_message,
            self.started_at,
            self.completed_at,
            self.scheduled_for,
            self.processing_by,
            self.version,
            self.cancel_requested,
            self.run,
            self.ready,
            self.due,
            self.held,
            self.pid,
            self.pid_started,
            self.seq,
            self.pk,
        )

    def job(self, *, whole: bool = False) -> Job:
        """The job on the wire; unless ``whole`` (after ``fill``), large fields are null and named in ``omitted``."""
        data: msgspec.Raw | None = msgspec.Raw(self.data)
        result = None if self.result is None else msgspec.Raw(self.result)
        omitted: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
        if not whole:
            if not 0 < len(self.data) <= MAX_INLINE:
                data, omitted = None, ("data",)
            if self.result is not None and not 0 < len(self.result) <= MAX_INLINE:
                result, omitted = None, (*(omitted or ()), "result")
        # By place, in the order of the fields: by name it took four times as long, and every event makes one.
        return Job(
            self.id,
            self.name,
            self.queue,
            data,
            _STATUS[self.status],
            self.priority,
            self.attempts,
            self.max_attempts,
            self.error,
            result,
            None if self.progress is None else Progress(value=self.progress, message=self.progress_message),
            wire_time(self.created_at),
            None if self.started_at is None else wire_time(self.started_at),
            None if self.completed_at is None else wire_time(self.completed_at),
            None if self.scheduled_for is None else wire_time(self.scheduled_for),
            None if self.started_at is None else self.processing_by,
            self.created_by,
            self.unique_key,
            self.timeout,
            load_tags(self.tags) if self.tags else (),
            self.version,
            self.cancel_requested != 0,
            omitted,
        )


def fill(db: Queries, row: Row) -> Row:
    """``row``, with the large fields that stand apart."""
    if row.data == APART:
        row.data = db.one("data_of", row.pk)[0]
    if row.result == APART:
        row.result = db.one("result_of", row.pk)[0]
    return row


def inserted(row: Row) -> tuple[object, ...]:
    """The parameters of ``insert_job``."""
    return (
        row.id,
        row.name,
        row.queue,
        row.data if len(row.data) <= MAX_INLINE else APART,
        row.status,
        row.priority,
        row.max_attempts,
        row.created_at,
        row.scheduled_for,
        row.created_by,
        row.unique_key,
        row.timeout,
        row.tags,
        "".join(f"\x1f{tag.casefold()}" for tag in load_tags(row.tags)) if row.tags else None,
        row.ready,
        row.due,
        row.seq,
    )


_STATUS: Final = {status.value: status for status in Status}
COLUMNS: Final = ", ".join(Row.__struct_fields__)

_tags_decoder = msgspec.json.Decoder(tuple[str, ...])


def load_tags(text: str | None) -> tuple[str, ...]:
    """Tags of the column's JSON."""
    return _tags_decoder.decode(text) if text else ()


def dump_tags(tags: tuple[str, ...]) -> str | None:
    """Tags as the column's JSON."""
    return msgspec.json.encode(tags).decode() if tags else None


def event_of(row: Sequence[Any]) -> Event:
    """An event from a row of ``job_event``, its columns in order; what follows ``body`` is not told."""
    seq, kind, job_id, at, owner, name, queue, tags, before, status, body = row[:11]
    return Event(seq, kind, job_id, at, owner, name, queue, load_tags(tags) if tags else (), before, status, body)


def fetch(connection: apsw.Connection, sql: str, *values: Any) -> list[Any]:
    """All rows, as tuples; nothing stays open."""
    return connection.execute(sql, values).fetchall()


def fetch_one(connection: apsw.Connection, sql: str, *values: Any) -> Any:
    """The first row as a tuple, or None."""
    return connection.execute(sql, values).fetchone()


def scalar(connection: apsw.Connection, sql: str, *values: Any) -> Any:
    """The first value of the first row, or None."""
    return connection.execute(sql, values).get


SCHEDULE_COLUMNS: Final = (
    "name, cron, timezone, job_name, data, queue, priority, max_attempts, timeout, tags, missed, enabled, source, "
    "created_by, created_at, updated_at, version, next_run, last_run, last_job, run_count, error, settled"
)
"""Of ``schedule``, in the order of ``schedule_writes.state_of``."""

SQL: Final = load(columns=COLUMNS, schedule_columns=SCHEDULE_COLUMNS)
"""SQLite's named statements."""
