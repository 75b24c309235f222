"""What a schedule does when it is looked at, schedules that cannot run, and those of the configuration."""
# ruff: noqa: F811  (fixtures are imported by name)

from typing import Any

import pytest
from scheduler_kit import DAY, HOUR, MINUTE, NOON, World, handlers, ms, world  # noqa: F401

from jobctl.cron import Cron
from jobctl.engine import schedules
from jobctl.engine.registry import Registry
from jobctl.engine.scheduler import ON_TIME_MS, Plan, plan
from jobctl.errors import ConfigError
from jobctl.upkeep_settings import ScheduleSettings

# --- the plan ------------------------------------------------------------------------------------------------------

EVERY_MINUTE, NIGHTLY = Cron("* * * * *"), Cron("0 2 * * *")
TWO = ms("2026-06-02T02:00:00")


@pytest.mark.parametrize(
    ("cron", "due", "now", "missed", "expected"),
    [
        (NIGHTLY, TWO, TWO - 1, "skip", Plan(None, TWO)),
        (NIGHTLY, TWO, TWO, "skip", Plan(TWO, TWO + DAY)),
        (NIGHTLY, TWO, TWO + ON_TIME_MS, "skip", Plan(TWO, TWO + DAY)),  # a restart may take a while
        (NIGHTLY, TWO, TWO + ON_TIME_MS + 1, "skip", Plan(None, TWO + DAY)),
        (NIGHTLY, TWO, TWO + ON_TIME_MS + 1, "once", Plan(TWO, TWO + DAY)),
        (NIGHTLY, TWO, TWO + 3 * DAY + HOUR, "skip", Plan(None, TWO + 4 * DAY)),
        (NIGHTLY, TWO, TWO + 3 * DAY + HOUR, "once", Plan(TWO + 3 * DAY, TWO + 4 * DAY)),  # one for all four
        (NIGHTLY, TWO, TWO + 3 * DAY + 5, "once", Plan(TWO + 3 * DAY, TWO + 4 * DAY)),  # the last is on time
        (NIGHTLY, TWO, TWO + 3 * DAY + 5, "skip", Plan(TWO + 3 * DAY, TWO + 4 * DAY)),
        (EVERY_MINUTE, NOON, NOON + 10 * HOUR + 30_000, "skip", Plan(NOON + 10 * HOUR, NOON + 10 * HOUR + MINUTE)),
        (NIGHTLY, TWO + 5, TWO + 6, "once", Plan(None, TWO + DAY)),  # due at what is no tick any more (time zones)
    ],
)
def test_what_a_schedule_does_when_it_is_looked_at(cron: Cron, due: int, now: int, missed: Any, expected: Plan) -> None:
    assert plan(cron, due, now, missed) == expected


# --- what cannot run -----------------------------------------------------------------------------------------------


async def test_a_schedule_whose_handler_is_gone_says_so_and_goes_on_when_it_is_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.server():
        await world.add()
        known, world.registry = world.registry, Registry()
    async with world.server():
        world.clock.ms += MINUTE
        await world.scheduler.look()
        assert (await world.runs(), (await world.state()).next_run) == (0, NOON + 2 * MINUTE)
        assert "no handler named 'backup'" in ((await world.state()).error or "")
        assert "schedule s could enqueue nothing" in caplog.text
    world.registry = known
    async with world.server():
        world.clock.ms += MINUTE
        await world.scheduler.look()
        assert (await world.runs(), (await world.state()).error) == (1, None)


async def test_a_time_zone_that_the_machine_has_lost_stops_that_schedule_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.server():
        await world.add(timezone="Europe/Berlin", name="lost")
        await world.add(name="fine")
        monkeypatch.setattr("jobctl.cron.zoneinfo.ZoneInfo", lambda name: {}[name])
        monkeypatch.setattr("jobctl.cron.zoneinfo.ZoneInfoNotFoundError", KeyError)
        from jobctl.cron import zone

        zone.cache_clear()
        world.clock.ms += MINUTE
        await world.scheduler.look()
        lost = await world.state("lost")
        assert (lost.next_run, await world.runs()) == (None, 1)
        assert "there is no time zone 'Europe/Berlin'" in (lost.error or "")
        monkeypatch.undo()
    async with world.server():
        await world.scheduler.look()
        assert (await world.state("lost")).next_run == NOON + 2 * MINUTE


# --- the configuration ---------------------------------------------------------------------------------------------


def said(**fields: Any) -> ScheduleSettings:
    return ScheduleSettings(**{"cron": "@daily", "job": "backup"} | fields)


async def test_the_configurations_schedules_are_there_after_the_start(world: World) -> None:
    specs = schedules.configured({"a": said(data={"depth": 2}, missed="once", tags=("x",))}, world.registry)
    async with world.server():
        await schedules.sync(world.store, specs, clock=world.clock)
        state = await world.state("a")
        assert (state.source, state.spec.data, state.spec.missed) == ("config", b'{"depth":2}', "once")
        assert (state.spec.tags, state.next_run) == (("x",), NOON + 12 * HOUR)
        await schedules.sync(world.store, [], clock=world.clock)
        assert (await world.store.schedules.all()).value == ()


async def test_a_name_that_the_api_has_taken_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with world.server():
        await world.add(name="a")
        await schedules.sync(world.store, schedules.configured({"a": said()}, world.registry), clock=world.clock)
        assert "jobctl schedules remove a" in caplog.text


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"job": "nope"}, r"schedules\.a: no handler named 'nope'; this server knows: backup"),
        ({"data": {"width": 1}}, r"schedules\.a: backup has no field 'width'"),
        ({"data": {"depth": float("nan")}}, r"schedules\.a: data\.depth is NaN"),
        ({"data": {"depth": "x" * 70_000}}, r"schedules\.a: data has 7\d+ bytes"),
    ],
)
def test_a_schedule_that_cannot_work_stops_the_start(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        schedules.configured({"a": said(**fields)}, handlers())
