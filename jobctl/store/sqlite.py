"""The SQLite store: one file, one owner, one writer thread, readers beside it."""

import contextlib
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import trio

from jobctl.errors import NotADatabase, StartupError, StoreUnavailable
from jobctl.metrics import Metrics
from jobctl.model import Position
from jobctl.store import epoch as epochs
from jobctl.store import reads, sqlite_claims
from jobctl.store.aside import SHARED_MEMORY, WAL, has_foreign_log, move_away
from jobctl.store.base import Read
from jobctl.store.committer import Committer, now_ms
from jobctl.store.lock import own
from jobctl.store.place import Place
from jobctl.store.queries import migrations
from jobctl.store.rows import SQL, fetch, scalar
from jobctl.store.sql_store import SqlStore
from jobctl.store.sqlite_transaction import SqliteTx, WriterState
from jobctl.store.sqlite_workers import SqliteWorkers
from jobctl.store.sqlite_writer import SqliteSnapshot, SqliteWriter

T = TypeVar("T")
log = logging.getLogger("jobctl.store")

APPLICATION_ID: Final = 0x6A6F6263  # "jobc": tells our files from other SQLite databases
READERS: Final = 4
"""Read connections: on few cores more only wait for each other."""
BUSY_MS: Final = 5000
"""How long a lock of another program (a backup, a shell) is waited for."""
MARK_EVERY_S: Final = 1.0


