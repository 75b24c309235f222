"""A leader's duties: done while it leads, and not before or after; whom it rescues, and how often it asks."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from jobctl.engine.duties import LOOK_EVERY_S, SETTLE_S, Duties
from jobctl.errors import StoreUnavailable
from jobctl.store.base import Rescued
from jobctl.store.workers import BEAT_S
from jobctl.worker import State, Worker


class Part:
    """The scheduler, or maintenance."""

    def __init__(self) -> None:
        self.running = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.running += 1
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.running -= 1


class Lease:
    def __init__(self) -> None:
        self.leader = False
        self.workers: tuple[Worker, ...] = ()
        self._changed = trio.Event()

    async def changed(self) -> None:
        await self._changed.wait()

    async def beat(self) -> None:
        """A heartbeat every two seconds."""
        while True:
            await trio.sleep(BEAT_S)
            self.say()

    def say(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class Workers:
    lease_s: float | None = 15.0


class Store:
    """Runs that were left are rescued at once."""

    def __init__(self) -> None:
        self.workers = Workers()
        self.looked: list[float] = []
        self.left: tuple[str, ...] = ()
        self.held: tuple[str, ...] = ()
        self.rescued: list[str] = []
        self.away = False

    async def left_running(self) -> Rescued:
        self.looked.append(trio.current_time())
        if self.away:
            raise StoreUnavailable("away")
        return Rescued(self.left, self.held, ())

    async def rescue(self) -> Rescued:
        found, held, self.left, self.held = self.left, self.held, (), ()
        self.rescued += found + held
        return Rescued(found, held, ())


def worker(name: str, state: State) -> Worker:
    return Worker(
        id=name, kind="work", host="h", pid=1, version="1", started_at="", seen_at="", state=state, slots=1, running=0,
        leader=False,
    )  # fmt: skip


class World:
    def __init__(self) -> None:
        self.store, self.lease = Store(), Lease()
        self.parts = Part(), Part()
        store: Any = self.store
        lease: Any = self.lease
        scheduler, maintenance = self.parts
        self.duties = Duties(store, lease, scheduler, maintenance)  # type: ignore[arg-type]

    @property
    def running(self) -> list[int]:
        return [each.running for each in self.parts]


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    world = World()
    nursery.start_soon(world.lease.beat)
    await nursery.start(world.duties.run)
    return world


async def test_duties_are_done_while_this_process_leads_and_only_then(world: World, autojump_clock: MockClock) -> None:
    for leads in (False, True, False, True):
        world.lease.leader = leads
        await trio.sleep(2 * BEAT_S)
        assert world.running == [leads, leads]


async def test_a_term_that_ran_out_ends_them_though_nothing_says_so(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.lease.leader = True
    await trio.sleep(2 * BEAT_S)
    monkeypatch.setattr(world.lease, "say", lambda: None)
    world.lease.leader = False
    await trio.sleep(2 * BEAT_S)
    assert world.running == [0, 0]


async def test_a_new_leader_lets_those_speak_who_have_stopped_their_own_runs(
    world: World, autojump_clock: MockClock
) -> None:
    world.store.left = ("a",)
    world.lease.leader = True
    await trio.sleep(SETTLE_S)
    assert world.store.rescued == []
    await trio.sleep(2 * BEAT_S + 0.1)
    assert world.store.rescued == ["a"]


async def test_runs_of_a_process_that_is_lost_are_rescued_with_the_next_heartbeat(
    world: World, autojump_clock: MockClock
) -> None:
    world.lease.leader = True
    await trio.sleep(SETTLE_S + 2 * BEAT_S)
    world.store.left, world.lease.workers = ("a",), (worker("host:1", "lost"),)
    await trio.sleep(BEAT_S + 0.1)
    assert world.store.rescued == ["a"]


async def test_jobs_that_a_lost_process_held_are_freed_though_it_ran_no_other(
    world: World, autojump_clock: MockClock
) -> None:
    world.lease.leader = True
    await trio.sleep(SETTLE_S + 2 * BEAT_S)
    world.store.held, world.lease.workers = ("a",), (worker("host:1", "lost"),)
    await trio.sleep(BEAT_S + 0.1)
    assert world.store.rescued == ["a"]


async def test_a_rescue_that_failed_is_tried_again_soon(world: World, autojump_clock: MockClock) -> None:
    world.lease.leader = True
    await trio.sleep(SETTLE_S + 2 * BEAT_S)
    world.store.away, world.store.left, world.lease.workers = True, ("a",), (worker("host:1", "lost"),)
    await trio.sleep(3 * BEAT_S)
    world.store.away = False
    await trio.sleep(BEAT_S + 0.1)
    assert world.store.rescued == ["a"]


async def test_while_nobody_is_lost_the_database_is_asked_twice_a_minute(
    world: World, autojump_clock: MockClock
) -> None:
    world.lease.leader = True
    await trio.sleep(60)
    before = len(world.store.looked)
    world.lease.workers = (worker("host:1", "live"), worker("host:2", "late"))
    await trio.sleep(10 * LOOK_EVERY_S)
    assert len(world.store.looked) - before <= 11


async def test_one_that_was_lost_and_rescued_is_not_asked_about_again_and_again(
    world: World, autojump_clock: MockClock
) -> None:
    world.lease.workers = (worker("host:1", "lost"),)
    world.lease.leader = True
    await trio.sleep(60)
    before = len(world.store.looked)
    await trio.sleep(10 * LOOK_EVERY_S)
    assert len(world.store.looked) - before <= 11


async def test_where_the_store_is_not_shared_nothing_is_rescued_while_it_runs(
    world: World, autojump_clock: MockClock
) -> None:
    world.store.workers.lease_s = None
    world.lease.leader = True
    await trio.sleep(10 * LOOK_EVERY_S)
    assert world.running == [1, 1]
    assert world.store.looked == []
