"""A process's lease: how it is kept, how it is lost, and what has to have ended by then."""

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from jobctl.engine.lease import LAST_S, MARGIN_S, Lease
from jobctl.errors import StoreUnavailable
from jobctl.store.workers import BEAT_S, TERM_S, Beat, NewWorker
from jobctl.worker import Worker

LEASE_S = 15.0


class Runs:
    """A runner with one run, which takes ``unwinds`` seconds to stop; inf: it never does."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.unwinds = 0.0
        self.in_a_thread = False
        self.stopped_at: float | None = None
        self.recorded = trio.Event()
        self.recorded.set()

    live = ("a",)

    @property
    def unfinished(self) -> tuple[str, ...]:
        if self.stopped_at is None:
            return ("a",) if "forfeit" in self.said else ()
        return ("a",) if trio.current_time() < self.stopped_at + self.unwinds else ()

    @property
    def unstoppable(self) -> tuple[str, ...]:
        return self.unfinished if self.in_a_thread else ()

    def forfeit(self) -> None:
        self.said.append("forfeit")
        self.stopped_at = trio.current_time()

    async def settled(self) -> None:
        while self.unfinished:
            await trio.sleep(0.1)
        await self.recorded.wait()
        self.said.append("settled")

    def resume(self, worker: str) -> None:
        self.said.append(f"resume {worker}")


class Database:
    """Leases by its own clock; ``away``: nobody reaches it, ``takes``: seconds for an answer."""

    lease_s: float | None = LEASE_S

    def __init__(self) -> None:
        self.ends: dict[str, float] = {}
        self.leader: tuple[str, float] | None = None
        self.away = False
        self.takes = 0.0
        self.left: list[str] = []

    async def _reach(self) -> None:
        await trio.sleep(self.takes)
        if self.away:
            raise StoreUnavailable("away")

    async def join(self, worker: NewWorker) -> None:
        await self._reach()
        self.ends[worker.id] = trio.current_time() + LEASE_S

    async def beat(self, worker_id: str, *, running: int, lead: bool) -> Beat:
        await self._reach()
        now = trio.current_time()
        if self.ends.get(worker_id, -math.inf) <= now:
            return Beat(False, False, ())
        self.ends[worker_id] = now + LEASE_S
        if lead and (self.leader is None or self.leader[0] == worker_id or self.leader[1] <= now):
            self.leader = worker_id, now + TERM_S
        return Beat(True, self.leader is not None and self.leader[0] == worker_id, ())

    async def leave(self, worker_id: str) -> None:
        await self._reach()
        self.left.append(worker_id)
        self.ends.pop(worker_id, None)

    async def all(self) -> tuple[Worker, ...]:
        return ()


class World:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.database, self.runs = Database(), Runs()
        self.exits: list[tuple[str, float]] = []
        self.lease = self.another(self.runs)

    def another(self, runs: Runs) -> Lease:
        return Lease(
            self.database, runs, kind="work", slots=4, now=trio.current_time,
            leave=lambda why: self.exits.append((why, trio.current_time())),
        )  # fmt: skip

    async def start(self, lease: Lease | None = None) -> None:
        lease = lease or self.lease
        await lease.start()
        await self.nursery.start(lease.run)


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    return World(nursery)


async def until(condition: Callable[[], bool], within: float) -> None:
    with trio.fail_after(within):
        while not condition():
            await trio.sleep(0.01)


async def test_a_lease_is_kept_for_as_long_as_heartbeats_go_through(world: World, autojump_clock: MockClock) -> None:
    await world.start()
    await trio.sleep(10 * LEASE_S)
    assert world.lease.held
    assert world.runs.said == [f"resume {world.lease.id}"]
    assert world.exits == []


async def test_runs_are_stopped_before_others_may_start_them(world: World, autojump_clock: MockClock) -> None:
    await world.start()
    await trio.sleep(1)
    world.database.away = True
    await until(lambda: "forfeit" in world.runs.said, within=2 * LEASE_S)
    assert trio.current_time() <= world.database.ends[world.lease.id] - MARGIN_S + 0.1
    assert not world.lease.held
    assert not world.lease.leader


async def test_a_heartbeat_that_hangs_does_not_keep_runs_alive(world: World, autojump_clock: MockClock) -> None:
    await world.start()
    await trio.sleep(1)
    world.database.takes = 1000.0
    await until(lambda: "forfeit" in world.runs.said, within=LEASE_S)


async def test_a_lease_counts_from_when_its_heartbeat_was_sent_not_answered(
    world: World, autojump_clock: MockClock
) -> None:
    await world.start()
    await trio.sleep(BEAT_S + 0.5)
    asked = trio.current_time()
    world.database.takes = 3.0
    await trio.sleep(BEAT_S + 3.5)
    assert world.lease.ends <= asked + BEAT_S + LEASE_S


async def test_an_outage_shorter_than_the_lease_stops_nothing(world: World, autojump_clock: MockClock) -> None:
    await world.start()
    await trio.sleep(1)
    world.database.away = True
    await trio.sleep(LEASE_S - MARGIN_S - BEAT_S - 1)
    world.database.away = False
    await trio.sleep(2 * LEASE_S)
    assert "forfeit" not in world.runs.said


async def test_after_the_outage_a_new_lease_is_taken_once_the_old_runs_have_ended(
    world: World, autojump_clock: MockClock
) -> None:
    await world.start()
    old = world.lease.id
    world.database.away = True
    world.runs.recorded = trio.Event()
    await until(lambda: "forfeit" in world.runs.said, within=2 * LEASE_S)
    world.database.away = False
    await trio.sleep(5)
    assert not world.lease.held, "it must not claim before its old runs are told"
    world.runs.recorded.set()
    await until(lambda: world.lease.held, within=5)
    assert world.lease.id != old
    assert world.runs.said[1:] == ["forfeit", "settled", f"resume {world.lease.id}"]
    assert world.database.left == [old]
    await trio.sleep(3 * LEASE_S)
    assert world.exits == []


async def test_a_lease_that_others_have_found_ended_is_not_renewed(world: World, autojump_clock: MockClock) -> None:
    await world.start()
    old = world.lease.id
    del world.database.ends[old]
    await until(lambda: "forfeit" in world.runs.said, within=2 * BEAT_S)
    await until(lambda: world.lease.held, within=2 * BEAT_S)
    assert old not in world.database.ends
    assert world.lease.id in world.database.ends


async def test_where_others_have_found_it_ended_a_function_in_a_thread_ends_with_the_process_at_once(
    world: World, autojump_clock: MockClock
) -> None:
    world.runs.unwinds, world.runs.in_a_thread = math.inf, True
    await world.start()
    del world.database.ends[world.lease.id]
    await until(lambda: "forfeit" in world.runs.said, within=2 * BEAT_S)
    await until(lambda: bool(world.exits), within=0.2)


async def test_a_process_whose_event_loop_stands_still_ends_before_its_lease(
    world: World, autojump_clock: MockClock
) -> None:
    moved = 0.0
    world.lease._now = lambda: trio.current_time() + moved
    await world.start()
    moved = world.lease.ends - LAST_S - 0.1 - trio.current_time()
    world.lease.stuck()
    assert world.exits == []
    moved += 0.2
    world.lease.stuck()
    assert len(world.exits) == 1


async def test_one_that_has_lost_its_lease_knows_itself_when_it_has_to_end(
    world: World, autojump_clock: MockClock
) -> None:
    await world.start()
    world.database.away = True
    await until(lambda: not world.lease.held, within=2 * LEASE_S)
    await trio.sleep(LEASE_S)
    world.lease.stuck()
    assert world.exits == []


async def test_one_whose_clean_up_blocks_the_event_loop_ends_when_its_lease_does(
    world: World, autojump_clock: MockClock
) -> None:
    world.runs.unwinds = math.inf
    await world.start()
    world.database.away = True
    await until(lambda: not world.lease.held, within=2 * LEASE_S)
    world.lease.stuck()
    assert world.exits == [], "it has its time to unwind"
    moved = world.lease.ends - LAST_S - trio.current_time()
    world.lease._now = lambda: trio.current_time() + moved
    world.lease.stuck()
    assert len(world.exits) == 1


async def test_after_a_freeze_runs_are_stopped_before_any_task_goes_on(world: World, autojump_clock: MockClock) -> None:
    steps: list[list[str]] = []

    async def handler() -> None:
        await trio.sleep(BEAT_S / 2)
        steps.append(list(world.runs.said))

    frozen = 0.0
    world.lease._now = lambda: trio.current_time() + frozen
    await world.start()
    world.nursery.start_soon(handler)
    await trio.sleep(BEAT_S / 4)
    frozen = 2 * LEASE_S
    await trio.sleep(BEAT_S)
    assert steps[0][-1:] == ["forfeit"]


async def test_what_cannot_be_stopped_ends_with_the_process_before_its_job_runs_elsewhere(
    world: World, autojump_clock: MockClock
) -> None:
    world.runs.unwinds = math.inf
    await world.start()
    world.database.away = True
    await until(lambda: bool(world.exits), within=2 * LEASE_S)
    _, at = world.exits[0]
    assert at <= world.database.ends[world.lease.id] + 0.1


async def test_a_function_in_a_thread_is_waited_for_until_the_lease_ends(
    world: World, autojump_clock: MockClock
) -> None:
    world.runs.unwinds, world.runs.in_a_thread = MARGIN_S - 1.0, True
    await world.start()
    world.database.away = True
    await trio.sleep(2 * LEASE_S)
    assert "forfeit" in world.runs.said
    assert world.exits == []


async def test_after_a_freeze_a_function_in_a_thread_ends_with_the_process_at_once(
    world: World, autojump_clock: MockClock
) -> None:
    frozen = 0.0
    world.lease._now = lambda: trio.current_time() + frozen
    world.runs.unwinds, world.runs.in_a_thread = math.inf, True
    await world.start()
    await trio.sleep(1)
    frozen = 2 * LEASE_S
    thawed = trio.current_time()
    await until(lambda: bool(world.exits), within=1)
    assert world.exits[0][1] <= thawed + 0.2


async def test_after_a_freeze_an_async_handler_gets_its_time_to_unwind(world: World, autojump_clock: MockClock) -> None:
    frozen = 0.0
    world.lease._now = lambda: trio.current_time() + frozen
    world.runs.unwinds = 1.5
    await world.start()
    await trio.sleep(1)
    frozen = 2 * LEASE_S
    await trio.sleep(10)
    assert "forfeit" in world.runs.said
    assert world.exits == []


async def test_one_leads_and_another_takes_over_within_ten_seconds(world: World, autojump_clock: MockClock) -> None:
    await world.start()
    other = world.another(Runs())
    await trio.sleep(0.5)
    await world.start(other)
    await trio.sleep(20)
    assert (world.lease.leader, other.leader) == (True, False)
    world.lease._store = _Gone()
    stopped = trio.current_time()
    await until(lambda: other.leader, within=10)
    assert not world.lease.leader, "two lead at once"
    assert trio.current_time() - stopped <= TERM_S + BEAT_S


class _Gone(Database):
    async def _reach(self) -> None:
        raise StoreUnavailable("cut off")


async def test_a_process_that_stops_while_handlers_go_on_keeps_its_lease_and_ends_before_it(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Timer:
        daemon = False

        def __init__(self, *what: Any) -> None:
            self.what = what

        def start(self) -> None:
            begun.append((*self.what, self.daemon))

    begun: list[Any] = []
    monkeypatch.setattr(threading, "Timer", Timer)
    await world.start()
    await trio.sleep(1)
    left = world.lease.ends - trio.current_time()
    going = True
    world.lease.abandon(lambda: going)
    await trio.sleep(3 * LEASE_S)
    assert world.database.left == []
    ((after, end, daemon),) = begun
    assert after == pytest.approx(left - LAST_S)
    assert daemon
    end()
    assert len(world.exits) == 1
    going = False
    end()
    assert len(world.exits) == 1, "it has stopped well, and may go on"


async def test_a_process_that_leaves_says_so(world: World, autojump_clock: MockClock) -> None:
    await world.start()
    await world.lease.give_up()
    assert world.database.left == [world.lease.id]
    assert not world.lease.held


@pytest.mark.parametrize("after", [1.0, BEAT_S], ids=["between two heartbeats", "in the middle of one"])
async def test_a_process_that_has_left_takes_no_other_lease_while_it_goes_on(
    world: World, autojump_clock: MockClock, after: float
) -> None:
    """The rest of a stop takes its time, and nobody would give that lease up."""
    await world.start()
    await trio.sleep(after)
    world.database.takes = 0.3
    await trio.sleep(0.1)
    await world.lease.give_up()
    left = world.lease.id
    await trio.sleep(10 * BEAT_S)
    assert world.database.left == [left]
    assert world.database.ends == {}
    assert world.runs.said == [f"resume {left}"]
    assert world.exits == []


async def test_where_no_lease_is_needed_the_one_process_leads_for_ever(world: World, autojump_clock: MockClock) -> None:
    world.database.lease_s = None
    lease = world.another(world.runs)
    await world.start(lease)
    await trio.sleep(0.1)
    world.database.away = True
    await trio.sleep(100 * LEASE_S)
    assert lease.held
    assert lease.leader
    assert "forfeit" not in world.runs.said
