"""SQLite as the committer's thread sees it, and as a read does."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw

from jobctl.events import Commit
from jobctl.store.rows import COLUMNS, SQL, fetch, fetch_one
from jobctl.store.sqlite_transaction import SqliteTx, WriterState

log = logging.getLogger("jobctl.store")

_FATAL: Final[tuple[type[Exception], ...]] = (
    apsw.FullError,
    apsw.IOError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.NoMemError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.ProtocolError,
)


class SqliteWriter:
    """A ``committer.Writer``.

    Args:
        connection: The writing connection.
        state: What is remembered between groups.
        begin: Makes the transaction object of a group; the database's transaction is open already.
        committed: Called after each COMMIT.
        idle: Called once nothing has come for a second after a commit.
        guard: Called right before each COMMIT; raises where that would keep nothing.
    """

    fatal = _FATAL

    def __init__(
        self,
        connection: apsw.Connection,
        state: WriterState,
        *,
        begin: Callable[[], SqliteTx],
        committed: Callable[[], None],
        idle: Callable[[], None],
        guard: Callable[[], None],
    ) -> None:
        self._connection, self._state, self._begin, self._guard = connection, state, begin, guard
        self.committed = committed
        self.idle = idle
        self._tx: SqliteTx | None = None

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def begin(self, *, guarded: bool) -> SqliteTx:  # noqa: ARG002 - a savepoint needs nothing beforehand
        self._connection.execute("BEGIN IMMEDIATE")
        self._tx = self._begin()
        return self._tx

    def savepoint(self) -> None:
        self._connection.execute("SAVEPOINT op")

    def settle(self) -> None:
        self._connection.execute("RELEASE op")

    def undo(self) -> None:
        self._connection.execute("ROLLBACK TO op")
        self._connection.execute("RELEASE op")

    def commit(self) -> Commit:
        assert self._tx is not None  # noqa: S101 - there was a BEGIN
        commit = self._tx.flush()
        self._guard()
        self._connection.execute("COMMIT")
        self._tx.committed()
        return commit

    def roll_back(self) -> None:
        self._state.doubt()
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error:
            log.exception("cannot roll back")

    def changes(self) -> int:
        return self._connection.total_changes()

    def probe(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(SQL["probe"])
        self._guard()
        self._connection.execute("COMMIT")

    def hand_over(self, commit: Commit | None, give: Callable[[Sequence[Commit]], None]) -> None:
        give(() if commit is None else (commit,))  # nobody else writes: there is nothing to wait for


class SqliteSnapshot:
    """A ``queries.Snapshot``: a connection inside a read transaction."""

    columns = COLUMNS
    has_tag = "EXISTS (SELECT 1 FROM json_each(tags) WHERE value IN ({}))"
    finds = "(instr(lower(name), ?) OR instr(id, ?) OR instr(tags_folded, ?))"

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection

    def one(self, name: str, *values: Any) -> Any:
        return fetch_one(self.connection, SQL[name], *values)

    def all(self, name: str, *values: Any) -> list[Any]:
        return fetch(self.connection, SQL[name], *values)

    def select(self, sql: str, values: Sequence[Any]) -> list[Any]:
        return fetch(self.connection, sql, *values)
