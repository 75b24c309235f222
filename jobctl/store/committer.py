"""One writer thread and group commit, whatever the database.

Callers hand over a closure and wait. The thread takes all that wait, runs them in one transaction, commits once
(one fsync for all of them) and wakes the callers. While it commits, the next group gathers, so that the group grows
with the load by itself. A closure that raises is rolled back alone; an error of the database fails the whole group, and
nobody of it is told otherwise. What a transaction is to the database is the ``Writer``'s business.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import outcome
import trio

from jobctl.errors import StoreUnavailable
from jobctl.events import Commit
from jobctl.metrics import Metrics

T = TypeVar("T")
log = logging.getLogger("jobctl.store")

MAX_GROUP: Final = 1000
"""Closures in one transaction: enough to spread an fsync thin, few enough to bound everybody's wait."""

MAX_STARTS: Final = 20
"""Times that a group starts over because others were in the way; nearly always once is enough."""

APART_S: Final = 1.0
"""The longest pause before a group starts over."""

IDLE_AFTER_S: Final = 1.0


class Transaction(Protocol):
    """What closures work on; one lives for one group."""

    work: bool
    """Whether it brings something to whoever stands by."""

    def mark(self) -> Any:
        """A point to come back to."""

    def wrote_since(self, mark: Any) -> bool:
        """Whether anything has reached the database since ``mark``."""

    def back_to(self, mark: Any) -> None:
        """Forget what was noted since ``mark`` (the database itself is rolled back by the committer)."""


class Writer(Protocol):
    """A database as the writer thread sees it: one transaction at a time. Used by that thread alone."""

    @property
    def fatal(self) -> tuple[type[Exception], ...]:
        """Errors that are not a closure's own fault: the whole group is rolled back."""

    @property
    def in_transaction(self) -> bool:
        """Whether the transaction that ``begin`` opened still stands."""

    def begin(self, *, guarded: bool) -> Transaction:
        """Open the transaction of a group; ``guarded``: each closure gets a savepoint of its own."""

    def savepoint(self) -> None:
        """A closure is about to run."""

    def settle(self) -> None:
        """It has run: what it has left to write is written, so that an error of that is its own."""

    def undo(self) -> None:
        """It has raised: back to the savepoint."""

    def commit(self) -> Commit:
        """Write what was gathered, and commit.

        Raises:
            Again: others were in the way. All is rolled back, and the group may start over.
        """

    def roll_back(self) -> None:
        """Roll the whole transaction back, if there is one; must not fail."""

    def committed(self) -> None:
        """A COMMIT went well."""

    def idle(self) -> None:
        """Nothing has come for a second after a commit."""

    def changes(self) -> int:
        """A number that moves with each row written."""

    def probe(self) -> None:
        """Write something in a transaction of its own. Raises one of ``fatal`` where the database takes no writes."""

    def hand_over(self, commit: Commit | None, give: Callable[[Sequence[Commit]], None]) -> None:
        """Give what listeners are to hear, ``commit`` with all that comes before it, in the order of commits."""


class Again(Exception):
    """The group must start over.

    A closure raised after it had written, and there was no savepoint to go back to; or another process was in the way.
    ``guarded``: with a savepoint for each closure.
    """

    def __init__(self, why: str, *, guarded: bool) -> None:
        super().__init__(why)
        self.guarded = guarded


class _Op:
    __slots__ = ("function", "result", "standing", "task", "withdrawn")

    def __init__(self, function: Callable[[Any], Any], task: trio.lowlevel.Task, *, standing: bool = False) -> None:
        self.function = function
        self.task = task
        self.result: outcome.Outcome[Any]
        self.standing = standing
        self.withdrawn = False


