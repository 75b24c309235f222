"""What becomes of runs when the process has lost its lease: stopped at once, told to the store, and no more claimed."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio
from engine_kit import PATIENCE_S, add_command, engine, wait_for

from jobctl.engine.forfeit import Holding
from jobctl.engine.registry import Registry
from jobctl.engine.slots import Slots

NEXT = "host:1:next"


async def test_an_async_handler_is_cancelled_and_its_job_given_back_without_an_attempt(tmp_path: Path) -> None:
    registry, said, begun = Registry(), [], trio.Event()

    @registry.job("hold")
    async def hold(ctx: Any) -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            said.append(ctx.cancelled)

    async with engine(tmp_path, registry) as e:
        job_id = await e.enqueue("hold")
        await e.until(job_id, "running")
        await begun.wait()  # the store knows of a run before its handler does
        e.runner.holding.forfeit()
        job = await e.until(job_id, "pending")
        assert said == [True]
        assert job.attempts == 0
        await trio.sleep(0.1)
        assert (await e.job(job_id)).status == "pending", "nothing is claimed without a lease"
        with trio.fail_after(PATIENCE_S):
            await e.runner.holding.settled()
        e.runner.holding.resume(NEXT)
        assert (await e.until(job_id, "running")).processing_by == NEXT


async def test_jobs_that_come_meanwhile_wait_for_the_next_lease(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("quick")
    async def quick(ctx: Any) -> None: ...

    async with engine(tmp_path, registry) as e:
        await e.run("quick")
        await wait_for(lambda: e.runner.resting)
        e.runner.holding.forfeit()
        with trio.fail_after(PATIENCE_S):
            await e.runner.holding.settled()
        job_id = await e.enqueue("quick")
        await trio.sleep(0.1)
        assert (await e.job(job_id)).status == "pending"
        e.runner.holding.resume(NEXT)
        assert (await e.until(job_id)).processing_by == NEXT


async def test_a_program_is_killed_at_once_without_a_grace_time(tmp_path: Path) -> None:
    registry = Registry()
    add_command(registry, "deaf", "sh", "-c", "trap '' TERM; echo ready; sleep 60 & wait; wait")
    async with engine(tmp_path, registry) as e:
        job_id = await e.enqueue("deaf")
        await e.until(job_id, "running")
        with trio.fail_after(PATIENCE_S):
            while "ready" not in await e.log(job_id):
                await trio.sleep(0.01)
        began = time.monotonic()
        e.runner.holding.forfeit()
        await e.until(job_id, "pending")
        assert time.monotonic() - began < 10, "it was waited for"
        assert e.runner.holding.unfinished == ()


async def test_a_function_in_a_thread_is_told_and_shown_as_unstoppable_until_it_ends(tmp_path: Path) -> None:
    registry, begun, go_on, seen = Registry(), trio.Event(), trio.Event(), []
    loop = trio.lowlevel.current_trio_token()

    @registry.job("thread")
    def thread(ctx: Any) -> None:
        trio.from_thread.run_sync(begun.set, trio_token=loop)
        trio.from_thread.run(go_on.wait, trio_token=loop)
        seen.append(ctx.cancelled)

    async with engine(tmp_path, registry) as e:
        job_id = await e.enqueue("thread")
        await e.until(job_id, "running")
        await begun.wait()  # the store knows of a run before its handler does
        e.runner.holding.forfeit()
        await wait_for(lambda: e.runner.holding.unstoppable == (job_id,))
        assert e.runner.holding.unfinished == (job_id,)
        with trio.move_on_after(0.1) as waited:
            await e.runner.holding.settled()
        assert waited.cancelled_caught, "it could claim again beside the function that still runs"
        assert (await e.job(job_id)).status == "running", "its job could be started elsewhere beside it"
        go_on.set()
        await wait_for(lambda: e.runner.holding.unfinished == ())
        with trio.fail_after(PATIENCE_S):
            await e.runner.holding.settled()
        assert seen == [True]
        job = await e.job(job_id)
        assert (job.status, job.attempts) == ("pending", 0)


async def test_a_program_that_cannot_be_killed_keeps_no_lease_away() -> None:
    slots, run = Slots(1, {}), SimpleNamespace(job=SimpleNamespace(id="a", queue="q"))
    slots.take(run)  # type: ignore[arg-type]
    slots.held.add("a")
    with trio.fail_after(PATIENCE_S):
        await Holding("host:1", slots, busy=lambda: False, call=lambda: None).settled()


async def test_a_handler_that_shields_itself_is_shown_as_unfinished_until_it_ends(tmp_path: Path) -> None:
    registry, begun, go_on = Registry(), trio.Event(), trio.Event()

    @registry.job("shield")
    async def shield(ctx: Any) -> None:
        with trio.CancelScope(shield=True):
            begun.set()
            await go_on.wait()

    async with engine(tmp_path, registry) as e:
        job_id = await e.enqueue("shield")
        await e.until(job_id, "running")
        await begun.wait()
        e.runner.holding.forfeit()
        await trio.sleep(0.1)
        assert (e.runner.holding.unfinished, e.runner.holding.unstoppable) == ((job_id,), ())
        go_on.set()
        await wait_for(lambda: e.runner.holding.unfinished == ())
