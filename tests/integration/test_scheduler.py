"""The scheduler over a real store: one job a tick, whatever the clock and the process do. The clock is moved."""
# ruff: noqa: F811  (fixtures are imported by name)

import os
import signal
import sys

import msgspec
import pytest
import trio
from scheduler_kit import DAY, HOUR, MINUTE, NOON, World, ms, world  # noqa: F401

from jobctl.engine.scheduler import LOOK_EVERY_S, Scheduler
from jobctl.errors import StoreUnavailable

# --- ticks ---------------------------------------------------------------------------------------------------------


async def test_a_tick_enqueues_the_job_with_the_handlers_wishes(world: World) -> None:
    async with world.server():
        await world.add(data=b'{"depth":3}', queue="night", priority=4, tags=("t",))
        assert await world.scheduler.look() == pytest.approx(60, abs=0.01)
        assert await world.runs() == 0
        world.clock.ms += MINUTE
        await world.scheduler.look()
        (job,) = await world.jobs()
        assert (job.name, job.queue, job.priority, job.tags) == ("backup", "night", 4, ("t",))
        assert (job.timeout, job.max_attempts, job.created_by) == (12.5, 7, "schedule:s")
        assert msgspec.json.decode(msgspec.json.encode(job.data)) == {"depth": 3}
        assert (await world.state()).next_run == NOON + 2 * MINUTE


async def test_the_schedules_own_limits_win_over_the_handlers(world: World) -> None:
    async with world.server():
        await world.add(timeout=1.0, max_attempts=1)
        world.clock.ms += MINUTE
        await world.scheduler.look()
        (job,) = await world.jobs()
        assert (job.timeout, job.max_attempts) == (1.0, 1)


@pytest.mark.parametrize("step", [700, 20_000, 59_000])
async def test_there_is_one_job_a_minute_however_often_it_looks(world: World, step: int) -> None:
    async with world.server():
        await world.add()
        await world.look_through(NOON + 10 * MINUTE + 30_000, step)
        assert await world.runs() == 10


async def test_it_sleeps_until_the_next_tick_but_a_minute_at_most(world: World) -> None:
    async with world.server():
        assert await world.scheduler.look() == LOOK_EVERY_S
        await world.add("0 13 * * *", name="hourly")
        assert await world.scheduler.look() == LOOK_EVERY_S
        world.clock.ms = NOON + HOUR - 1500
        assert await world.scheduler.look() == pytest.approx(1.501)
        await world.add("* * * * *", name="off", enabled=False)
        assert await world.scheduler.look() == pytest.approx(1.501)


async def test_more_than_one_batch_is_due_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobctl.engine.scheduler.BATCH", 3)
    async with world.server():
        for n in range(7):
            await world.add(name=f"s{n}")
        world.clock.ms += MINUTE
        waits = [await world.scheduler.look() for _ in range(3)]
        assert waits[:2] == [0.0, 0.0]
        assert waits[2] > 59
        assert await world.runs() == 7


async def test_it_wakes_for_a_schedule_that_is_new_or_changed(world: World) -> None:
    class Looks(Scheduler):
        async def look(self) -> float:
            wait = await super().look()
            looked.set()
            return wait

    looked = trio.Event()
    async with world.server(), trio.open_nursery() as nursery:
        scheduler = Looks(world.store, world.registry, clock=world.clock)
        await nursery.start(scheduler.run)
        await looked.wait()  # and sleeps for a minute now
        world.store.listen(scheduler.on_commit)
        await world.add("* * * * *")
        world.clock.ms += MINUTE
        await world.add("0 0 1 1 *", name="other")
        with trio.fail_after(20):
            while not await world.runs():
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()


async def test_it_goes_on_after_a_failure(world: World, caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Scheduler):
        async def look(self) -> float:
            looks.append(trio.current_time())
            raise StoreUnavailable("the disk is full") if len(looks) == 1 else ValueError("a defect")

    looks: list[float] = []
    async with world.server(), trio.open_nursery() as nursery:
        scheduler = Fails(world.store, world.registry, clock=world.clock)
        await nursery.start(scheduler.run)
        with trio.fail_after(20):
            while len(looks) < 2:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert looks[1] - looks[0] >= 1
    assert "the disk is full" in caplog.text
    assert "a defect" in caplog.text


# --- restarts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("missed", "expected"), [("skip", 0), ("once", 1)])
async def test_runs_that_were_missed_while_no_server_ran(world: World, missed: str, expected: int) -> None:
    async with world.server():
        await world.add("0 * * * *", missed=missed)
    world.clock.ms += 5 * HOUR + 10 * MINUTE
    async with world.server():
        await world.scheduler.look()
        assert await world.runs() == expected
        assert (await world.state()).next_run == NOON + 6 * HOUR
    async with world.server():
        await world.scheduler.look()
        assert await world.runs() == expected, "what was missed is made up for once"


async def test_a_restart_in_the_middle_of_a_tick_neither_loses_nor_doubles_it(world: World) -> None:
    async with world.server():
        await world.add("0 * * * *")
    world.clock.ms += HOUR + 20_000
    for _ in range(3):
        async with world.server():
            await world.scheduler.look()
    async with world.server():
        assert await world.runs() == 1


