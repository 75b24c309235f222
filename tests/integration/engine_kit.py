"""What the engine's tests share: a real store in a temporary folder, a runner on it, and ways to wait."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from jobctl.engine.commands import Command
from jobctl.engine.registry import Field, Handler, Registry
from jobctl.engine.runner import Runner
from jobctl.model import Job, NewJob
from jobctl.settings import CommandSettings
from jobctl.store.sqlite import SqliteStore, open_store

OWNER: Final = "ann"
PATIENCE_S: Final = 20.0
"""How long a test waits for what must happen; far above what it takes, so that a busy machine is no failure."""


class Engine:
    """A store, a registry and a runner over them."""

    def __init__(self, store: SqliteStore, registry: Registry, runner: Runner, nursery: trio.Nursery) -> None:
        self.store, self.registry, self.runner, self.nursery = store, registry, runner, nursery

    async def enqueue(self, name: str, data: dict[str, Any] | None = None, **more: Any) -> str:
        """Enqueue one job; its id."""
        new = NewJob(name=name, data=msgspec.json.encode(data or {}), **{"timeout": 30.0, "max_attempts": 1, **more})
        return (await self.store.enqueue([new], owner=OWNER)).ids[0]

    async def job(self, job_id: str) -> Job:
        """The job as it is now."""
        return (await self.store.job(job_id, owner=None)).value

    async def until(self, job_id: str, *statuses: str) -> Job:
        """The job, once it has one of the statuses (default: an end)."""
        wanted = statuses or ("completed", "failed", "cancelled")
        with trio.fail_after(PATIENCE_S):
            while (job := await self.job(job_id)).status not in wanted:
                await trio.sleep(0.005)
        return job

    async def run(self, name: str, data: dict[str, Any] | None = None, **more: Any) -> Job:
        """Enqueue one and wait for its end."""
        return await self.until(await self.enqueue(name, data, **more))

    async def log(self, job_id: str) -> list[str]:
        """The texts of the job's log."""
        lines: list[str] = []
        after = 0
        while True:
            page = (await self.store.logs(job_id, owner=None, after=after)).value
            lines += [line.text for line in page.lines]
            if not page.has_more:
                return lines
            after = page.lines[-1].n

    async def progress(self, job_id: str) -> list[float]:
        """Every progress that the job's events show, oldest first, repetitions left out."""
        values: list[float] = []
        for event in (await self.store.history(job_id, owner=None)).value:
            progress = msgspec.json.decode(event.body)["progress"]
            if progress and (not values or values[-1] != progress["value"]):
                values.append(progress["value"])
        return values


async def wait_for(condition: Callable[[], object]) -> None:
    """Return when the condition holds."""
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.005)


def add_command(registry: Registry, name: str, *argv: str, **settings: Any) -> None:
    """Register a command as ``load`` does."""
    command = Command.build(name, CommandSettings(argv=argv, **settings))
    fields = tuple(Field(name=field, required=True) for field in command.fields)
    names = frozenset(command.fields)
    registry.add(Handler(name, "command", fields, command=command, required=names, allowed=names))


@contextlib.asynccontextmanager
async def engine(
    folder: Path,
    registry: Registry,
    *,
    concurrency: int = 4,
    limits: dict[str, int] | None = None,
    grace: float = 5.0,
    cancel_grace: float = 0.3,
    start: bool = True,
) -> AsyncIterator[Engine]:
    """An engine on ``folder/jobs.db``; drained at the end without patience."""
    async with open_store(folder / "jobs.db", state_dir=folder / "state", durability="normal") as store:
        runner = Runner(
            store,
            registry,
            concurrency=concurrency,
            limits=limits or {},
            worker="test",
            grace=grace,
            cancel_grace=cancel_grace,
        )
        runner._executor._draw = lambda: 0.5  # who waits to be tried again can be seen waiting, for half a second
        store.listen(runner.on_commit)
        async with trio.open_nursery() as nursery:
            if start:
                await nursery.start(runner.run)
            yield Engine(store, registry, runner, nursery)
            runner._grace = 0.0
            await runner.drain()
            nursery.cancel_scope.cancel()
