"""Tasks that run one async job after the other: nothing of a job reaches the next."""

import contextlib
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import trio
from engine_kit import engine
from trio.testing import MockClock

from jobctl import Context
from jobctl.engine.context import Run
from jobctl.engine.hands import give
from jobctl.engine.registry import Registry
from jobctl.store.base import Claim

seen: ContextVar[str] = ContextVar("seen", default="nothing")


class Tasks:
    """A registry with a job that behaves as it is told, and the tasks that its runs were in."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.all: list[int] = []
        self.registry.job("work")(self.work)

    async def work(self, ctx: Context, how: str = "well") -> str:
        self.all.append(id(trio.lowlevel.current_task()))
        found = seen.get()
        seen.set(ctx.job_id)
        if how == "badly":
            raise ValueError(how)
        if how == "slowly":
            await trio.sleep(60)
        if how == "shortly":
            await trio.sleep(0.2)
        if how == "with a broken scope":
            trio.CancelScope().__enter__()
        if how == "deafly":
            with contextlib.suppress(trio.Cancelled):
                await trio.sleep(60)
        if how == "with a log":
            ctx.log("line")
        return found


async def test_jobs_that_end_well_share_a_task(tmp_path: Path) -> None:
    tasks = Tasks()
    async with engine(tmp_path, tasks.registry, concurrency=1) as e:
        for _ in range(5):
            assert (await e.run("work")).status == "completed"
    assert len(set(tasks.all)) == 1


async def test_there_are_no_more_tasks_than_jobs_at_once(tmp_path: Path) -> None:
    tasks = Tasks()
    async with engine(tmp_path, tasks.registry, concurrency=3) as e:
        ids = [await e.enqueue("work", {"how": "shortly"}) for _ in range(9)]
        for job_id in ids:
            assert (await e.until(job_id)).status == "completed"
    assert len(tasks.all) == 9
    assert len(set(tasks.all)) == 3


async def test_what_a_job_puts_into_its_context_is_gone_with_it(tmp_path: Path) -> None:
    tasks = Tasks()
    async with engine(tmp_path, tasks.registry, concurrency=1) as e:
        results = [bytes((await e.run("work")).result) for _ in range(3)]
    assert results == [b'"nothing"'] * 3


@pytest.mark.parametrize("how", ["badly", "slowly", "deafly", "with a broken scope", "with a log"])
async def test_whatever_a_job_does_the_next_runs_as_if_it_were_the_first(tmp_path: Path, how: str) -> None:
    tasks = Tasks()
    async with engine(tmp_path, tasks.registry, concurrency=1) as e:
        await e.run("work")
        job = await e.run("work", {"how": how}, timeout=0.05)
        assert (job.status == "completed") == (how in ("deafly", "with a log"))
        assert await e.log(job.id) == ["line"] * (how == "with a log")
        assert (await e.run("work", {"how": "shortly"})).status == "completed"


async def test_the_time_of_a_job_that_has_ended_does_not_run_on_for_the_next(tmp_path: Path) -> None:
    tasks = Tasks()
    async with engine(tmp_path, tasks.registry, concurrency=1) as e:
        await e.run("work", timeout=0.1)
        assert (await e.run("work", {"how": "shortly"})).status == "completed"
        await e.run("work", timeout=0.05)
        await trio.sleep(0.1)  # while its task has nothing to do
        assert (await e.run("work", {"how": "shortly"})).status == "completed"
        job = await e.run("work", {"how": "slowly"}, timeout=0.05)
    assert job.error == "timed out after 0.05 s"


async def test_a_job_gets_its_time_and_hardly_more_whatever_the_one_before_had(autojump_clock: MockClock) -> None:
    scope = trio.CancelScope()
    set_anew = []
    for seconds in (100.0, 100.0, 100.0, 10.0, 3600.0, 0.05):
        before, now = scope.deadline, trio.current_time()
        give(scope, seconds)
        assert now + seconds <= scope.deadline <= now + seconds + min(1.0, seconds / 100)
        set_anew.append(scope.deadline != before)
        await trio.sleep(0.6)
    assert set_anew == [True, False, True, True, True, True]


async def test_a_run_that_is_over_cannot_be_asked_to_stop() -> None:
    job: Any = type("J", (), {"timeout": 60.0})()
    run = Run(Claim(job=job, run=1, data=b"{}"), None)  # type: ignore[arg-type]
    run.over = True  # its scope may be another run's now
    before = run.scope.deadline
    run.ask("cancel", 0.0)
    run.ask("stop", 0.0)
    assert (run.scope.deadline, run.scope.cancel_called, run.asked) == (before, False, None)
