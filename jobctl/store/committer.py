"""One writer thread and group commit.

Callers hand over a closure and wait. The thread takes all that wait, runs them in one transaction, commits once
(one fsync for all of them) and wakes the callers. While it commits, the next group gathers, so that the group grows
with the load by itself. A closure that raises is rolled back alone; an error of the disk fails the whole group, and
nobody of it is told otherwise.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import apsw
import outcome
import trio

from jobctl.errors import StoreUnavailable
from jobctl.events import Commit

T = TypeVar("T")
log = logging.getLogger("jobctl.store")

MAX_GROUP: Final = 1000
"""Closures in one transaction: enough to spread an fsync thin, few enough to bound everybody's wait."""

IDLE_AFTER_S: Final = 1.0

_FATAL: Final = (
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
"""Errors that are not the closure's own fault: the whole group is rolled back."""


class Transaction(Protocol):
    """What closures work on; one lives for one group."""

    def mark(self) -> Any:
        """A point to come back to."""

    def back_to(self, mark: Any) -> None:
        """Forget what was noted since ``mark`` (the database itself is rolled back by the committer)."""

    def flush(self) -> Commit:
        """Write what was gathered; called once, right before COMMIT."""


class _Op:
    __slots__ = ("function", "result", "task")

    def __init__(self, function: Callable[[Any], Any], task: trio.lowlevel.Task) -> None:
        self.function = function
        self.task = task
        self.result: outcome.Outcome[Any]


class Committer:
    """Runs closures on the writer thread.

    Args:
        connection: The writing connection; used by the thread alone from ``start`` to ``stop``.
        begin: Makes the transaction object of a group.
        rolled_back: Called on the thread after anything was rolled back.
        committed: Called on the thread after each COMMIT.
        idle: Called on the thread once it has had nothing to do for a second after a commit.
        deliver: Called on the trio thread with what a transaction changed, before its callers are woken.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        begin: Callable[[], Transaction],
        rolled_back: Callable[[], None],
        committed: Callable[[], None],
        idle: Callable[[], None],
        deliver: Callable[[Commit], None],
    ) -> None:
        self._connection = connection
        self._begin = begin
        self._rolled_back = rolled_back
        self._committed = committed
        self._idle = idle
        self._deliver = deliver
        # Unbounded, yet bounded by its callers: each waits for its own closure before it hands over another.
        self._queue: queue.SimpleQueue[_Op | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="jobctl-writer", daemon=True)
        self._token: trio.lowlevel.TrioToken | None = None
        self._stopped = False
        self.trouble: str | None = None
        self.groups = 0
        self.operations = 0

    def start(self) -> None:
        """Start the thread; from a trio task."""
        self._token = trio.lowlevel.current_trio_token()
        self._thread.start()

    async def stop(self) -> None:
        """Finish what waits, then end the thread. Later submissions raise ``StoreUnavailable``."""
        self._stopped = True
        self._queue.put(None)
        await trio.to_thread.run_sync(self._thread.join)

    async def submit(self, function: Callable[[Any], T]) -> T:
        """Run ``function(transaction)`` on the writer thread and return its value once it is committed.

        Not cancellable: a write that has been handed over is in an unknown state until it is answered.

        Raises:
            StoreUnavailable: the database refused; nothing was kept.
        """
        if self._stopped:
            raise StoreUnavailable("the store is closed")
        await trio.lowlevel.checkpoint_if_cancelled()
        self._queue.put(_Op(function, trio.lowlevel.current_task()))
        value: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return value

    # --- the thread ----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        idle_due = False
        while True:
            try:
                first = self._queue.get(timeout=IDLE_AFTER_S if idle_due else None)
            except queue.Empty:
                idle_due = False
                self._idle()
                continue
            group: list[_Op] = []
            last = first is None
            if first is not None:
                group.append(first)
            while len(group) < MAX_GROUP:
                try:
                    op = self._queue.get_nowait()
                except queue.Empty:
                    break
                if op is None:
                    last = True
                    break
                group.append(op)
            if group:
                self._run(group)
                idle_due = True
            if last:
                return

    def _run(self, group: list[_Op]) -> None:
        try:
            commit = self._transact(group)
            self.trouble = None
        except apsw.Error as error:
            commit = Commit()
            self.trouble = f"{type(error).__name__.removesuffix('Error')}: {error}"
            log.error("a transaction of %d writes failed: %s", len(group), self.trouble)
            self._fail(group, error)
        except BaseException as error:  # a bug of ours: the callers must hear of it, and the thread must live
            commit = Commit()
            log.exception("the writer failed")
            self._fail(group, error)
        self.groups += 1
        self.operations += len(group)
        try:
            assert self._token is not None
            self._token.run_sync_soon(self._wake, commit, group)
        except trio.RunFinishedError:
            log.debug("nobody waits any more for %d writes", len(group))

    def _fail(self, group: list[_Op], error: BaseException) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error:
            log.exception("cannot roll back")
        try:
            self._rolled_back()
        except apsw.Error:
            log.exception("cannot read the state after a rollback")
        for op in group:
            told = StoreUnavailable("the database cannot take writes now; nothing was kept")
            told.__cause__ = error
            op.result = outcome.Error(told)

    def _transact(self, group: list[_Op]) -> Commit:
        execute = self._connection.execute
        alone = len(group) == 1
        execute("BEGIN IMMEDIATE")
        transaction = self._begin()
        for op in group:
            mark = None
            if not alone:
                mark = transaction.mark()
                execute("SAVEPOINT op")
            try:
                op.result = outcome.Value(op.function(transaction))
            except _FATAL:
                raise
            except Exception as error:
                op.result = outcome.Error(error)
                if not self._connection.in_transaction:
                    raise apsw.IOError(f"the transaction is gone: {error}") from error
                if alone:
                    execute("ROLLBACK")
                    self._rolled_back()
                    return Commit()
                execute("ROLLBACK TO op")
                transaction.back_to(mark)
                self._rolled_back()
            if not alone:
                execute("RELEASE op")
        commit = transaction.flush()
        execute("COMMIT")
        self._committed()
        return commit

    # --- the trio thread -----------------------------------------------------------------------------------------

    def _wake(self, commit: Commit, group: list[_Op]) -> None:
        try:
            self._deliver(commit)
        finally:
            for op in group:
                trio.lowlevel.reschedule(op.task, op.result)


def now_ms() -> int:
    """The wall clock, ms since the epoch."""
    return time.time_ns() // 1_000_000
