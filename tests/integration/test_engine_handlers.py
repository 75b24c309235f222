"""One run of a Python handler: how it is called, and what its end becomes."""

import contextvars
import gc
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.lowlevel
import trio.testing
from engine_kit import engine

from jobctl import Context, NoRetry, RetryAfter
from jobctl.engine.registry import Registry
from jobctl.errors import NoRetry as SameNoRetry


def result(job: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(job.result))


async def test_an_async_handler_gets_context_and_data_and_its_return_is_the_result(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("hello")
    async def hello(ctx: Context, who: str, n: int = 2) -> dict[str, object]:
        await trio.lowlevel.checkpoint()
        return {"who": who, "n": n, "id": ctx.job_id, "attempt": ctx.attempt, "queue": ctx.queue, "data": ctx.data}

    async with engine(tmp_path, registry) as e:
        job = await e.run("hello", {"who": "bob"})
    assert job.status == "completed"
    assert job.attempts == 1
    assert job.processing_by == "test"
    assert result(job) == {
        "who": "bob", "n": 2, "id": job.id, "attempt": 1, "queue": "default", "data": {"who": "bob"},
    }  # fmt: skip


async def test_a_plain_function_runs_in_a_thread_of_its_own(tmp_path: Path) -> None:
    registry = Registry()
    registry.job("where")(lambda ctx: threading.get_ident())
    async with engine(tmp_path, registry) as e:
        job = await e.run("where")
    assert job.status == "completed"
    assert result(job) != threading.get_ident()


async def test_a_handler_that_returns_nothing_has_the_result_null(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("nothing")
    async def nothing(ctx: Context) -> None: ...

    async with engine(tmp_path, registry) as e:
        job = await e.run("nothing")
    assert job.status == "completed"
    assert result(job) is None


async def test_an_exception_shows_its_message_and_the_users_frames_only(tmp_path: Path) -> None:
    registry = Registry()

    def inner() -> None:
        raise ValueError("the cat is out")

    @registry.job("fails")
    async def fails(ctx: Context) -> None:
        inner()

    async with engine(tmp_path, registry) as e:
        job = await e.run("fails")
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.startswith("ValueError: the cat is out\n\nTraceback")
    assert "in inner" in job.error
    assert "executor.py" not in job.error
    assert job.error.count("the cat is out") == 2  # the headline, and the source line


async def test_a_failed_run_is_tried_again_until_its_attempts_are_used_up(tmp_path: Path) -> None:
    registry = Registry()
    attempts: list[int] = []

    @registry.job("flaky")
    async def flaky(ctx: Context) -> str:
        attempts.append(ctx.attempt)
        raise RetryAfter(0, "not yet")

    async with engine(tmp_path, registry) as e:
        job = await e.run("flaky", max_attempts=3)
    assert attempts == [1, 2, 3]
    assert (job.status, job.attempts, job.error) == ("failed", 3, "not yet")


async def test_an_ordinary_failure_waits_with_backoff(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("fails")
    async def fails(ctx: Context) -> None:
        raise OSError("no")

    async with engine(tmp_path, registry) as e:
        e.runner._executor._draw = lambda: 0.999
        job = await e.until(await e.enqueue("fails", max_attempts=2), "retrying")
    assert job.scheduled_for is not None
    assert job.attempts == 1


@pytest.mark.parametrize("in_a_group", [False, True])
async def test_no_retry_ends_the_job_whatever_is_left(tmp_path: Path, in_a_group: bool) -> None:
    registry = Registry()
    assert NoRetry is SameNoRetry

    @registry.job("never")
    async def never(ctx: Context) -> None:
        if in_a_group:
            raise ExceptionGroup("from a nursery", [NoRetry("bad address")])
        raise NoRetry("bad address")

    async with engine(tmp_path, registry) as e:
        job = await e.run("never", max_attempts=3)
    assert (job.status, job.attempts, job.error) == ("failed", 1, "bad address")


async def test_retry_after_sets_the_time_of_the_next_attempt(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("later")
    async def later(ctx: Context) -> None:
        raise RetryAfter(3600, "busy")

    async with engine(tmp_path, registry) as e:
        job = await e.until(await e.enqueue("later", max_attempts=2), "retrying")
    assert job.error == "busy"
    assert job.scheduled_for is not None
    assert job.scheduled_for > job.created_at


class _Unkind(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def _deep(n: int = 0) -> None:
    _deep(n + 1)


@pytest.mark.parametrize(
    ("error", "headline"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (BaseExceptionGroup("g", [SystemExit(1), ValueError("x")]), "BaseExceptionGroup: g (2 sub-exceptions)"),
        (_Unkind(), "_Unkind: (no message: str() raised RuntimeError)"),
        (ValueError("\ud800 half a pair"), "ValueError: ? half a pair"),
        (ValueError("x" * 1_000_000), "ValueError: xxx"),
    ],
)
@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_no_exception_of_a_handler_ends_the_server(
    tmp_path: Path, kind: str, error: BaseException, headline: str
) -> None:
    registry = Registry()

    async def in_loop(ctx: Context) -> None:
        raise error

    def in_thread(ctx: Context) -> None:
        raise error

    registry.job("bad")(in_loop if kind == "async" else in_thread)
    registry.job("good")(lambda ctx: 1)
    async with engine(tmp_path, registry) as e:
        job = await e.run("bad")
        assert (await e.run("good")).status == "completed"
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.startswith(headline)
    assert len(job.error.encode()) <= 16 * 1024


class _Large:
    """Stands for a gigabyte."""


@pytest.mark.parametrize("ends", ["raises", "returns"])
@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_what_a_handler_held_is_free_once_it_has_ended(tmp_path: Path, kind: str, ends: str) -> None:
    """At once, and not when the collector comes round to it: the next job may need the room."""
    registry, held = Registry(), []

    def work(ctx: Context) -> None:
        large = _Large()
        held.append(weakref.ref(large))
        if ends == "raises":
            raise MemoryError

    async def in_loop(ctx: Context) -> None:
        work(ctx)

    registry.job("large")(in_loop if kind == "async" else work)
    gc.disable()
    try:
        async with engine(tmp_path, registry) as e:
            assert (await e.run("large")).status == ("failed" if ends == "raises" else "completed")
            await trio.testing.wait_all_tasks_blocked()
            assert held[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_stop_iteration_and_deep_recursion_are_ordinary_failures(tmp_path: Path, kind: str) -> None:
    registry = Registry()

    async def stop_in_loop(ctx: Context) -> None:
        raise StopIteration

    async def deep_in_loop(ctx: Context) -> None:
        _deep()

    def stop_in_thread(ctx: Context) -> None:
        raise StopIteration

    def deep_in_thread(ctx: Context) -> None:
        _deep()

    registry.job("stop")(stop_in_loop if kind == "async" else stop_in_thread)
    registry.job("deep")(deep_in_loop if kind == "async" else deep_in_thread)
    async with engine(tmp_path, registry) as e:
        stop, deep = await e.run("stop"), await e.run("deep")
    assert stop.status == "failed"
    assert "StopIteration" in (stop.error or "")
    assert deep.status == "failed"
    assert (deep.error or "").startswith("RecursionError")


async def test_a_coroutine_that_nobody_awaited_is_told_as_such(tmp_path: Path) -> None:
    registry = Registry()

    async def work() -> None: ...

    @registry.job("forgot")
    async def forgot(ctx: Context) -> object:
        return work()

    registry.job("forgot-plain")(lambda ctx: work())
    async with engine(tmp_path, registry) as e:
        jobs = [await e.run("forgot", max_attempts=3), await e.run("forgot-plain", max_attempts=3)]
    for job in jobs:
        assert (job.status, job.attempts) == ("failed", 1)
        assert "`await` is missing" in (job.error or "")


async def test_an_asyncio_library_in_a_handler_fails_the_job_only(tmp_path: Path) -> None:
    import asyncio

    registry = Registry()

    class Foreign:
        def __await__(self) -> Any:
            yield "not trio's"

    @registry.job("foreign")
    async def foreign(ctx: Context) -> None:
        await Foreign()

    assert asyncio
    async with engine(tmp_path, registry) as e:
        job = await e.run("foreign")
    assert job.status == "failed"
    assert "framework like asyncio" in (job.error or "")


async def test_a_cancellation_kept_and_raised_again_later_fails_the_job_only(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("stray")
    async def stray(ctx: Context) -> None:
        kept: list[BaseException] = []
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep(1)
            except trio.Cancelled as cancelled:
                kept.append(cancelled)
                raise
        raise kept[0]

    registry.job("good")(lambda ctx: 1)
    async with engine(tmp_path, registry) as e:
        assert (await e.run("stray")).status == "failed"
        assert (await e.run("good")).status == "completed"


def _cycle() -> list[object]:
    cycle: list[object] = []
    cycle.append(cycle)
    return cycle


@pytest.mark.parametrize("value", [object(), _cycle(), "\ud800", {(1, 2): 3}, lambda: 1])
async def test_a_result_that_is_not_json_fails_without_retry(tmp_path: Path, value: object) -> None:
    registry = Registry()
    registry.job("odd")(lambda ctx: value)
    async with engine(tmp_path, registry) as e:
        job = await e.run("odd", max_attempts=3)
    assert (job.status, job.attempts) == ("failed", 1)
    assert (job.error or "").startswith("the result is not JSON: ")


@pytest.mark.parametrize(
    ("value", "place"),
    [(float("nan"), "result is NaN"), ({"rows": [{"mean": float("-inf")}]}, "result.rows[0].mean is -Infinity")],
)
async def test_a_number_that_json_lacks_fails_the_job_and_is_no_null(
    tmp_path: Path, value: object, place: str
) -> None:
    registry = Registry()
    registry.job("odd")(lambda ctx: value)
    async with engine(tmp_path, registry) as e:
        job = await e.run("odd", max_attempts=3)
    assert (job.status, job.attempts, job.result) == ("failed", 1, None)
    assert job.error == f"the result is not JSON: {place}, a number that JSON does not have"


async def test_a_result_that_is_too_large_fails_without_retry(tmp_path: Path) -> None:
    registry = Registry()
    registry.job("large")(lambda ctx, n: "x" * n)
    async with engine(tmp_path, registry) as e:
        fits = await e.run("large", {"n": 256 * 1024 - 2})
        large = await e.run("large", {"n": 256 * 1024 - 1}, max_attempts=3)
    assert fits.status == "completed"
    assert (large.status, large.attempts) == ("failed", 1)
    assert "262,145 bytes" in (large.error or "")


async def test_runs_do_not_see_each_others_context_variables(tmp_path: Path) -> None:
    registry = Registry()
    seen = contextvars.ContextVar("seen", default="nothing")

    @registry.job("sets")
    async def sets(ctx: Context) -> str:
        before = seen.get()
        seen.set("something")
        return before

    async with engine(tmp_path, registry, concurrency=1) as e:
        first, second = await e.run("sets"), await e.run("sets")
    assert result(first) == result(second) == "nothing"


async def test_data_of_an_older_handler_fails_the_job_with_the_reason(tmp_path: Path) -> None:
    registry = Registry()
    registry.job("changed")(lambda ctx, new_field: 1)
    async with engine(tmp_path, registry) as e:
        job = await e.run("changed", {"old_field": 1})
    assert job.status == "failed"
    assert "old_field" in (job.error or "")


def test_the_public_names_come_from_the_package() -> None:
    import jobctl

    assert jobctl.job is sys.modules["jobctl.engine.registry"].job
    assert jobctl.Context is Context