KILLED = """
import os, signal, sys, trio
from pathlib import Path
from jobctl.engine.registry import Registry
from jobctl.engine.scheduler import Scheduler
from jobctl.store import schedule_writes
from jobctl.store.sqlite import open_store

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    folder, now, when = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    registry = Registry()
    registry.job("backup")(lambda ctx: None)
    async with open_store(folder / "jobs.db", state_dir=folder / "state") as store:
        store.clock = lambda: now
        if when == "before the commit":
            schedule_writes._forget_ticks = die
        else:
            store.listen(die)
        await Scheduler(store, registry, clock=store.clock).look()

trio.run(main)
"""


@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
async def test_a_server_that_is_killed_in_mid_tick_neither_loses_nor_doubles_it(world: World, when: str) -> None:
    async with world.server():
        await world.add("0 * * * *")
    world.clock.ms += HOUR + 1000
    killed = await trio.run_process(
        [sys.executable, "-c", KILLED, str(world.path), str(world.clock.ms), when],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
        capture_stderr=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    async with world.server():
        assert await world.runs() == (0 if when == "before the commit" else 1)
        for _ in range(3):
            await world.scheduler.look()
            assert await world.runs() == 1


async def test_ten_servers_in_a_row_make_one_job_a_tick(world: World) -> None:
    async with world.server():
        await world.add()
    for _ in range(10):
        async with world.server():
            await world.look_through(world.clock.ms + 45_000, 15_000)
    async with world.server():
        assert await world.runs() == (world.clock.ms - NOON) // MINUTE


# --- the clock -----------------------------------------------------------------------------------------------------


async def test_a_clock_that_is_set_back_runs_no_tick_twice(world: World) -> None:
    async with world.server():
        await world.add()
        await world.look_through(NOON + 30 * MINUTE, 20_000)
        assert await world.runs() == 30
        world.clock.ms -= 20 * MINUTE
        await world.scheduler.look()
        await world.look_through(NOON + 40 * MINUTE, 20_000)
        assert await world.runs() == 40


async def test_a_clock_that_is_set_is_noticed_without_waiting_for_the_next_look(world: World) -> None:
    """What was planned by the old time is planned anew, in both directions, and no tick runs twice."""
    async with world.server(), trio.open_nursery() as nursery:
        await world.add("0 * * * *", missed="once")
        await nursery.start(world.scheduler.run)
        for hours, runs in ((1, 1), (-5, 1), (5, 1), (1, 2)):
            world.clock.ms += hours * HOUR
            world.scheduler.look_again()
            planned = world.clock.ms + HOUR
            with trio.fail_after(20):
                while (await world.state()).next_run != planned:
                    await trio.sleep(0.005)
            assert await world.runs() == runs
        nursery.cancel_scope.cancel()


async def test_a_clock_that_is_set_back_across_a_restart_runs_no_tick_twice(world: World) -> None:
    async with world.server():
        await world.add()
        await world.look_through(NOON + 30 * MINUTE, 20_000)
    world.clock.ms -= 20 * MINUTE
    async with world.server():
        await world.look_through(NOON + 40 * MINUTE, 20_000)
        assert await world.runs() == 40


async def test_a_clock_that_was_ahead_for_a_while_does_not_stop_a_schedule_until_then(world: World) -> None:
    async with world.server():
        await world.add("0 * * * *")
        await world.look_through(NOON + 3 * HOUR, HOUR)
        world.clock.ms += 365 * DAY
        await world.scheduler.look()
        ahead = await world.runs()
        assert ahead in (3, 4)
        world.clock.ms -= 365 * DAY
        await world.scheduler.look()
        assert (await world.state()).next_run == NOON + 4 * HOUR
        await world.look_through(NOON + 6 * HOUR, HOUR)
        assert await world.runs() == ahead + 3


async def test_a_clock_that_jumps_ahead_runs_a_schedule_once_at_most(world: World) -> None:
    async with world.server():
        await world.add(missed="once")
        await world.look_through(NOON + 2 * MINUTE, MINUTE)
        world.clock.ms += 5 * HOUR
        await world.scheduler.look()
        await world.scheduler.look()
        assert await world.runs() == 3


async def test_next_runs_are_worked_out_anew_when_the_rules_of_a_time_zone_have_changed(world: World) -> None:
    async with world.server():
        await world.add("0 13 * * *")
        before = await world.state()
        world.store._connection.execute("UPDATE schedule SET next_run = next_run + 3600000")
    async with world.server():
        await world.scheduler.look()
        assert (await world.state()).next_run == before.next_run


async def test_the_hour_that_comes_twice_runs_once(world: World) -> None:
    world.clock.ms = ms("2026-10-24T22:00:00")
    async with world.server():
        await world.add("30 2 * * *", timezone="Europe/Berlin")
        await world.look_through(ms("2026-10-25T06:00:00"), 10 * MINUTE)
        assert await world.runs() == 1
        assert (await world.state()).last_run == ms("2026-10-25T00:30:00")
