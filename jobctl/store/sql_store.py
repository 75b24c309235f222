"""What the stores on SQL databases have in common: every method is a function of a transaction, or of a snapshot."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from jobctl.events import Commit, Event
from jobctl.model import Job, JobPage, JobQuery, NewJob, Queue, Stats
from jobctl.store import bulk, reads, writes
from jobctl.store import enqueue as enqueueing
from jobctl.store.base import (
    Acted,
    BulkAction,
    Claims,
    Counters,
    End,
    Enqueued,
    EventPage,
    Idempotency,
    LogEntry,
    LogPage,
    Matching,
    Outcome,
    Read,
    Rescued,
)
from jobctl.store.retention_writes import Retention
from jobctl.store.schedule_store import Schedules
from jobctl.store.token_store import Tokens
from jobctl.store.transaction import Tx

T = TypeVar("T")
log = logging.getLogger("jobctl.store")


class SqlStore(ABC):
    """Most of a ``Store``: what a database adds is how a transaction is made, and how ready jobs are found."""

    clock: Callable[[], int]
    """Milliseconds since the epoch."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Commit], None]] = []
        self.access = Tokens(self._submit, self._read)
        self.schedules = Schedules(self._submit, self._read)
        self.retention = Retention(self._submit, self._read, lambda: self.clock())

    @abstractmethod
    async def _submit(self, function: Callable[[Any], T]) -> T:
        """Run ``function(tx)`` in a transaction; its value once it is committed and told."""

    @abstractmethod
    async def _stand_by(self, function: Callable[[Any], T | None]) -> T | None:
        """As the last of the next transaction that brings work; see ``Committer.stand_by``."""

    @abstractmethod
    async def _read(self, function: Callable[..., T], *arguments: Any) -> Read[T]:
        """Run ``function(snapshot, *arguments)`` in a read transaction."""

    _claims: Callable[..., Claims]
    """Ends runs and starts others: ``(tx, slots, worker, limits, busy, ends)``."""
    _knows: Callable[..., None]
    """Takes the names of handlers: ``(tx, names)``."""

    def listen(self, listener: Callable[[Commit], None]) -> None:
        """Call ``listener`` with every commit from now on."""
        self._listeners.append(listener)

    def _deliver(self, commit: Commit) -> None:
        for listener in self._listeners:
            try:
                listener(commit)
            except Exception:  # an exception here would end trio; the queue goes on whatever a listener does
                log.exception("a listener failed")

    # --- writes --------------------------------------------------------------------------------------------------

    async def enqueue(self, jobs: Sequence[NewJob], *, owner: str, idempotency: Idempotency | None = None) -> Enqueued:
        return await self._submit(lambda tx: enqueueing.enqueue(tx, jobs, owner, idempotency))

    async def claim(
        self,
        slots: int,
        *,
        worker: str,
        limits: Mapping[str, int],
        busy: Mapping[str, int],
        ends: Sequence[End] = (),
    ) -> Claims:
        return await self._submit(lambda tx: self._claims(tx, slots, worker, limits, busy, ends))

    async def claim_next(
        self, slots: int, *, worker: str, limits: Mapping[str, int], busy: Mapping[str, int], due: int | None
    ) -> Claims | None:
        def look(tx: Tx) -> Claims | None:
            found = self._claims(tx, slots, worker, limits, busy, ())
            tx.looked = True
            sooner = found.next_due is not None and (due is None or found.next_due < due)
            return found if found.claims or found.more or sooner else None

        return await self._stand_by(look)

    async def finish(self, job_id: str, run: int, outcome: Outcome, *, held: bool = False) -> bool:
        return await self._submit(lambda tx: writes.finish(tx, End(job_id, run, outcome, held)))

    async def release(self, job_id: str, run: int) -> None:
        await self._submit(lambda tx: writes.release(tx, job_id, run))

    async def progress(self, job_id: str, run: int, value: float, message: str | None) -> bool:
        return await self._submit(lambda tx: writes.progress(tx, job_id, run, value, message))

    async def append_logs(self, job_id: str, run: int, lines: Sequence[LogEntry]) -> bool:
        return await self._submit(lambda tx: writes.append_logs(tx, job_id, run, lines))

    async def record_process(self, job_id: str, run: int, pid: int, started: int) -> bool:
        return await self._submit(lambda tx: writes.record_process(tx, job_id, run, pid, started))

    async def cancel(self, job_id: str, *, owner: str | None) -> Job:
        return await self._submit(lambda tx: writes.cancel(tx, job_id, owner))

    async def retry(self, job_id: str, *, owner: str | None) -> Job:
        return await self._submit(lambda tx: writes.retry(tx, job_id, owner))

    async def delete(self, job_id: str, *, owner: str | None) -> None:
        await self._submit(lambda tx: writes.delete(tx, job_id, owner))

    async def act(
        self, action: BulkAction, ids: Sequence[str], *, owner: str | None, statuses: Sequence[str]
    ) -> Acted:
        return await self._submit(lambda tx: bulk.act(tx, action, ids, owner, statuses))

    async def make_queues(self, names: Sequence[str]) -> tuple[str, ...]:
        return await self._submit(lambda tx: enqueueing.make_queues(tx, names))

    async def set_paused(self, queue: str, paused: bool) -> Queue:
        await self._submit(lambda tx: writes.set_paused(tx, queue, paused))
        found = await self.queues()
        return next(each for each in found.value if each.name == queue)

    async def set_known(self, names: frozenset[str] | None) -> None:
        await self._submit(lambda tx: self._knows(tx, names))

    async def keep_backoffs(self, jump: float) -> int:
        moved = 0
        last: int | None = 0
        while last is not None:
            count, last = await self._submit(partial(writes.keep_backoffs, jump=jump, after_pk=last))
            moved += count
        return moved

    async def left_running(self) -> Rescued:
        return (await self._read(writes.left_running)).value

    async def rescue(self) -> Rescued:
        return await self._submit(writes.rescue)

    # --- reads ---------------------------------------------------------------------------------------------------

    async def job(self, job_id: str, *, owner: str | None) -> Read[Job]:
        return await self._read(reads.job, job_id, owner)

    async def jobs(self, query: JobQuery) -> Read[JobPage]:
        return await self._read(reads.jobs, query)

    async def matching(self, query: JobQuery) -> Read[Matching]:
        return await self._read(bulk.matching, query)

    async def tally(self, query: JobQuery) -> Read[Mapping[str, int]]:
        return await self._read(bulk.tally, query)

    async def stats(self, *, owner: str | None) -> Read[Stats]:
        return await self._read(reads.stats, owner)

    async def queues(self) -> Read[tuple[Queue, ...]]:
        return await self._read(reads.queues)

    async def logs(self, job_id: str, *, owner: str | None, after: int = 0, limit: int = 1000) -> Read[LogPage]:
        return await self._read(reads.logs, job_id, owner, after, limit)

    async def history(self, job_id: str, *, owner: str | None) -> Read[tuple[Event, ...]]:
        return await self._read(reads.history, job_id, owner)

    async def events(self, after: int, *, limit: int, upto: int | None = None) -> EventPage:
        return (await self._read(reads.events, after, limit, upto)).value

    async def counters(self) -> Read[Counters]:
        return await self._read(reads.counters)
