"""PostgreSQL as the committer's thread sees it, and as a read does.

**One order of events.** A sequence would number events in the order in which they are made, but a transaction with a
later number may be committed first, and a reader that has gone on never sees the earlier one. So numbers are given out
last: the transaction takes an advisory lock, appends its events at the numbers that follow the head, and commits, all
sent in one message, so that nobody can hold the lock while it is frozen or slow to answer. The lock is let go of when
the commit is done. So numbers have no gap (one that is rolled back has used none), they follow the order of commits,
and whoever sees number n sees all before it.

It costs that commits follow one another: each process has one transaction at a time, whose group grows with the load,
so that it is the rate of commits that is bounded (``bench/cluster.py`` measures it), not that of jobs.

**A COMMIT without an answer.** When the connection is lost after COMMIT was sent, another connection is asked whether
the transaction, by its number, is still going on, and when it is not, whether what it wrote is there. Its number alone
does not tell: a crash takes back numbers of transactions that had come to nothing, and gives them to others.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg

from jobctl.errors import StoreUnavailable
from jobctl.events import Commit
from jobctl.store.committer import Again
from jobctl.store.postgres_behind import Memory
from jobctl.store.postgres_link import JOB_COLUMNS, SQL, Link, NoConnection, Result, Statement
from jobctl.store.postgres_tail import Tail
from jobctl.store.postgres_transaction import PostgresTx

log = logging.getLogger("jobctl.store")

OUTCOME_S: Final = 30.0
"""How long an unknown outcome is asked for, while the database cannot be reached, before its callers are told so."""
ASK_EVERY_S: Final = 0.1


class PostgresWriter:
    """A ``committer.Writer``.

    Args:
        connect: Makes a connection to write on; raises StoreUnavailable.
        lock: The second half of the log's advisory lock: many stores may share a database.
        tail: Where this process has got to in what all processes commit.
        clock: ms since the epoch.
    """

    fatal: tuple[type[Exception], ...] = (
        psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError, StoreUnavailable,
    )  # fmt: skip

    def __init__(self, connect: Callable[[], Link], *, lock: int, tail: Tail, clock: Callable[[], int]) -> None:
        self._connect, self._lock, self._tail, self._clock = connect, lock, tail, clock
        self.memory = Memory()
        self._link: Link | None = None
        self._tx: PostgresTx | None = None
        self._own: tuple[PostgresTx, int, int | None] | None = None
        self._written = 0

    def begin_on(self, link: Link) -> None:
        """Take a connection that is there already."""
        self._link = link

    @property
    def in_transaction(self) -> bool:
        return self._tx is not None and (not self._tx.begun or (self._link is not None and self._link.in_transaction))

    def begin(self, *, guarded: bool) -> PostgresTx:
        if self._link is None or self._link.broken:
            self.memory.doubt()
            self._link = self._reconnect()
        self._tx = PostgresTx(self._link, self.memory, self._clock(), guarded=guarded)
        return self._tx

    def savepoint(self) -> None:
        self._open.send(("SAVEPOINT op", ()))

    def settle(self) -> None:
        self._open.flush()
        self._open.send(("RELEASE op", ()))

    def undo(self) -> None:
        self._open.send(("ROLLBACK TO op", ()), ("RELEASE op", ()))
        self._open.undone()

    def _reconnect(self) -> Link:
        """A new connection. Of none, callers are not told where the database is; the heartbeat logs it."""
        try:
            return self._connect()
        except NoConnection as error:
            raise StoreUnavailable("the database cannot be reached now; nothing was kept") from error

    @property
    def _open(self) -> PostgresTx:
        assert self._tx is not None  # noqa: S101 - there was a begin
        return self._tx

    def commit(self) -> Commit:
        tx = self._open
        tx.flush()
        tx.lock_last()
        closing = tx.closing(self._lock)
        self._own = None
        if closing:
            base, n = self._append(tx, closing)
            self._own = tx, base, n
        elif tx.begun:
            self._finish(tx)
        self._written += tx.written + bool(closing)
        self.memory.known = tx.known
        self._tx = None
        return Commit() if self._own is None else tx.told(base)

    def _append(self, tx: PostgresTx, closing: list[Any]) -> tuple[int, int | None]:
        try:
            *_, ((base, n),), _ = [rows for rows, _ in self._end(tx, closing)]
        except _Committed:
            return -1, None
        return base, n

    def _finish(self, tx: PostgresTx) -> None:
        try:
            self._end(tx, [])
        except _Committed:
            log.debug("a commit was confirmed")

    def _end(self, tx: PostgresTx, statements: list[Any]) -> list[Any]:
        if not tx.begun:
            tx.send()
        link = tx.link
        try:
            return link.execute_all([*statements, ("COMMIT", ())])
        except psycopg.Error as error:
            if not link.broken:
                raise tx.judged(error) from error
            if not statements or self._was_committed(tx, error):
                raise _Committed from error
            raise Again("the connection was lost before it was committed", guarded=tx.guarded) from error

    def _was_committed(self, tx: PostgresTx, error: Exception) -> bool:
        """Whether ``tx`` was; asked until the database says so."""
        why = " ".join(str(error).split())
        log.warning("the connection was lost at a COMMIT (%s); asking what has become of it", why)
        until = time.monotonic() + OUTCOME_S
        while True:
            try:
                if self._link is None or self._link.broken:
                    self._link = self._reconnect()
                status = self._status(self._link, tx.xid)
                if status != "in progress":
                    (((found,),), _) = self._link.execute(*tx.receipt())
                    log.info("it was %s", "committed" if found else "not committed")
                    return bool(found)
            except (psycopg.Error, StoreUnavailable) as again:
                log.debug("not known yet: %s", again)
            if time.monotonic() >= until:
                raise StoreUnavailable("the database is gone; whether the write was kept is not known") from error
            time.sleep(ASK_EVERY_S)

    def _status(self, link: Link, xid: str | None) -> str | None:
        try:
            return str(link.execute(SQL["xact_status"], (xid,))[0][0][0])
        except psycopg.errors.InvalidParameterValue:  # in the future: the crash took even its number back
            return None

    def roll_back(self) -> None:
        self.memory.doubt()
        self._own = self._tx = None
        if self._link is not None:
            self._link.roll_back()

    def committed(self) -> None:
        """Nothing is left to do."""

    def idle(self) -> None:
        """Nothing is put off."""

    def changes(self) -> int:
        return self._written

    def probe(self) -> None:
        if self._link is None or self._link.broken:
            self._link = self._reconnect()
        self._link.execute(SQL["probe"])

    def hand_over(self, commit: Commit | None, give: Callable[[Sequence[Commit]], None]) -> None:
        own, self._own = self._own, None
        if commit is None or own is None:
            give(() if commit is None else (commit,))
            return
        _, base, n = own
        self._tail.hand_over(commit, base, n, self._ask, give)

    def _ask(self, *statements: Statement) -> list[Result]:
        if self._link is None or self._link.broken:
            self._link = self._reconnect()
        return self._link.ask(*statements)

    def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.close()


class _Committed(Exception):
    """The COMMIT without an answer had gone well."""


class PostgresSnapshot:
    """A ``queries.Snapshot``: a connection inside a read transaction, which is opened with the first statement."""

    columns = JOB_COLUMNS
    has_tag = "EXISTS (SELECT 1 FROM json_array_elements_text(tags::json) AS t (tag) WHERE tag IN ({}))"
    finds = "(strpos(lower(name), ?) > 0 OR strpos(id, ?) > 0 OR strpos(tags_folded, ?) > 0)"

    def __init__(self, link: Link) -> None:
        self._link = link
        self._begun = False

    def one(self, name: str, *values: Any) -> Any:
        rows = self.all(name, *values)
        return rows[0] if rows else None

    def all(self, name: str, *values: Any) -> list[Any]:
        return self._send(SQL[name], values)

    def select(self, sql: str, values: Sequence[Any]) -> list[Any]:
        parts = sql.split("?")
        numbered = "".join(f"{part}${i}" for i, part in enumerate(parts[:-1], 1)) + parts[-1]
        return self._send(numbered, values)

    def _send(self, sql: str, values: Sequence[Any]) -> list[Any]:
        opening = [] if self._begun else self._link.begin(read_only=True)
        self._begun = True
        return self._link.execute_all([*opening, (sql, values)])[-1][0]

    def close(self) -> int:
        """End it; the newest number of the log at its moment."""
        opening = [] if self._begun else self._link.begin(read_only=True)
        results = self._link.execute_all([*opening, (SQL["head"], ()), ("COMMIT", ())])
        return int(results[-2][0][0][0])