class SqliteStore(SqlStore):
    """A ``Store`` in one SQLite file. Made by ``open_store``."""

    def __init__(self, path: Path, connection: apsw.Connection, mark: Path, epoch: str, boot: str) -> None:
        self.path = path
        self.epoch = epoch
        self._connection = connection
        self._place = Place(path)
        self._mark = mark
        self._boot = boot
        self._marked = 0.0
        self._state = WriterState(connection)
        self._readers: list[apsw.Connection] = []  # those not in use
        self._closed = False
        self._closing = trio.Lock()
        self._limiter = trio.CapacityLimiter(READERS)
        self.clock: Callable[[], int] = now_ms
        self.writer = SqliteWriter(
            connection,
            self._state,
            begin=lambda: SqliteTx(self._state, self.clock()),
            committed=self._after_commit,
            idle=self._write_mark,
            guard=self._place.check,
        )
        self.committer = Committer(self.writer, deliver=self._deliver)
        super().__init__()
        self.workers = SqliteWorkers(lambda: self.clock())

    _claims = staticmethod(sqlite_claims.claim)
    _knows = staticmethod(sqlite_claims.set_known)

    @property
    def trouble(self) -> str | None:
        """Why writes fail at present."""
        return self.committer.trouble

    async def _submit(self, function: Callable[[Any], T]) -> T:
        return await self.committer.submit(function)

    async def _stand_by(self, function: Callable[[Any], T | None]) -> T | None:
        return await self.committer.stand_by(function)

    def _after_commit(self) -> None:
        if time.monotonic() - self._marked >= MARK_EVERY_S:
            self._write_mark()

    def _write_mark(self) -> None:
        self._marked = time.monotonic()
        try:
            epochs.write_mark(self._mark, epochs.Mark(self.epoch, self._boot, self._state.seq))
        except StartupError as error:
            log.warning("%s", error)

    # --- reads ---------------------------------------------------------------------------------------------------

    async def _read(self, function: Callable[..., T], *arguments: Any) -> Read[T]:
        return await trio.to_thread.run_sync(partial(self._read_in_thread, function, arguments), limiter=self._limiter)

    def _read_in_thread(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> Read[T]:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            connection = self._reader()
            try:
                value, seq = _in_snapshot(connection, function, arguments)
            finally:
                self._give_back(connection)
        except apsw.Error as error:
            log.error("a read failed: %s", error)
            raise StoreUnavailable("the database cannot be read now") from error
        return Read(value, Position(self.epoch, seq))

    def _reader(self) -> apsw.Connection:
        try:
            return self._readers.pop()
        except IndexError:
            self._place.check()
            return _open_reader(self.path)

    def _give_back(self, reader: apsw.Connection) -> None:
        # One that is in a transaction still has met an error, and nobody may meet it again.
        if self._closed or reader.in_transaction:
            reader.close()
        else:
            self._readers.append(reader)

    # --- the end -------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Write what waits, put the log into the file, and say that the stop was clean."""
        with trio.CancelScope(shield=True):  # no deadline would help: a thread that writes cannot be cancelled
            async with self._closing:
                if not self._closed:
                    await self.committer.stop()
                    await trio.to_thread.run_sync(self._close)

    def _close(self) -> None:
        self._closed = True
        while self._readers:
            self._readers.pop().close()
        try:
            self._write_mark()
            self._connection.execute(SQL["set_meta"], ("clean", "1"))
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._connection.set_busy_timeout(0)
            with contextlib.suppress(apsw.BusyError):  # another program reads it; then the log stays
                self._connection.pragma("synchronous", 2)
                self._connection.pragma("journal_mode", "delete")  # see aside.py
        except apsw.Error as error:
            log.warning("the stop is not clean: %s", error)
        finally:
            self._connection.close()


@contextlib.asynccontextmanager
async def open_store(
    path: Path, *, state_dir: Path, durability: str = "full", metrics: Metrics | None = None
) -> AsyncIterator[SqliteStore]:
    """Own the database file (made if it is not there) until the block ends.

    Args:
        path: The file; ``-wal``, ``-shm`` and ``.lock`` stand beside it.
        state_dir: Where the high-water mark is kept; not the database's folder, so that a restore does not bring
            back an old mark with an old file.
        durability: ``full``: every commit is synced; ``normal``: a power cut may lose the last ones.
        metrics: Where commits are counted.

    Raises:
        DatabaseInUse: another server owns it.
        NotADatabase: the file is something else.
        StartupError: the file or its folder cannot be used.
    """
    path = Path(await trio.Path(path).resolve())  # two names of one file must not have two locks
    with own(path):
        store = await trio.to_thread.run_sync(partial(_open, path, state_dir, durability))
        if metrics is not None:
            store.committer.metrics = metrics
        store.committer.start()
        try:
            yield store
        finally:
            await store.close()


def _open(path: Path, state_dir: Path, durability: str) -> SqliteStore:
    with contextlib.suppress(OSError):  # of our own making, it is for its owner alone; -wal and -shm get the same mode
        path.touch(mode=0o600, exist_ok=False)
    try:
        if has_foreign_log(path):
            away = move_away(path, WAL, SHARED_MEMORY)
            log.warning("the log beside %s is that of another database; it is now %s%s", path, away, WAL)
    except OSError as error:
        raise StartupError(f"cannot open the database {path}: {error.strerror}") from None
    try:
        connection = apsw.Connection(str(path))
    except apsw.Error as error:
        raise StartupError(f"cannot open the database {path}: {error}") from None
    try:
        return _start(connection, path, state_dir, durability)
    except BaseException as error:
        connection.close()
        if isinstance(error, apsw.NotADBError):
            raise NotADatabase(f"{path} is not a database; choose another file with --db") from None
        if isinstance(error, apsw.BusyError):
            raise StartupError(f"another program uses {path} at the moment; start again when it has ended") from None
        if isinstance(error, apsw.Error):
            raise StartupError(f"cannot use the database {path}: {error}") from None
        raise


def _start(connection: apsw.Connection, path: Path, state_dir: Path, durability: str) -> SqliteStore:
    _prepare(connection, path)
    meta: dict[str, str] = dict(fetch(connection, SQL["meta"]))
    mark = epochs.mark_path(state_dir, path)
    seq = scalar(connection, SQL["head"])
    kept = epochs.continues(meta, epochs.read_mark(mark), seq)
    epoch = meta["epoch"] if kept else epochs.fresh()
    if not kept and "epoch" in meta:
        log.warning("the event log may not continue what clients have seen: a new epoch begins")
    boot = epochs.fresh()
    epochs.write_mark(mark, epochs.Mark(epoch, meta.get("boot", ""), seq, coming=boot))
    with connection:
        for item in (("epoch", epoch), ("boot", boot), ("clean", "0"), ("durability", durability)):
            connection.execute(SQL["set_meta"], item)
    connection.pragma("synchronous", 2 if durability == "full" else 1)
    epochs.write_mark(mark, epochs.Mark(epoch, boot, seq))
    return SqliteStore(path, connection, mark, epoch, boot)


def _prepare(connection: apsw.Connection, path: Path) -> None:
    connection.set_busy_timeout(BUSY_MS)
    ours = connection.pragma("application_id") == APPLICATION_ID
    empty = not scalar(connection, "SELECT count(*) FROM sqlite_schema")
    if not ours and not empty:
        raise NotADatabase(f"{path} is a database, but not one of jobctl; choose another file with --db")
    if connection.readonly("main"):
        raise StartupError(f"cannot write the database {path}: no permission")
    connection.pragma("synchronous", 3)  # the journal of this change is gone for good before there is a log
    if connection.pragma("journal_mode", "wal") != "wal":
        raise StartupError(f"{path}: this file system has no shared memory for SQLite's WAL; use a local disk")
    connection.pragma("synchronous", 2)
    connection.pragma("foreign_keys", 1)
    for name in _durable_pragmas(sys.platform):
        connection.pragma(name, 1)
    _migrate(connection, path)


def _durable_pragmas(platform: str) -> tuple[str, ...]:
    """What it takes beyond fsync: on macOS that leaves data in the drive's cache, F_FULLFSYNC does not."""
    return ("fullfsync", "checkpoint_fullfsync") if platform == "darwin" else ()


def _migrate(connection: apsw.Connection, path: Path) -> None:
    """Bring the file to this version: ``sql/NNNN_*.sql`` in order, each with its version row in one transaction."""
    steps = migrations()
    version = int(connection.pragma("user_version") or 0)
    if version > len(steps):
        raise NotADatabase(f"{path} was written by a newer jobctl (schema {version}); update jobctl")
    for number, (_, step) in enumerate(steps[version:], version + 1):
        with connection:
            connection.execute(step)
            connection.pragma("user_version", number)
            connection.pragma("application_id", APPLICATION_ID)


def _open_reader(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(BUSY_MS)
    connection.pragma("query_only", 1)
    return connection


def _in_snapshot(connection: apsw.Connection, function: Callable[..., T], arguments: tuple[Any, ...]) -> tuple[T, int]:
    snapshot = SqliteSnapshot(connection)
    connection.execute("BEGIN")
    try:
        return function(snapshot, *arguments), reads.head(snapshot)
    finally:
        if connection.in_transaction:  # some errors have ended it
            connection.execute("ROLLBACK")
