"""``jobctl.testing``: a handler run without a server ends as it would in one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from jobctl import NoRetry, RetryAfter, testing
from jobctl.engine import registry as registry_module
from jobctl.engine.registry import Registry, job
from jobctl.errors import InvalidInput, TooLarge
from jobctl.testing import Progress, Setup


@pytest.fixture(autouse=True)
def fresh_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "default", Registry())


def asynchronous() -> Callable[..., Any]:
    @job("work", max_attempts=2)
    async def work(ctx: Any, width: int, path: Path = Path("a"), how: str = "") -> Any:
        await trio.lowlevel.checkpoint()
        return _work(ctx, width, path, how)

    return work


def plain() -> Callable[..., Any]:
    @job("work", max_attempts=2)
    def work(ctx: Any, width: int, path: Path = Path("a"), how: str = "") -> Any:
        return _work(ctx, width, path, how)

    return work


def _work(ctx: Any, width: int, path: Path, how: str) -> Any:
    ctx.progress(0.25)
    ctx.progress(7, "beyond")
    ctx.log("one\ntwo")
    ctx.log("x" * 9000)
    match how:
        case "fails":
            raise ValueError("broken")
        case "for good":
            raise NoRetry("nothing to do")
        case "later":
            raise RetryAfter(90, "the bank is closed")
        case "no json":
            return object()
        case "no number":
            return {"mean": float("nan")}
        case "looks" if ctx.cancelled:
            return "stopped"
    return {"path": str(path), "width": width, "attempt": ctx.attempt, "tuple": (1, 2)}


@pytest.mark.parametrize("make", [asynchronous, plain])
def test_what_a_handler_returns_and_reports_is_shown(make: Callable[..., Any]) -> None:
    done = testing.run(make(), width=3, path="b.png")
    assert done.status == "completed"
    assert done.result == {"path": "b.png", "width": 3, "attempt": 1, "tuple": [1, 2]}
    assert done.progress == [Progress(0.25), Progress(1.0, "beyond")]
    assert done.logs[:2] == ["one", "two"]
    assert len(done.logs[2].encode()) == 8192
    assert (done.error, done.exception, done.retry_after) == (None, None, None)


@pytest.mark.parametrize("make", [asynchronous, plain])
@pytest.mark.parametrize(
    ("how", "attempt", "status", "error", "raised", "delay"),
    [
        ("fails", 1, "retry", "ValueError: broken\n\nTraceback", ValueError, (0.0, 1.0)),
        ("fails", 2, "failed", "ValueError: broken\n\nTraceback", ValueError, None),
        ("for good", 1, "failed", "nothing to do", NoRetry, None),
        ("later", 1, "retry", "the bank is closed", RetryAfter, (90.0, 90.0)),
        ("later", 2, "failed", "the bank is closed", RetryAfter, None),
        ("no json", 1, "failed", "the result is not JSON", None, None),
        ("no number", 1, "failed", "the result is not JSON: result.mean is NaN", None, None),
    ],
)
def test_how_it_fails_is_shown(
    make: Callable[..., Any], how: str, attempt: int, status: str, error: str, raised: type | None, delay: Any
) -> None:
    done = Setup(attempt=attempt).run(make(), width=3, how=how)
    assert done.status == status
    assert done.error is not None
    assert done.error.startswith(error)
    assert type(done.exception) is (raised or type(None))
    assert done.retry_after is None if delay is None else delay[0] <= (done.retry_after or 0.0) <= delay[1]
    assert len(done.progress) == 2


def test_the_handler_may_be_named() -> None:
    asynchronous()
    assert testing.run("work", width=3).status == "completed"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, r"work needs data\.width"),
        ({"width": "3"}, r"data\.width: expected integer, got string"),
        ({"width": 3, "height": 4}, "no field 'height'"),
        ({"width": 3, "how": {1, 2}}, r"data\.how: expected string, got array"),
        ({"width": 3, "how": object()}, "cannot be sent as JSON"),
        ({"width": 3, "how": "a\0b"}, "has a NUL"),
    ],
)
def test_data_is_refused_as_at_enqueue(data: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        testing.run(asynchronous(), **data)


def test_data_that_is_too_large_is_refused_as_at_enqueue() -> None:
    with pytest.raises(TooLarge):
        testing.run(asynchronous(), width=3, how="x" * 70_000)


def test_a_function_that_is_no_handler_and_a_name_that_is_none_are_told() -> None:
    def helper(ctx: object) -> None: ...

    with pytest.raises(LookupError, match="helper is no handler; is @job"):
        testing.run(helper)
    with pytest.raises(LookupError, match="no handler named 'nope'; there are: none; has the module"):
        testing.run("nope")


@pytest.mark.parametrize(("make", "how", "status"), [
    (asynchronous, "looks", "cancelled"), (plain, "looks", "cancelled"), (plain, "", "completed"),
])  # fmt: skip
def test_a_cancelled_job_may_look_or_not(make: Callable[..., Any], how: str, status: str) -> None:
    assert Setup(cancel_after=0.0).run(make(), width=1, how=how).status == status


async def test_a_handler_that_waits_is_cancelled_after_the_grace_time(autojump_clock: Any) -> None:
    @job("waits")
    async def waits(ctx: Any) -> None:
        await trio.sleep_forever()

    began = trio.current_time()
    done = await Setup(cancel_after=60.0, cancel_grace=5.0).run_async(waits)
    assert (done.status, trio.current_time() - began) == ("cancelled", 65.0)


async def test_without_being_told_otherwise_a_test_does_not_wait_for_a_servers_grace_time(autojump_clock: Any) -> None:
    @job("waits")
    async def waits(ctx: Any) -> None:
        await trio.sleep_forever()

    for after in (0.0, 60.0):
        began = trio.current_time()
        assert (await Setup(cancel_after=after).run_async(waits)).status == "cancelled"
        assert trio.current_time() - began - after < 1


async def test_a_time_out_is_a_retry(autojump_clock: Any) -> None:
    @job("waits", timeout=5)
    async def waits(ctx: Any) -> None:
        await trio.sleep_forever()

    done = await testing.run_async(waits)
    assert (done.status, done.error) == ("retry", "timed out after 5 s")


async def test_inside_trio_the_blocking_form_says_which_to_take() -> None:
    with pytest.raises(RuntimeError, match="run_async"):
        testing.run(asynchronous(), width=1)
    assert (await testing.run_async("work", width=1)).status == "completed"


def test_a_field_may_have_any_name() -> None:
    @job("any")
    def any_(ctx: Any, **data: Any) -> Any:
        return data

    data = {"job": 1, "self": 2, "attempt": 3, "name": 4, "data": 5, "registry": 6}
    assert testing.run(any_, **data).result == data


def test_handlers_of_another_registry_are_run_too() -> None:
    registry = Registry()

    @registry.job("mine")
    def mine(ctx: Any) -> str:
        return ctx.queue

    assert Setup(registry=registry, queue="q").run(mine).result == "q"
