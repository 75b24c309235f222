"""Schedules in a store: ``Store.schedules``."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

from jobctl.errors import NotFound
from jobctl.model import Job, NewJob
from jobctl.schedule import ScheduleSpec, ScheduleState
from jobctl.store import schedule_writes as writes
from jobctl.store.base import Read
from jobctl.store.queries import Queries
from jobctl.store.schedules import Due, Firing, Planned, Synced
from jobctl.store.transaction import Tx

T = TypeVar("T")


class Submit(Protocol):
    """Runs a function of a transaction on the writer thread."""

    async def __call__(self, function: Callable[[Tx], T]) -> T: ...


class ReadIn(Protocol):
    """Runs a function of a ``Snapshot`` in a read transaction."""

    async def __call__(self, function: Callable[..., T], *arguments: Any) -> Read[T]: ...


class Schedules:
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


def _all(db: Queries) -> tuple[ScheduleState, ...]:
    return tuple(map(writes.state_of, db.all("schedule_list")))


def _one(db: Queries, name: str) -> ScheduleState:
    row = db.one("schedule_by_name", name)
    if row is None:
        raise NotFound("there is no such schedule")
    return writes.state_of(row)


def _due(db: Queries, now: int, limit: int) -> Due:
    rows = db.all("schedule_due", now, limit)
    return Due(tuple(map(writes.state_of, rows)), db.one("schedule_next_due", now)[0])
