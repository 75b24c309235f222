"""Leases of the processes that share a PostgreSQL database, and the row that says who leads.

A row with a term, not an advisory lock: behind PgBouncer in transaction mode there is no session to hold such a lock,
and the lock of a frozen process would be kept for it. The heartbeat renews the lease, takes or keeps the lead and reads
who is there in one round trip of a connection of its own, so that it does not wait behind the queue's writes.

A heartbeat is not synced: were the last ones lost in a crash of the database, leases would only end earlier.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
import psycopg
import trio

from jobctl.errors import StoreUnavailable
from jobctl.model import wire_time
from jobctl.store.base import Read
from jobctl.store.postgres_link import SQL, Link, Result, Statement
from jobctl.store.queries import Snapshot
from jobctl.store.workers import LATE_S, SHOWN_S, TERM_S, Beat, NewWorker
from jobctl.worker import State, Worker

T = TypeVar("T")
log = logging.getLogger("jobctl.store")

_SHOWN_MS: Final = round(SHOWN_S * 1000)
_NO_SYNC: Final[Statement] = ("SET LOCAL synchronous_commit = off", ())


class PostgresWorkers:
    """Implements ``WorkerStore``.

    Args:
        connect: Makes a connection of a name; raises StoreUnavailable.
        read: Runs a function in a read transaction of the pool.
        lease_s: How long a lease stands.
        joined: Told under which name this process claims.
    """

    def __init__(
        self,
        connect: Callable[[str], Link],
        read: Callable[..., Any],
        lease_s: float,
        *,
        joined: Callable[[str], None],
    ) -> None:
        self._connect, self._read, self._joined = connect, read, joined
        self.lease_s: float | None = lease_s
        self._lease_ms = round(lease_s * 1000)
        self._link: Link | None = None
        self._closing = threading.Lock()
        self._closed = False
        self._limiter = trio.CapacityLimiter(1)

    async def join(self, worker: NewWorker) -> None:
        """Take a lease."""
        names = msgspec.json.encode(list(worker.handlers)).decode()
        values = (
            worker.id, worker.kind, worker.host, worker.pid, worker.version, worker.slots, names, self._lease_ms,
        )  # fmt: skip
        await self._send((SQL["worker_forget"], (_SHOWN_MS,)), (SQL["worker_join"], values))
        self._joined(worker.id)

    async def beat(self, worker_id: str, *, running: int, lead: bool) -> Beat:
        """Renew a lease that stands."""
        values = (worker_id, running, self._lease_ms, lead, round(TERM_S * 1000))
        _, told, there = await self._send(
            _NO_SYNC, (SQL["worker_beat"], values), (SQL["workers"], (_SHOWN_MS,))
        )
        alive, leads = told[0][0]
        return Beat(alive, leads, tuple(_worker(*row) for row in there[0]))

    async def leave(self, worker_id: str) -> None:
        """Give it up."""
        await self._send((SQL["worker_leave"], (worker_id,)), (SQL["leader_leave"], (worker_id,)))

    async def all(self) -> tuple[Worker, ...]:
        """Everybody."""
        found: Read[tuple[Worker, ...]] = await self._read(_all)
        return found.value

    def close(self) -> None:
        """Close its connection; nothing is sent any more."""
        with self._closing:
            self._closed = True
            if self._link is not None:
                self._link.close()

    async def _send(self, *statements: Statement) -> list[Result]:
        """Their results, of one transaction in one round trip."""
        work = partial(self._send_in_thread, statements)
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)

    def _send_in_thread(self, statements: Sequence[Statement]) -> list[Result]:
        try:
            link = self._linked()
            opening = link.begin()
            try:
                results = link.execute_all([*opening, *statements, ("COMMIT", ())])
            finally:
                link.roll_back()
            return results[len(opening) : -1]
        except psycopg.errors.ReadOnlySqlTransaction as error:  # the first to find it: no process works without a lease
            raise StoreUnavailable(
                "the database can only be read; it may be a replica: give the address of the one that takes writes"
            ) from error
        except psycopg.Error as error:
            raise StoreUnavailable(f"the database does not answer: {' '.join(str(error).split())}") from error

    def _linked(self) -> Link:
        link = self._link
        if link is None or link.broken:
            link = self._connect("lease")
            with self._closing:
                if self._closed:  # nobody waits for this thread any more, and nobody else would close it
                    link.close()
                    raise StoreUnavailable("the store is closed")
                self._link = link
        return link


def _all(db: Snapshot) -> tuple[Worker, ...]:
    return tuple(_worker(*row) for row in db.all("workers", _SHOWN_MS))


def _worker(
    worker_id: str, kind: Any, host: str, pid: int, version: str, started_at: int, seen_at: int, slots: int,
    running: int, names: str | None, stands: bool, silent_ms: int, leads: bool,
) -> Worker:  # fmt: skip
    state: State = "lost" if not stands else "late" if silent_ms > LATE_S * 1000 else "live"
    return Worker(
        id=worker_id, kind=kind, host=host, pid=pid, version=version, started_at=wire_time(started_at),
        seen_at=wire_time(seen_at), state=state, slots=slots, running=running if stands else 0, leader=leads,
        handlers=tuple(msgspec.json.decode(names or "[]", type=list[str])),
    )  # fmt: skip
