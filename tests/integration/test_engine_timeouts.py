"""Runs that take longer than they may."""
# ruff: noqa: F811  (fixtures are imported by name)

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from engine_kit import engine, wait_for
from gate_kit import Gate, begin, gate  # noqa: F401

from jobctl import Context
from jobctl.engine import overdue
from jobctl.engine.registry import Registry
from jobctl.errors import StoreUnavailable
from jobctl.store.base import End


async def test_an_async_handler_that_takes_too_long_fails_and_is_tried_again(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("slow")
    async def slow(ctx: Context) -> None:
        await trio.sleep(60)

    async with engine(tmp_path, registry) as e:
        job = await e.until(await e.enqueue("slow", timeout=0.05, max_attempts=2), "retrying")
    assert (job.error, job.attempts) == ("timed out after 0.05 s", 1)


async def test_time_outs_follow_trios_clock(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    registry, begun = Registry(), trio.Event()

    @registry.job("slow")
    async def slow(ctx: Context) -> None:
        begun.set()
        await trio.sleep_forever()

    mock_clock.rate = 1
    async with engine(tmp_path, registry) as e:
        job_id = await begin(e, "slow", timeout=3600)
        await begun.wait()  # its time counts from here, a little after the store has it running
        mock_clock.jump(3590)
        await trio.sleep(0.05)
        assert (await e.job(job_id)).status == "running"
        mock_clock.jump(10)
        assert (await e.until(job_id)).error == "timed out after 3600 s"


async def test_an_error_while_the_time_out_unwinds_is_told_too(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("slow")
    async def slow(ctx: Context) -> None:
        try:
            await trio.sleep(60)
        finally:
            raise ValueError("and cleaning up failed")

    async with engine(tmp_path, registry) as e:
        job = await e.run("slow", timeout=0.05)
    assert (job.error or "").startswith("timed out after 0.05 s\nValueError: and cleaning up failed")


async def test_a_thread_past_its_time_is_told_at_once_keeps_its_slot_and_is_not_started_twice(
    tmp_path: Path, gate: Gate
) -> None:
    registry = Registry()
    registry.job("stuck")(gate)
    registry.job("other")(lambda ctx: 1)
    async with engine(tmp_path, registry, concurrency=2) as e:
        e.runner._executor._draw = lambda: 0.0
        job = await e.until(await e.enqueue("stuck", timeout=0.05, max_attempts=2), "retrying")
        assert job.error == "timed out after 0.05 s; it cannot be stopped and goes on"
        assert e.runner.held == (job.id,)
        assert e.runner.free == 1
        assert (await e.run("other")).status == "completed"
        await trio.sleep(0.1)
        assert gate.entered == 1
        assert (await e.job(job.id)).status == "retrying"
        gate.opened.set()
        await wait_for(lambda: gate.entered == 2)
        done = await e.until(job.id)
        assert (done.status, done.attempts) == ("completed", 2)
        assert e.runner.held == ()
        await wait_for(lambda: e.runner.free == 2)


async def test_with_all_slots_held_nothing_is_started(tmp_path: Path, gate: Gate) -> None:
    registry = Registry()
    registry.job("stuck")(gate)
    registry.job("other")(lambda ctx: 1)
    async with engine(tmp_path, registry, concurrency=1) as e:
        await e.run("stuck", timeout=0.05)
        other = await e.enqueue("other")
        await trio.sleep(0.1)
        assert (await e.job(other)).status == "pending"
        gate.opened.set()
        assert (await e.until(other)).status == "completed"


async def test_a_thread_that_has_not_begun_when_its_time_is_up_never_begins(tmp_path: Path, gate: Gate) -> None:
    registry = Registry()
    registry.job("stuck")(gate)
    async with engine(tmp_path, registry, concurrency=1) as e:
        e.runner._executor._threads.total_tokens = 1
        await e.runner._executor._threads.acquire_on_behalf_of("somebody")
        job = await e.run("stuck", timeout=0.05)
        assert job.error == "timed out after 0.05 s"
        assert e.runner.held == ()
        e.runner._executor._threads.release_on_behalf_of("somebody")
    assert gate.entered == 0


async def test_a_thread_that_begins_when_its_run_is_over_does_nothing(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()
    registry.job("stuck")(gate)
    late: list[Callable[[], None]] = []

    async def never_scheduled(call: Callable[[], None], **more: object) -> None:
        late.append(call)
        await trio.sleep_forever()

    async with engine(tmp_path, registry) as e:
        real = trio.to_thread.run_sync
        job_id = await e.enqueue("stuck", timeout=0.05)
        monkeypatch.setattr(trio.to_thread, "run_sync", never_scheduled)
        await wait_for(lambda: late)
        await wait_for(lambda: not e.runner.live)
        monkeypatch.undo()
        await real(late[0])
        assert (await e.job(job_id)).error == "timed out after 0.05 s"
    assert gate.entered == 0


async def test_an_async_handler_that_shields_itself_is_told_keeps_its_slot_and_is_released_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "UNWIND_S", 0.1)
    monkeypatch.setattr(overdue, "WATCH_S", 0.02)
    registry = Registry()
    go_on, entered = trio.Event(), 0

    @registry.job("stubborn")
    async def stubborn(ctx: Context) -> str:
        nonlocal entered
        entered += 1
        with trio.CancelScope(shield=True):
            await go_on.wait()
        return "at last"

    async with engine(tmp_path, registry) as e:
        e.runner._executor._draw = lambda: 0.0
        job = await e.until(await e.enqueue("stubborn", timeout=0.05, max_attempts=2), "retrying")
        assert job.error == "timed out after 0.05 s; it does not stop"
        assert e.runner.held == (job.id,)
        await trio.sleep(0.05)
        assert entered == 1
        go_on.set()
        done = await e.until(job.id)
        assert (done.status, done.attempts, entered) == ("completed", 2, 2)
        await wait_for(lambda: not e.runner.live)


async def test_a_handler_that_needs_a_moment_to_clean_up_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "WATCH_S", 0.02)
    registry = Registry()

    @registry.job("tidy")
    async def tidy(ctx: Context) -> None:
        try:
            await trio.sleep(60)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.2)

    async with engine(tmp_path, registry) as e:
        job = await e.run("tidy", timeout=0.05)
    assert job.error == "timed out after 0.05 s"


async def test_an_outcome_that_waits_for_the_store_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "UNWIND_S", 0.01)
    monkeypatch.setattr(overdue, "WATCH_S", 0.02)
    registry = Registry()

    @registry.job("fine")
    async def fine(ctx: Context) -> str:
        return "done"

    async with engine(tmp_path, registry) as e:
        real, away = e.store.claim, True

        async def claim(*arguments: object, ends: Sequence[End] = (), **more: object) -> object:
            if ends and away:
                raise StoreUnavailable("away")
            return await real(*arguments, ends=ends, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(e.store, "claim", claim)
        job_id = await begin(e, "fine", timeout=0.1)
        await trio.sleep(0.3)
        assert e.runner.held == ()
        away = False
        assert (await e.until(job_id)).status == "completed"
