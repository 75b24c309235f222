"""Schedules in the SQLite store: ``SqliteStore.schedules``."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Protocol, TypeVar

import apsw

from jobctl.errors import NotFound
from jobctl.model import Job, NewJob
from jobctl.schedule import ScheduleSpec, ScheduleState
from jobctl.store import schedule_writes as writes
from jobctl.store.base import Read
from jobctl.store.rows import SQL, fetch, fetch_one, scalar
from jobctl.store.schedules import Due, Firing, Planned, Synced
from jobctl.store.transaction import Tx

T = TypeVar("T")

_LIST: Final = writes.statement("schedule_list")
_BY_NAME: Final = writes.statement("schedule_by_name")
_DUE: Final = writes.statement("schedule_due")


class Submit(Protocol):
    """Runs a function of a transaction on the writer thread."""

    async def __call__(self, function: Callable[[Tx], T]) -> T: ...


class ReadIn(Protocol):
    """Runs a function of a connection in a read transaction."""

    async def __call__(self, function: Callable[..., T], *arguments: Any) -> Read[T]: ...


class SqliteSchedules:
    """A ``ScheduleStore``."""

    def __init__(self, submit: Submit, read: ReadIn) -> None:
        self._submit = submit
        self._read = read

    async def all(self) -> Read[tuple[ScheduleState, ...]]:
        return await self._read(_all)

    async def one(self, name: str) -> Read[ScheduleState]:
        return await self._read(_one, name)

    async def due(self, now: int, *, limit: int) -> Due:
        return (await self._read(_due, now, limit)).value

    async def add(self, spec: ScheduleSpec, *, created_by: str, next_run: int | None) -> ScheduleState:
        return await self._submit(lambda tx: writes.add(tx, spec, created_by, next_run))

    async def replace(self, spec: ScheduleSpec, *, next_run: int | None) -> ScheduleState:
        return await self._submit(lambda tx: writes.replace(tx, spec, next_run))

    async def set_enabled(self, name: str, enabled: bool, *, next_run: int | None) -> ScheduleState:
        return await self._submit(lambda tx: writes.set_enabled(tx, name, enabled, next_run))

    async def remove(self, name: str) -> None:
        await self._submit(lambda tx: writes.remove(tx, name))

    async def sync(self, planned: Sequence[Planned], *, untouched: Collection[str] = ()) -> Synced:
        return await self._submit(lambda tx: writes.sync(tx, planned, untouched))

    async def fire(self, firings: Sequence[Firing]) -> tuple[str | None, ...]:
        return await self._submit(lambda tx: writes.fire(tx, firings))

    async def trigger(self, name: str, job: NewJob) -> Job:
        return await self._submit(lambda tx: writes.trigger(tx, name, job))


def _all(connection: apsw.Connection) -> tuple[ScheduleState, ...]:
    return tuple(map(writes.state_of, fetch(connection, _LIST)))


def _one(connection: apsw.Connection, name: str) -> ScheduleState:
    row = fetch_one(connection, _BY_NAME, name)
    if row is None:
        raise NotFound("there is no such schedule")
    return writes.state_of(row)


def _due(connection: apsw.Connection, now: int, limit: int) -> Due:
    rows = fetch(connection, _DUE, now, limit)
    return Due(tuple(map(writes.state_of, rows)), scalar(connection, SQL["schedule_next_due"], now))
