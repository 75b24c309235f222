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
from jobctl.metrics import Metrics

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

    def wrote_since(self, mark: Any) -> bool:
        """Whether anything has reached the database since ``mark``."""

    def back_to(self, mark: Any) -> None:
        """Forget what was noted since ``mark`` (the database itself is rolled back by the committer)."""

    def flush(self) -> Commit:
        """Write what was gathered; called once, right before COMMIT."""

    def committed(self) -> None:
        """Called once, right after COMMIT."""


class _Again(Exception):
    """A closure raised after it had written, and there was no savepoint to go back to."""


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
        begin: Makes the transaction object of a group; the database's transaction is open already.
        rolled_back: Called on the thread after a whole transaction was rolled back; must not fail.
        committed: Called on the thread after each COMMIT.
        idle: Called on the thread once it has had nothing to do for a second after a commit.
        probe: A statement that writes, to find out whether the database can be written again.
        guard: Called on the thread right before each COMMIT; raises where that would keep nothing.
        deliver: Called on the trio thread with what a transaction changed, before its callers are woken.
        metrics: Where commits are counted.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        begin: Callable[[], Transaction],
        rolled_back: Callable[[], None],
        committed: Callable[[], None],
        idle: Callable[[], None],
        probe: str,
        deliver: Callable[[Commit], None],
        guard: Callable[[], None] = lambda: None,
        metrics: Metrics | None = None,
    ) -> None:
        self._connection = connection
        self._begin = begin
        self._rolled_back = rolled_back
        self._committed = committed
        self._idle = idle
        self._probe_sql = probe
        self._deliver = deliver
        self._guard = guard
        self.metrics = metrics or Metrics()
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

        It may be run twice: when another one of its group raised after it had written, the group starts over.

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
                first = self._queue.get(timeout=IDLE_AFTER_S if idle_due or self.trouble else None)
            except queue.Empty:
                idle_due = False
                self._call(self._idle)
                if self.trouble:
                    self._probe()
                continue
            group: list[_Op] = []
            last = first is None
            if first is not None:
                group.append(first)
            while len(group) < MAX_GROUP and not last:
                try:
                    op = self._queue.get_nowait()
                except queue.Empty:
                    break
                if op is None:
                    last = True
                else:
                    group.append(op)
            if group:
                self._run(group)
                idle_due = True
            if last:
                return

    def _run(self, group: list[_Op]) -> None:
        commit: Commit | None = None
        began = time.perf_counter()
        try:
            changes = self._connection.total_changes()
            commit = self._transact(group)
        except BaseException as error:  # noqa: BLE001 - whatever it is: the callers must hear of it, and the thread must live
            self.metrics.commit_failures += 1
            self._note_trouble(error, len(group))
            self._roll_back()
            for op in group:
                told = StoreUnavailable("the database cannot take writes now; nothing was kept")
                told.__cause__ = error
                op.result = outcome.Error(told)
        else:
            self.metrics.commit_seconds.observe(time.perf_counter() - began)
            self.metrics.commit_writes.observe(len(group))
            if self.trouble and self._connection.total_changes() != changes:  # reading alone proves nothing
                self.trouble = None
            self._call(self._committed)
        self.groups += 1
        self.operations += len(group)
        try:
            assert self._token is not None  # noqa: S101 - set by start
            self._token.run_sync_soon(self._wake, commit, group)
        except trio.RunFinishedError:
            log.debug("nobody waits any more for %d writes", len(group))

    def _transact(self, group: list[_Op]) -> Commit:
        try:
            return self._attempt(group, guarded=False)
        except _Again:
            return self._attempt(group, guarded=True)

    def _attempt(self, group: list[_Op], *, guarded: bool) -> Commit:
        """Run the group in one transaction; ``guarded``: each closure in a savepoint of its own.

        Nearly all that raise do so before they write, and there is nothing to undo. So savepoints, a fifth of what
        a small write costs, are left out until one is needed.
        """
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        transaction = self._begin()
        for op in group:
            mark = transaction.mark()
            if guarded:
                execute("SAVEPOINT op")
            try:
                op.result = outcome.Value(op.function(transaction))
            except _FATAL:
                raise
            except Exception as error:
                op.result = outcome.Error(error)
                if not self._connection.in_transaction:
                    raise apsw.IOError(f"the transaction is gone: {error}") from error
                if guarded:
                    execute("ROLLBACK TO op")
                elif transaction.wrote_since(mark):
                    self._roll_back()
                    raise _Again from None
                transaction.back_to(mark)
            if guarded:
                execute("RELEASE op")
        commit = transaction.flush()
        self._guard()
        execute("COMMIT")
        transaction.committed()
        return commit

    def _roll_back(self) -> None:
        self._rolled_back()
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error:
            log.exception("cannot roll back")

    def _note_trouble(self, error: BaseException, writes: int) -> None:
        trouble = f"{type(error).__name__.removesuffix('Error')}: {error}"
        if trouble != self.trouble:  # a full disk fails every write: one line is enough
            log.error("a transaction of %d writes failed: %s", writes, trouble, exc_info=not isinstance(error, _FATAL))
        self.trouble = trouble

    def _probe(self) -> None:
        """Nobody may be writing because writes fail; see by ourselves whether they go well again."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(self._probe_sql)
            self._guard()
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            self._note_trouble(error, 1)
            self._roll_back()
        else:
            self.trouble = None

    def _call(self, hook: Callable[[], None]) -> None:
        try:
            hook()
        except Exception:  # what is committed is committed, and the thread must live
            log.exception("a hook of the writer failed")

    # --- the trio thread -----------------------------------------------------------------------------------------

    def _wake(self, commit: Commit | None, group: list[_Op]) -> None:
        try:
            if commit is not None:
                self._deliver(commit)
        finally:
            for op in group:
                trio.lowlevel.reschedule(op.task, op.result)


def now_ms() -> int:
    """The wall clock, ms since the epoch."""
    return time.time_ns() // 1_000_000
