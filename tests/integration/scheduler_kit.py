"""A world for the scheduler: a store, handlers, and a clock that is moved. Import the fixture by name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobctl.engine import schedules
from jobctl.engine.registry import Registry
from jobctl.engine.scheduler import Scheduler
from jobctl.model import JobQuery
from jobctl.schedule import ScheduleSpec, ScheduleState
from jobctl.store.sqlite import SqliteStore, open_store

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


NOON = ms("2026-06-01T12:00:00")


class Clock:
    def __init__(self) -> None:
        self.ms = NOON

    def __call__(self) -> int:
        return self.ms


def handlers() -> Registry:
    registry = Registry()

    @registry.job("backup", timeout=12.5, max_attempts=7)
    def backup(ctx: object, depth: int = 1) -> None: ...

    return registry


class World:
    """A store, a clock, and schedulers that come and go."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.registry = handlers()
        self.store: SqliteStore
        self.scheduler: Scheduler

    @asynccontextmanager
    async def server(self) -> AsyncIterator[None]:
        """A process: it opens the store, and leaves it."""
        async with open_store(self.path / "jobs.db", state_dir=self.path / "state", durability="normal") as store:
            store.clock = self.clock
            self.store = store
            self.scheduler = Scheduler(store, self.registry, clock=self.clock)
            store.listen(self.scheduler.on_commit)
            yield

    async def add(self, cron: str = "* * * * *", name: str = "s", **fields: Any) -> None:
        spec = ScheduleSpec(**{"name": name, "cron": cron, "timezone": "UTC", "job_name": "backup"} | fields)
        then = schedules.next_run(spec, self.clock())
        await self.store.schedules.add(spec, created_by="root", next_run=then)

    async def state(self, name: str = "s") -> ScheduleState:
        return (await self.store.schedules.one(name)).value

    async def jobs(self) -> list[Any]:
        return list((await self.store.jobs(JobQuery(limit=200))).value.jobs)

    async def runs(self) -> int:
        return len(await self.jobs())

    async def look_through(self, until: int, step: int) -> None:
        """Look every ``step`` ms until the clock stands at ``until``."""
        while self.clock.ms < until:
            self.clock.ms += step
            await self.scheduler.look()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
