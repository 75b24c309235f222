"""Moving a queue from a SQLite file, whose server has stopped, into an empty PostgreSQL database.

Everything is taken along: jobs with their data, results and logs, the event log and the counters, schedules with the
ticks that they have had, queues, tokens, sessions, idempotency keys. The log's numbers stay, but not its epoch: who
watched the file's server fetches anew.

It is many transactions, so that none is long. The first empties the database and marks it as unfinished, the last takes
the mark away: no server starts on half a copy. Between them each looks whether the mark is still of this copy. At the
end each table is read back, and compared by its number of rows and by SHA-256 over them in order.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec
import psycopg

from jobctl.errors import Conflict, DatabaseDamaged, NotADatabase, StartupError, StoreUnavailable
from jobctl.model import Wire
from jobctl.store.check import check, opened
from jobctl.store.copy_tables import TABLES, Table
from jobctl.store.epoch import fresh
from jobctl.store.lock import own
from jobctl.store.postgres_arrays import without_nul
from jobctl.store.postgres_epoch import epoch_of
from jobctl.store.postgres_link import SQL, Link, connect, without_password
from jobctl.store.postgres_migrate import migrate_on
from jobctl.store.postgres_settings import PostgresOptions
from jobctl.store.postgres_unfinished import UNFINISHED
from jobctl.store.queries import migrations
from jobctl.store.rows import SQL as SQLITE
from jobctl.store.rows import fetch, scalar

BATCH: Final = 5000
"""Rows of one transaction: at most 320 MB, were all of them as large as a job may be; in general a few."""
_encode: Final = msgspec.msgpack.Encoder().encode
Told = Callable[[str, int, int], None]
"""Hears the table, how many of its rows are done, and how many there are."""


class CopiedTable(Wire, frozen=True):
    """A table, the same in both. ``sha256``: over its rows, in the order of its key."""

    name: str
    rows: int
    sha256: str


class Copied(Wire, frozen=True):
    """What was copied. ``replaced``: texts with a NUL in them, which PostgreSQL does not take; it is U+2400 there."""

    source: str
    target: str
    source_epoch: str
    epoch: str
    seq: int
    tables: tuple[CopiedTable, ...]
    replaced: int
    seconds: float


def copy(source: Path, url: str, options: PostgresOptions, *, told: Told = lambda *_: None) -> Copied:
    """Copy all of ``source`` into the database ``url``, which must be empty, or be an unfinished copy.

    Args:
        source: The file of a server that has stopped, or a backup.
        url: ``postgresql://...``; its schema is made where there is none.
        options: How to connect.
        told: Hears how far it is.

    Raises:
        DatabaseInUse: a server owns ``source``.
        NotADatabase: ``source`` is damaged, not one of jobctl, or of another version.
        Conflict: ``source`` was not stopped in order; the target is not empty or in use, or is another copy's.
        DatabaseDamaged: what was read back is not what was written.
        StoreUnavailable: the target cannot be reached, or was lost on the way: it is marked as unfinished.
    """
    began = time.monotonic()
    source = source.resolve()
    with opened(source):  # else a lock would be made beside a file that is not there
        pass
    with own(source):
        _look_at(source)
        with opened(source) as original:
            link = connect(url, options, "copy")
            under_way = _Copy(original, link, told)
            try:
                return under_way.run(source, without_password(url), began)
            except psycopg.Error as error:
                line = " ".join(str(error).split())
                rest = begin_again(url) if under_way.begun else "nothing was copied"
                if isinstance(error, psycopg.OperationalError):
                    raise StoreUnavailable(f"the copy was broken off ({line}); {rest}") from error
                raise StartupError(f"the database does not take the copy: {line}; {rest}") from error
            finally:
                link.close()


def begin_again(url: str) -> str:
    """What is to be done about an unfinished copy."""
    return f"{without_password(url)} is marked as unfinished: no server starts on it, and the same command begins anew"


def _look_at(source: Path) -> None:
    """See whether it can be copied."""
    report = check(source)
    if report.problems:
        raise NotADatabase(f"{source} is damaged ({report.problems[0]}); see `jobctl db check {source}`")
    if report.schema < len(migrations()):
        raise NotADatabase(f"{source} was last used by an older jobctl; start this one on it, and stop it, first")
    with opened(source) as connection:
        if dict(fetch(connection, SQLITE["meta"])).get("clean") != "1":
            raise Conflict(
                f"the last server on {source} did not stop in order; start one on it and stop it: it ends what was "
                "left running"
            )


_AT_WORK: Final = "SELECT 1 FROM worker WHERE expires_at > extract(epoch FROM clock_timestamp()) * 1000 LIMIT 1"
_NEXT_PK: Final = """
SELECT setval(pg_get_serial_sequence('job', 'pk'), greatest(1, max(pk)), max(pk) IS NOT NULL) FROM job
"""
_TYPES: Final = """
SELECT attname, atttypid::regtype::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0
"""
_LIMITS: Final = """
SELECT set_config('statement_timeout', '0', true), set_config('synchronous_commit', $1, true)
"""


def _any(table: Table) -> str:
    """A row of it that a database in which nothing has been done has not."""
    only = " WHERE name <> 'default' OR paused <> 0" if table.name == "queue" else ""
    return f"SELECT 1 FROM {table.name}{only} LIMIT 1"  # noqa: S608 - names of ours


_NUL: Final = b"\\u0000"


def _as_in_the_table(body: bytes) -> bytes:
    """A job as an event tells of it, whose texts are now those of its row; its data may have a NUL as before."""
    job = msgspec.json.decode(body)
    if isinstance(job.get("error"), str):
        job["error"] = without_nul(job["error"])
    if isinstance(job.get("progress"), dict) and isinstance(job["progress"].get("message"), str):
        job["progress"]["message"] = without_nul(job["progress"]["message"])
    return msgspec.json.encode(job)


class _Copy:
    """One that is under way, with a mark of its own."""

    def __init__(self, original: apsw.Connection, link: Link, told: Told) -> None:
        self._original, self._link, self._raw, self._told = original, link, link.raw, told
        self._mark = fresh()
        self._replaced = 0
        self.begun = False
        """Whether the target may be marked as unfinished."""

    def run(self, source: Path, target: str, began: float) -> Copied:
        migrate_on(self._link)
        self._original.execute("BEGIN")
        source_epoch = str(dict(fetch(self._original, SQLITE["meta"]))["epoch"])
        seq = scalar(self._original, SQLITE["head"])
        self._begin(target)
        written = [self._write(table) for table in TABLES]
        self._settle(seq)
        for table, was in zip(TABLES, written, strict=True):
            self._compare(table, was)
        epoch = epoch_of(self._link)
        self._finish(f"{source_epoch}:{seq}")
        return Copied(
            source=str(source), target=target, source_epoch=source_epoch, epoch=epoch, seq=seq, tables=tuple(written),
            replaced=self._replaced, seconds=round(time.monotonic() - began, 1),
        )  # fmt: skip

    def _begin(self, target: str) -> None:
        """Empty the database, if there is nothing of worth in it, and mark it."""
        with self._transaction(ours=False):
            self._raw.execute("LOCK TABLE meta IN ACCESS EXCLUSIVE MODE")  # one at a time looks, and empties it
            meta = dict(self._rows("SELECT key, value FROM meta"))
            if self._rows(_AT_WORK):
                raise Conflict(f"servers are at work on {target}; stop them, or choose an empty database")
            if UNFINISHED not in meta:
                full = [each.name for each in TABLES if self._rows(_any(each))]
                if full:
                    raise Conflict(f"{target} is not empty: there are rows in {', '.join(full)}; choose another")
            self._raw.execute(f"TRUNCATE {', '.join(each.name for each in TABLES)}, meta, note, worker")
            self._raw.execute(SQL["set_meta"], (UNFINISHED, self._mark))
            self.begun = True

    def _write(self, table: Table) -> CopiedTable:
        total, done, digest = scalar(self._original, table.total), 0, hashlib.sha256()
        types = self._types(table)
        rows = self._read(table, types)
        self._told(table.name, 0, total)
        for first in rows:
            with self._transaction(), self._raw.cursor().copy(table.write) as copying:
                copying.set_types(types)
                for row in islice(chain((first,), rows), BATCH):
                    digest.update(_encode(row))
                    copying.write_row(row)
                    done += 1
            self._told(table.name, done, total)
        return CopiedTable(table.name, done, digest.hexdigest())

    def _read(self, table: Table, types: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        texts = [place for place, each in enumerate(types) if each == "text"]
        body = table.columns.index("body") if table.name == "job_event" else None
        for row in self._original.execute(table.read):
            if any(row[place] is not None and "\0" in row[place] for place in texts):
                self._replaced += 1
                yield tuple(without_nul(each) if isinstance(each, str) else each for each in row)
            elif body is not None and _NUL in row[body]:
                yield (*row[:body], _as_in_the_table(row[body]), *row[body + 1 :])
            else:
                yield row

    def _types(self, table: Table) -> list[str]:
        found = dict(self._rows(_TYPES, table.name))
        return [found[each] for each in table.columns]

    def _settle(self, seq: int) -> None:
        """The rows that stand for what SQLite knows otherwise; then let the planner know how much there is."""
        with self._transaction():
            self._raw.execute(
                "UPDATE log SET folded = $1, cut = coalesce((SELECT min(seq) - 1 FROM job_event), $1)", (seq,)
            )
            self._raw.execute("UPDATE leader SET worker = '', term = term + 1, expires_at = 0")
            self._raw.execute(_NEXT_PK)
        for table in TABLES:
            self._told(f"{table.name}: analyze", 0, 0)
            with self._transaction():
                self._raw.execute(f"ANALYZE {table.name}")

    def _compare(self, table: Table, was: CopiedTable) -> None:
        digest, rows, types = hashlib.sha256(), 0, self._types(table)
        with self._transaction(), self._raw.cursor().copy(table.read_back) as reading:
            reading.set_types(types)
            for row in reading.rows():
                digest.update(_encode(row))
                rows += 1
                if rows % BATCH == 0:
                    self._told(f"{table.name}: compare", rows, was.rows)
        if (rows, digest.hexdigest()) != (was.rows, was.sha256):
            raise DatabaseDamaged(
                f"{table.name} is not as it was written: {was.rows} rows with SHA-256 {was.sha256}, but {rows} with "
                f"{digest.hexdigest()} were read; the target stays marked as unfinished"
            )

    def _finish(self, copied_from: str) -> None:
        with self._transaction(lasting=True):
            self._raw.execute(SQL["set_meta"], ("copied_from", copied_from))
            self._raw.execute("DELETE FROM meta WHERE key = $1", (UNFINISHED,))

    @contextlib.contextmanager
    def _transaction(self, *, ours: bool = True, lasting: bool = False) -> Iterator[None]:
        """One without a limit of time, in which the database is still ours.

        Only the last is ``lasting``: it is synced, and all before it with it.
        """
        with self._raw.transaction():
            self._raw.execute(_LIMITS, ("on" if lasting else "off",))
            if ours and self._rows("SELECT value FROM meta WHERE key = $1 FOR SHARE", UNFINISHED) != [(self._mark,)]:
                raise Conflict("another copy into this database has begun; this one ends")
            yield

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._raw.execute(sql.encode(), values).fetchall()
