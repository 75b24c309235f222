"""The real thing beside the reference: a store with its hub, endpoint and scheduler, which can be killed and opened.

Hypothesis is not async: one event loop runs in a thread, and each step is a call into it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import trio

from jobctl.engine.registry import Registry
from jobctl.engine.scheduler import Scheduler
from jobctl.events import Commit, Event
from jobctl.model import JobQuery
from jobctl.store.base import Store
from tests.model.databases import Database
from tests.model.reference import Reference, seen
from tests.model.replay import Replay
from tests.model.watching import Readers

T = TypeVar("T")
START_MS: Final = 1_790_000_000_000
NAMES: Final = ("mail", "resize", "report")


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder of its own, in memory where the system has one."""
    shared = Path("/dev/shm")
    place = shared if os.access(shared, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="jobctl-model-", dir=place) as name:
        yield Path(name)


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken
        self._over: trio.Event
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="model-loop")
        self._thread.start()
        assert self._ready.wait(60)

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: BLE001 - told by close
            self._failure = error

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._over = trio.Event()
        self._ready.set()
        await self._over.wait()

    def call(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Run ``await function(*arguments)`` there."""

        async def bounded() -> T:
            with trio.fail_after(60):
                return await function(*arguments)

        return trio.from_thread.run(bounded, trio_token=self._token)

    def close(self) -> None:
        """End it; whatever failed there fails here."""
        with contextlib.suppress(trio.RunFinishedError):
            trio.from_thread.run_sync(self._over.set, trio_token=self._token)
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure


class World:
    """One database and whoever owns it at present; ``replay`` has all that its log ever said."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = START_MS
        self.reference = Reference()
        self.replay = Replay()
        self.epochs: list[str] = []
        self.heard: list[Event] = []
        self.readers: Readers
        self.registry = Registry(accept_unknown=True)
        self.store: Store
        self.scheduler: Scheduler
        self._nursery: trio.Nursery | None = None
        self._ended: trio.Event

    def clock(self) -> int:
        """The wall clock that everybody here reads."""
        return self.now

    # --- lives ---------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """A new owner: what a server does at its start."""
        ready = trio.Event()
        self._ended = trio.Event()
        trio.lowlevel.spawn_system_task(self._own, ready)
        await ready.wait()

    async def _own(self, ready: trio.Event) -> None:
        try:
            async with self.database.open() as store:
                store.clock = self.clock
                self.store = store
                self.epochs.append(store.epoch)
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    self.readers = Readers(store, self.clock, nursery)
                    await self.readers.start()
                    store.listen(self._hear)
                    self.scheduler = Scheduler(store, self.registry, clock=self.clock)
                    rescued = await store.rescue()
                    assert set(rescued.jobs) == self.reference.rescued(self.now)
                    await store.set_known(self.reference.known)
                    ready.set()
                    await trio.sleep_forever()
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """An orderly end."""
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()
        await self._ended.wait()

    async def kill(self) -> None:
        """The process is gone in this very moment."""
        await self.database.crash(self.stop)

    def _hear(self, commit: Commit) -> None:
        self.heard += commit.events

    # --- what holds after every step -----------------------------------------------------------------------------

    async def check(self) -> None:
        """Design section 9, as far as one look can see it."""
        await self._check_log()
        await self._check_rows()
        await self._check_counts()
        await self.readers.check(self.replay.rows)

    async def _check_log(self) -> None:
        told, self.heard = self.heard, []
        page = await self.store.events(len(self.replay.history), limit=500)
        assert list(page.events) == told, "listeners heard something else than the log has"
        for event in told:
            self.replay.take(event)
        assert page.head == len(self.replay.history)
        if page.start <= page.head:
            first = await self.store.events(page.start - 1, limit=1)
            assert first.events[0] == self.replay.history[page.start - 1], "the log has been rewritten"

    async def _check_rows(self) -> None:
        page = (await self.store.jobs(JobQuery(limit=200))).value
        assert not page.has_more
        shown = {job.id: seen(job) for job in page.jobs}
        should = {job.id: job.shown() for job in self.reference.jobs.values()}
        assert shown == should, difference(shown, should)
        wire = {job.id: msgspec.json.decode(msgspec.json.encode(job)) for job in page.jobs}
        assert wire == self.replay.rows, "the log, replayed, is not the table"
        keys = [
            (row["createdBy"], row["uniqueKey"])
            for row in self.replay.rows.values()
            if row["uniqueKey"] and row["status"] in ("pending", "running", "retrying")
        ]
        assert len(keys) == len(set(keys)), "two live jobs have one unique key"

    async def _check_counts(self) -> None:
        counters = (await self.store.counters()).value
        assert dict(counters.counts) == self.reference.counts()
        assert dict(counters.queues) == self.reference.paused
        for owner in (None, "ann", "ben"):
            stats = (await self.store.stats(owner=owner)).value
            mine = [row for row in self.replay.rows.values() if owner in (None, row["createdBy"])]
            assert stats.total == len(mine)
            for status in ("pending", "running", "retrying", "completed", "failed", "cancelled"):
                assert getattr(stats, status) == sum(row["status"] == status for row in mine)


def difference(found: dict[str, Any], should: dict[str, Any]) -> str:
    """What of two tables is not alike."""
    return "\n".join(
        f"{key}: {found.get(key)} should be {should.get(key)}"
        for key in {*found, *should}
        if found.get(key) != should.get(key)
    )
