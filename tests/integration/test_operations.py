"""Readiness, the watchdog and the clock, on a server that runs."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import trio
from operations_kit import http, scrape  # noqa: F401

from jobctl import database
from jobctl.engine.registry import Registry
from jobctl.errors import RetryAfter
from jobctl.schedule import ScheduleSpec
from tests.kit import Running, StartServer, until

# --- readiness -----------------------------------------------------------------------------------------------------


async def not_ready(http: httpx2.AsyncClient) -> list[str]:
    answer = await http.get("/readyz")
    reasons: list[str] = answer.json().get("reasons", [])
    assert (answer.status_code == 200) == (not reasons)
    return reasons


async def test_readyz_says_why_not(
    server: Running, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await not_ready(http) == []
    monkeypatch.setattr(database, "free_bytes", lambda _: 5 * 2**20)
    (reason,) = await not_ready(http)
    assert reason.startswith("the disk is nearly full (5 MiB left")
    server.store.committer.trouble = "Full: database or disk is full"  # type: ignore[attr-defined]
    (reason,) = await not_ready(http)
    assert reason == "the database cannot take writes (Full: database or disk is full)"
    server.store.committer.trouble = None  # type: ignore[attr-defined]
    monkeypatch.undo()
    for _ in range(3):
        server.service.engine.watchdog.beat(2.0)
    (reason,) = await not_ready(http)
    assert reason == "the event loop was held up for 6 of the last 10 s"
    server.service._stop.set()
    assert server.service.not_ready()[0] == "the server is stopping"


def test_free_space_is_that_of_the_databases_disk(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    assert abs(database.free_bytes(tmp_path / "x.db") - free.f_bavail * free.f_frsize) < 2**30
    assert database.free_bytes(tmp_path / "gone" / "x.db") == 0


# --- the watchdog --------------------------------------------------------------------------------------------------


async def test_a_job_that_blocks_the_event_loop_is_named_while_it_does(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()
    seen = trio.Event()

    @registry.job("blocker")
    async def blocker(ctx: Any) -> None:
        end = time.monotonic() + 10
        while time.monotonic() < end and not any("blocks it" in each.getMessage() for each in caplog.records):
            time.sleep(0.01)  # noqa: ASYNC251 - that is the point
        seen.set()

    server = await start_server(registry, health={"max_lag": 0.1})
    caplog.clear()
    (job_id,) = await server.enqueue(name="blocker")

    def told() -> list[Any]:
        """A busy machine may hold the event loop up as well, and then no job is named."""
        said = [each for each in caplog.records if each.name == "jobctl.watchdog"]
        return [each for each in said if "is no job" not in each.getMessage()]

    with trio.fail_after(15):
        await seen.wait()
        await until(lambda: len(told()) == 2)
        await until(lambda: server.service.metrics.stalls >= 1)
    for each, verb in zip(told(), ("blocks", "blocked"), strict=True):
        assert f"job {job_id} (blocker) {verb} it" in each.getMessage()
    first = told()[0]
    assert "in blocker" in first.stack
    assert "trio" not in first.stack
    value = await scrape(server.port)
    assert 1 <= value("jobctl_loop_stalls_total") <= server.service.metrics.stalls
    assert value("jobctl_loop_stalled_seconds_total") >= 0.1


# --- the clock ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", ["a delayed job", "a schedule"])
async def test_a_clock_that_is_set_ahead_is_noticed_while_the_server_runs(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    """Neither waits for the minute in which it is looked for anyway."""
    monkeypatch.setattr("jobctl.engine.wall_clock.LOOK_EVERY_S", 0.01)
    registry = Registry()

    @registry.job("ok")
    def ok(ctx: object) -> None: ...

    server = await start_server(registry)
    hour = 3_600_000
    soon = time.time_ns() // 1_000_000 + hour // 2
    if waits == "a schedule":
        daily = ScheduleSpec(name="s", cron="@daily", timezone="UTC", job_name="ok")
        await server.store.schedules.add(daily, created_by="root", next_run=soon)
    else:
        await server.enqueue(name="ok", scheduled_for=soon)
    runner, scheduler = server.service.runner, server.service.engine.scheduler
    await until(lambda: runner.resting)  # they sleep
    await until(lambda: scheduler._seen is not None and scheduler._changed.statistics().tasks_waiting == 1)
    ahead = lambda: time.time_ns() // 1_000_000 + hour
    server.store.clock = scheduler._clock = ahead  # type: ignore[misc, attr-defined]
    server.service.engine.wall_clock._wall = lambda: ahead() / 1000
    with trio.fail_after(10):
        while waits == "a delayed job" and not (await server.store.stats(owner=None)).value.completed:
            await trio.sleep(0.01)
        while waits == "a schedule" and (await server.store.schedules.one("s")).value.next_run == soon:
            await trio.sleep(0.01)


async def test_a_clock_that_is_set_back_does_not_lengthen_a_backoff(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobctl.engine.wall_clock.LOOK_EVERY_S", 0.01)
    registry = Registry()

    @registry.job("second")
    def second(ctx: Any) -> None:
        if ctx.attempt == 1:
            raise RetryAfter(1.0)

    server = await start_server(registry)
    (job_id,) = await server.enqueue(name="second")

    async def status() -> str:
        return (await server.store.job(job_id, owner=None)).value.status.value

    async def retrying() -> bool:
        return await status() == "retrying"

    async def completed() -> bool:
        return await status() == "completed"

    await until(retrying)
    back = lambda: time.time_ns() // 1_000_000 - 7_200_000
    server.store.clock = back  # type: ignore[misc]
    clocks = SimpleNamespace(time=lambda: back() / 1000, perf_counter=time.perf_counter)
    monkeypatch.setattr("jobctl.engine.runner.time", clocks)
    server.service.engine.wall_clock._wall = lambda: back() / 1000
    await until(completed)