class Committer:
    """Runs closures on the writer thread.

    Args:
        writer: The database.
        deliver: Called on the trio thread with what a transaction changed, before its callers are woken.
        metrics: Where commits are counted.
    """

    def __init__(
        self, writer: Writer, *, deliver: Callable[[Commit], None], metrics: Metrics | None = None
    ) -> None:
        self._writer = writer
        self._deliver = deliver
        self.metrics = metrics or Metrics()
        # Unbounded, yet bounded by its callers: each waits for its own closure before it hands over another.
        self._queue: queue.SimpleQueue[_Op | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="jobctl-writer", daemon=True)
        self._token: trio.lowlevel.TrioToken | None = None
        self._gathering: list[_Op] | None = None
        self._standing: _Op | None = None
        self._taking = threading.Lock()
        self._stopped = False
        self.trouble: str | None = None

    def start(self) -> None:
        """Start the thread; from a trio task."""
        self._token = trio.lowlevel.current_trio_token()
        self._thread.start()

    async def stop(self) -> None:
        """Finish what waits, then end the thread. Later submissions raise ``StoreUnavailable``."""
        self._stopped = True
        while self._gathering is not None:  # it is handed over in the next turn of the event loop
            await trio.lowlevel.cancel_shielded_checkpoint()
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
        op = _Op(function, trio.lowlevel.current_task())
        if self._gathering is None:
            await self._hand_over(op)
        else:
            self._gathering.append(op)
        value: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return value

    async def _hand_over(self, first: _Op) -> None:
        """Hand over what all tasks that have their turn just now submit, at once.

        The thread would otherwise begin with the first, and the two would wrestle for the interpreter over the others:
        of 64 callers at once, half as many were served.
        """
        self._gathering = [first]
        await trio.lowlevel.cancel_shielded_checkpoint()
        gathered, self._gathering = self._gathering, None
        for op in gathered:
            self._queue.put(op)

    async def stand_by(self, function: Callable[[Any], T | None]) -> T | None:
        """Wait for a transaction that brings work, and run ``function`` as the last of it; one at a time may.

        What would be a transaction of its own, right after, needs no sync of its own so. Where ``function`` returns
        None there was nothing for it, and it stands by for the next. None is returned if it was cancelled meanwhile;
        otherwise it is cancelled as anything else.

        Raises:
            StoreUnavailable: the transaction was not kept.
        """
        if self._stopped:
            raise StoreUnavailable("the store is closed")
        op = _Op(function, trio.lowlevel.current_task(), standing=True)
        with self._taking:
            self._standing = op

        def abort(_: Any) -> trio.lowlevel.Abort:
            with self._taking:
                op.withdrawn = True
                if self._standing is not op:  # the thread has it, and will answer
                    return trio.lowlevel.Abort.FAILED
                self._standing = None
                return trio.lowlevel.Abort.SUCCEEDED

        value: T | None = await trio.lowlevel.wait_task_rescheduled(abort)
        return value

    # --- the thread ----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        idle_due = False
        while True:
            try:
                first = self._queue.get(timeout=IDLE_AFTER_S if idle_due or self.trouble else None)
            except queue.Empty:
                idle_due = False
                self._call(self._writer.idle)
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
            changes = self._writer.changes()
            commit = self._transact(group)
        except BaseException as error:  # noqa: BLE001 - whatever it is: the callers must hear of it, and the thread must live
            self.metrics.commit_failures += 1
            self._note_trouble(error, len(group))
            self._writer.roll_back()
            for op in group:
                said = isinstance(error, StoreUnavailable)  # by the writer, who knows more
                told = StoreUnavailable(str(error) if said else "the database cannot take writes now; nothing was kept")
                told.__cause__ = error
                op.result = outcome.Error(told)
        else:
            self.metrics.commit_seconds.observe(time.perf_counter() - began)
            self.metrics.commit_writes.observe(len(group))
            if self.trouble and self._writer.changes() != changes:  # reading alone proves nothing
                self.trouble = None
            self._call(self._writer.committed)
            if group[-1].standing and self._stands_again(group[-1]):
                group.pop()
        self._writer.hand_over(commit, lambda told: self._answer(told, group))

    def _answer(self, told: Sequence[Commit], group: list[_Op]) -> None:
        try:
            assert self._token is not None  # noqa: S101 - set by start
            self._token.run_sync_soon(self._wake, told, group)
        except trio.RunFinishedError:
            log.debug("nobody waits any more for %d writes", len(group))

    def _transact(self, group: list[_Op]) -> Commit:
        guarded = False
        for start in range(MAX_STARTS):
            if start > 1:  # two that start over at once meet again, and again
                time.sleep(random.random() * min(APART_S, 0.025 * 2**start))  # noqa: S311 - nobody has to guess it
            try:
                return self._attempt(group, guarded=guarded)
            except Again as error:
                guarded = guarded or error.guarded
                self._writer.roll_back()
                log.debug("a transaction of %d writes starts over: %s", len(group), error)
        raise StoreUnavailable("others are in the way all the time")

    def _attempt(self, group: list[_Op], *, guarded: bool) -> Commit:
        """Run the group in one transaction; ``guarded``: each closure in a savepoint of its own.

        Nearly all that raise do so before they write, and there is nothing to undo. So savepoints, a fifth of what
        a small write costs, are left out until one is needed.
        """
        writer = self._writer
        transaction = writer.begin(guarded=guarded)
        for op in group:
            self._do(op, transaction, guarded=guarded)
        if transaction.work and (standing := self._take_standing()) is not None:
            group.append(standing)
            self._do(standing, transaction, guarded=guarded)
        return writer.commit()

    def _do(self, op: _Op, transaction: Transaction, *, guarded: bool) -> None:
        writer = self._writer
        mark = transaction.mark()
        if guarded:
            writer.savepoint()
        try:
            op.result = outcome.Value(op.function(transaction))
            if guarded:
                writer.settle()
        except Again:
            raise
        except Exception as error:
            if isinstance(error, writer.fatal):
                raise
            op.result = outcome.Error(error)
            if not writer.in_transaction:
                raise RuntimeError(f"the transaction is gone: {error}") from error
            if guarded:
                writer.undo()
            elif transaction.wrote_since(mark):
                raise Again(f"{type(error).__name__} after a write", guarded=True) from None
            transaction.back_to(mark)

    def _take_standing(self) -> _Op | None:
        with self._taking:
            op, self._standing = self._standing, None
            return op

    def _stands_again(self, op: _Op) -> bool:
        """Whether it goes on standing by, as there was nothing for it and nobody has called it off meanwhile."""
        if not isinstance(op.result, outcome.Value) or op.result.value is not None:
            return False
        with self._taking:
            if not op.withdrawn:
                self._standing = op
            return not op.withdrawn

    def _note_trouble(self, error: BaseException, writes: int) -> None:
        ours = isinstance(error, StoreUnavailable)
        trouble = str(error) if ours else f"{type(error).__name__.removesuffix('Error')}: {error}"
        if trouble != self.trouble:  # a full disk fails every write: one line is enough
            unexpected = not isinstance(error, self._writer.fatal)
            log.error("a transaction of %d writes failed: %s", writes, trouble, exc_info=unexpected)
        self.trouble = trouble

    def _probe(self) -> None:
        """Nobody may be writing because writes fail; see by ourselves whether they go well again."""
        try:
            self._writer.probe()
        except self._writer.fatal as error:
            self._note_trouble(error, 1)
            self._writer.roll_back()
        else:
            self.trouble = None

    def _call(self, hook: Callable[[], None]) -> None:
        try:
            hook()
        except Exception:  # what is committed is committed, and the thread must live
            log.exception("a hook of the writer failed")

    # --- the trio thread -----------------------------------------------------------------------------------------

    def _wake(self, told: Sequence[Commit], group: list[_Op]) -> None:
        try:
            for commit in told:
                self._deliver(commit)
        finally:
            for op in group:
                trio.lowlevel.reschedule(op.task, op.result)


def now_ms() -> int:
    """The wall clock, ms since the epoch."""
    return time.time_ns() // 1_000_000
