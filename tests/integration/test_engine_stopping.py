"""Runs that are cancelled or do not stop; and the server's own stop."""
# ruff: noqa: F811  (fixtures are imported by name)

import contextlib
import threading
import time
from pathlib import Path

import pytest
import trio
import trio.testing
from engine_kit import PATIENCE_S, add_command, engine, wait_for
from gate_kit import Gate, begin, gate  # noqa: F401

from jobctl import Context
from jobctl.engine import runner as runner_module
from jobctl.engine.registry import Registry
from jobctl.errors import Conflict, StoreUnavailable

# --- cancel ----------------------------------------------------------------------------------------------------------


async def test_a_handler_that_sees_the_cancel_and_returns_is_cancelled(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("polite")
    async def polite(ctx: Context) -> str:
        while not ctx.cancelled:
            await trio.sleep(0.005)
        return "partial"

    @registry.job("polite-thread")
    def polite_thread(ctx: Context) -> str:
        while not ctx.cancelled:
            time.sleep(0.005)
        return "partial"

    async with engine(tmp_path, registry, cancel_grace=10) as e:
        for name in ("polite", "polite-thread"):
            job_id = await begin(e, name)
            asked = await e.store.cancel(job_id, owner=None)
            assert asked.cancel_requested
            job = await e.until(job_id)
            assert (job.status, job.attempts, job.error) == ("cancelled", 1, None)


async def test_a_handler_that_never_looked_and_returns_has_done_its_work(tmp_path: Path) -> None:
    registry = Registry()
    go_on = trio.Event()

    @registry.job("whole")
    async def whole(ctx: Context) -> str:
        await go_on.wait()
        return "all of it"

    async with engine(tmp_path, registry, cancel_grace=10) as e:
        job_id = await begin(e, "whole")
        await e.store.cancel(job_id, owner=None)
        go_on.set()
        job = await e.until(job_id)
    assert job.status == "completed"


async def test_a_handler_that_raises_after_the_cancel_is_cancelled_and_its_error_kept(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("raises")
    async def raises(ctx: Context) -> None:
        while not ctx.cancelled:
            await trio.sleep(0.005)
        raise RuntimeError("stopped half way")

    async with engine(tmp_path, registry, cancel_grace=10) as e:
        job_id = await begin(e, "raises", max_attempts=3)
        await e.store.cancel(job_id, owner=None)
        job = await e.until(job_id)
    assert job.status == "cancelled"
    assert (job.error or "").startswith("RuntimeError: stopped half way")


async def test_an_async_handler_that_does_not_look_is_cancelled_after_the_grace(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("deaf")
    async def deaf(ctx: Context) -> None:
        await trio.sleep(60)

    async with engine(tmp_path, registry, cancel_grace=0.15) as e:
        job_id = await begin(e, "deaf")
        began = trio.current_time()
        await e.store.cancel(job_id, owner=None)
        job = await e.until(job_id)
    assert job.status == "cancelled"
    assert trio.current_time() - began >= 0.15


async def test_a_thread_that_does_not_stop_is_cancelled_after_the_grace_and_keeps_its_slot(
    tmp_path: Path, gate: Gate
) -> None:
    registry = Registry()
    registry.job("stuck")(gate)
    async with engine(tmp_path, registry, cancel_grace=0.05) as e:
        job_id = await begin(e, "stuck")
        await wait_for(lambda: gate.entered)
        await e.store.cancel(job_id, owner=None)
        job = await e.until(job_id)
        assert (job.status, job.error) == ("cancelled", "asked to stop; it cannot be stopped and goes on")
        assert e.runner.held == (job_id,)
        await e.store.retry(job_id, owner=None)
        await trio.sleep(0.1)
        assert gate.entered == 1
        gate.opened.set()
        assert (await e.until(job_id)).status == "completed"
        assert gate.entered == 2


async def test_a_second_cancel_does_not_lengthen_the_grace(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("deaf")
    async def deaf(ctx: Context) -> None:
        await trio.sleep(60)

    async with engine(tmp_path, registry, cancel_grace=0.3) as e:
        job_id = await begin(e, "deaf")
        with trio.fail_after(PATIENCE_S):
            while (await e.job(job_id)).status == "running":
                with contextlib.suppress(Conflict):  # it has ended meanwhile
                    await e.store.cancel(job_id, owner=None)
                await trio.sleep(0.05)
        assert (await e.job(job_id)).status == "cancelled"


async def test_a_cancel_in_the_same_breath_as_the_claim_is_not_lost(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("deaf")
    async def deaf(ctx: Context) -> None:
        await trio.sleep(60)

    async with engine(tmp_path, registry, cancel_grace=0.01, concurrency=50, start=False) as e:
        ids = [await e.enqueue("deaf") for _ in range(50)]
        real = e.store.claim

        async def claim(*arguments: object, **more: object) -> object:
            claims = await real(*arguments, **more)  # type: ignore[arg-type]
            for claim in claims.claims:  # committed, but the runner has not heard of them
                await e.store.cancel(claim.job.id, owner=None)
            return claims

        e.store.claim = claim  # type: ignore[method-assign, assignment]
        await e.nursery.start(e.runner.run)
        for job_id in ids:
            assert (await e.until(job_id)).status == "cancelled"


# --- the server's stop -----------------------------------------------------------------------------------------------


async def test_at_a_stop_runs_get_their_grace_and_nothing_more_is_claimed(tmp_path: Path) -> None:
    registry = Registry()
    go_on = trio.Event()

    @registry.job("slow")
    async def slow(ctx: Context) -> None:
        await go_on.wait()

    async with engine(tmp_path, registry, concurrency=1, grace=10) as e:
        first = await begin(e, "slow")
        second = await e.enqueue("slow")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(e.runner.drain)
            await trio.sleep(0.05)
            go_on.set()
        assert (await e.job(first)).status == "completed"
        assert (await e.job(second)).status == "pending"


async def test_after_the_grace_jobs_are_given_back_and_it_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "STOP_S", 60.0)  # nothing is left for which it would wait
    registry = Registry()
    begun: list[str] = []
    ended: list[str] = []
    add_command(registry, "command", "sleep", "60")

    @registry.job("thread")
    def polite(ctx: Context) -> None:
        begun.append(ctx.job_id)
        while not ctx.cancelled:
            time.sleep(0.005)
        time.sleep(0.1)  # it cleans up
        ended.append(ctx.job_id)

    @registry.job("async")
    async def forever(ctx: Context) -> None:
        await trio.sleep(60)

    @registry.job("raises")
    async def raises(ctx: Context) -> None:
        try:
            await trio.sleep(60)
        finally:
            raise ValueError("while cleaning up")

    async with engine(tmp_path, registry, grace=0.05) as e:
        ids = [await begin(e, name) for name in ("async", "raises", "thread", "command")]
        await wait_for(lambda: bool(begun))
        with trio.fail_after(PATIENCE_S):
            await e.runner.drain()
            assert e.runner.left == ()
        assert ended == [ids[2]]
        for job_id in ids:
            job = await e.job(job_id)
            assert (job.status, job.attempts, job.error) == ("pending", 0, None)
        assert e.runner.live == ()
        claims = await e.store.claim(4, worker="another", limits={}, busy={})
        assert {each.job.id for each in claims.claims} == {*ids}


async def test_a_function_that_ends_while_it_is_waited_for_has_done_its_work_unless_it_has_looked(
    tmp_path: Path,
) -> None:
    registry = Registry()
    begun: list[str] = []
    go_on = threading.Event()

    @registry.job("whole")
    def whole(ctx: Context) -> str:
        begun.append(ctx.job_id)
        go_on.wait()
        return "all of it"

    @registry.job("looks")
    def looks(ctx: Context) -> str:
        begun.append(ctx.job_id)
        go_on.wait()
        ctx.log("has cleaned up" if ctx.cancelled else "")
        return "a part"

    async with engine(tmp_path, registry, grace=0.0, cancel_grace=60) as e:
        done, back, cancelled = [await begin(e, name) for name in ("whole", "looks", "looks")]
        await wait_for(lambda: len(begun) == 3)  # the store knows of a run before its handler does
        await e.store.cancel(cancelled, owner=None)  # and then the server stops, too
        async with trio.open_nursery() as nursery:
            nursery.start_soon(e.runner.drain)
            await wait_for(lambda: all(run.stopped for run in e.runner._slots.live.values()))
            go_on.set()
        assert e.runner.left == ()
        assert (await e.job(done)).status == "completed"
        assert [(await e.job(each)).status for each in (back, cancelled)] == ["pending", "cancelled"]
        for each in (back, cancelled):
            assert await e.log(each) == ["has cleaned up"]


async def test_a_function_that_does_not_stop_is_named_and_its_job_is_given_back_but_not_to_be_started_beside_it(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "STOP_S", 0.1)
    registry = Registry()
    registry.job("deaf")(gate)
    async with engine(tmp_path, registry, grace=0.0) as e:
        job_id = await begin(e, "deaf")
        await wait_for(lambda: gate.entered)
        await e.runner.drain()
        assert [run.job.id for run in e.runner.left] == [job_id]
        job = await e.job(job_id)
        assert (job.status, job.attempts, job.processing_by) == ("pending", 0, None)
        assert not (await e.store.claim(1, worker="another", limits={}, busy={})).claims
        await e.store.rescue()  # of a process that knows that this one is gone
        assert (await e.store.claim(1, worker="another", limits={}, busy={})).claims


async def test_a_command_that_ignores_sigterm_does_not_hold_up_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "STOP_KILL_S", 0.2)
    monkeypatch.setattr(runner_module, "STOP_S", 60.0)  # nothing is left for which it would wait
    registry = Registry()
    add_command(registry, "deaf", "/bin/sh", "-c", "trap '' TERM; echo ready; sleep 60; sleep 60")
    async with engine(tmp_path, registry, grace=0.0, cancel_grace=60) as e:
        job_id = await e.enqueue("deaf")
        cancelled = await e.enqueue("deaf")
        with trio.fail_after(10):
            while not (await e.log(job_id) and await e.log(cancelled)):
                await trio.sleep(0.01)
        await e.store.cancel(cancelled, owner=None)  # a long grace of its own, cut short by the stop
        with trio.fail_after(PATIENCE_S):
            await e.runner.drain()
            assert e.runner.left == ()
        assert (await e.job(job_id)).status == "pending"
        assert (await e.job(cancelled)).status == "cancelled"


async def test_a_handler_that_shields_itself_does_not_hold_up_the_stop_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "STOP_S", 0.1)
    registry = Registry()
    begun, go_on = trio.Event(), trio.Event()

    @registry.job("stubborn")
    async def stubborn(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            begun.set()
            await go_on.wait()

    async with engine(tmp_path, registry, grace=0.0) as e:
        job_id = await begin(e, "stubborn")
        await begun.wait()
        await e.runner.drain()
        assert [run.job.id for run in e.runner.left] == [job_id]
        assert (await e.job(job_id)).status == "pending"
        go_on.set()


async def test_a_stop_ends_though_the_store_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "STOP_S", 0.1)
    monkeypatch.setattr(runner_module, "RECORD_S", 0.1)
    registry = Registry()

    @registry.job("slow")
    async def slow(ctx: Context) -> None:
        await trio.sleep(60)

    async with engine(tmp_path, registry, grace=0.0) as e:
        job_id = await begin(e, "slow")

        async def away(*arguments: object, **more: object) -> bool:
            raise StoreUnavailable("away")

        monkeypatch.setattr(e.store, "claim", away)
        with trio.fail_after(20):
            await e.runner.drain()
            assert e.runner.left == ()
        monkeypatch.undo()
        assert (await e.store.rescue()).jobs == (job_id,)


async def test_two_stops_at_once_both_return(tmp_path: Path) -> None:
    registry = Registry()
    go_on = trio.Event()

    @registry.job("slow")
    async def slow(ctx: Context) -> None:
        await go_on.wait()

    async with engine(tmp_path, registry, grace=30) as e:
        job_id = await begin(e, "slow")
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(e.runner.drain)
                nursery.start_soon(e.runner.drain)
                await trio.sleep(0.05)
                go_on.set()
        assert (await e.job(job_id)).status == "completed"


async def test_a_stop_while_claims_fail_does_not_wait_for_them(tmp_path: Path) -> None:
    async with engine(tmp_path, Registry(), grace=30, start=False) as e:

        async def away(*arguments: object, **more: object) -> None:
            raise StoreUnavailable("away")

        e.store.claim = away  # type: ignore[method-assign, assignment]
        await e.nursery.start(e.runner.run)
        await trio.sleep(0.1)
        with trio.fail_after(20):
            await e.runner.drain()
            assert e.runner.left == ()


async def test_held_runs_do_not_hold_up_the_stop(tmp_path: Path, gate: Gate) -> None:
    registry = Registry()
    registry.job("stuck")(gate)
    async with engine(tmp_path, registry, grace=30) as e:
        job = await e.run("stuck", timeout=0.05)
        assert job.status == "failed"
        with trio.fail_after(20):
            await e.runner.drain()
            assert [run.job.id for run in e.runner.left] == [job.id]
        assert (await e.job(job.id)).version == job.version
