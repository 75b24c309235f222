"""Progress and log lines on their way into the store."""

import threading
import time
from pathlib import Path

import pytest
import trio
from engine_kit import engine, wait_for

from jobctl import Context
from jobctl.engine import reporter as reporter_module
from jobctl.engine.registry import Registry
from jobctl.errors import StoreUnavailable
from jobctl.model import parse_time


async def test_progress_is_throttled_and_the_last_one_is_always_sent(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("busy")
    async def busy(ctx: Context) -> float:
        began = trio.current_time()
        for i in range(250):
            ctx.progress(i / 1000, f"step {i}")
            await trio.sleep(0.001)
        ctx.progress(0.9, "nearly")
        return trio.current_time() - began

    async with engine(tmp_path, registry) as e:
        job = await e.run("busy")
        values = await e.progress(job.id)
    assert isinstance(job.result, object)
    assert values[0] == 0.0
    assert values[-1] == 0.9
    took = float(bytes(job.result).decode())
    assert 2 <= len(values) <= took * 10 + 2


async def test_progress_beside_a_busy_log_is_throttled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter_module, "MAX_BATCH", 10)
    registry = Registry()

    @registry.job("busy")
    def busy(ctx: Context) -> None:
        for i in range(200):
            ctx.log("line\n" * 30)
            ctx.progress(i / 200)
            time.sleep(0.001)

    async with engine(tmp_path, registry) as e:
        job = await e.run("busy")
        values = await e.progress(job.id)
    assert job.completed_at is not None
    took = parse_time(job.completed_at, field="") - parse_time(job.started_at or "", field="")
    assert values[-1] == 199 / 200
    assert len(values) <= took / 100 + 2


async def test_progress_right_before_the_end_is_in_the_finished_job(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("quick")
    async def quick(ctx: Context) -> None:
        ctx.progress(0.1)
        ctx.progress(0.5, "half")

    registry.job("quick-thread")(lambda ctx: ctx.progress(0.7, "most"))
    async with engine(tmp_path, registry) as e:
        first, second = await e.run("quick"), await e.run("quick-thread")
    assert first.progress is not None
    assert (first.progress.value, first.progress.message) == (0.5, "half")
    assert second.progress is not None
    assert (second.progress.value, second.progress.message) == (0.7, "most")


@pytest.mark.parametrize(("given", "kept"), [(-1, 0.0), (2, 1.0), (float("inf"), 1.0), (True, 1.0), (0.25, 0.25)])
async def test_progress_is_kept_between_0_and_1(tmp_path: Path, given: float, kept: float) -> None:
    registry = Registry()
    registry.job("p")(lambda ctx: ctx.progress(given))
    async with engine(tmp_path, registry) as e:
        job = await e.run("p")
    assert job.progress is not None
    assert job.progress.value == kept


async def test_progress_that_is_no_number_is_the_handlers_error(tmp_path: Path) -> None:
    registry = Registry()
    registry.job("nan")(lambda ctx: ctx.progress(float("nan")))
    async with engine(tmp_path, registry) as e:
        job = await e.run("nan")
    assert (job.error or "").startswith("ValueError: progress is a number from 0 to 1")


async def test_log_lines_are_split_clipped_and_in_order(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("logs")
    async def logs(ctx: Context) -> None:
        ctx.log("one\ntwo\r\nthree\n")
        ctx.log("")
        ctx.log(4)
        ctx.log("x" * 10_000)
        ctx.log("ä" * 10_000)

    async with engine(tmp_path, registry) as e:
        job = await e.run("logs")
        lines = await e.log(job.id)
    assert lines[:5] == ["one", "two", "three", "", "4"]
    assert lines[5].startswith("xxx")
    assert all(len(line.encode()) <= 8192 for line in lines)
    assert len(lines) == 7


async def test_a_log_line_is_seen_while_the_job_runs(tmp_path: Path) -> None:
    registry = Registry()
    go_on = trio.Event()

    @registry.job("slow")
    async def slow(ctx: Context) -> None:
        ctx.log("first")
        await trio.sleep(0.02)
        ctx.log("second")
        await go_on.wait()

    async with engine(tmp_path, registry) as e:
        job_id = await e.enqueue("slow")
        with trio.fail_after(20):
            while await e.log(job_id) != ["first", "second"]:
                await trio.sleep(0.01)
        assert (await e.job(job_id)).status == "running"
        go_on.set()
        await e.until(job_id)


async def test_many_threads_of_one_run_may_log_at_once(tmp_path: Path) -> None:
    registry = Registry()

    @registry.job("threads")
    def threads(ctx: Context) -> None:
        def work(k: int) -> None:
            for i in range(200):
                ctx.log(f"{k}:{i}")
                ctx.progress(i / 200)

        crew = [threading.Thread(target=work, args=(k,)) for k in range(5)]
        for each in crew:
            each.start()
        for each in crew:
            each.join()

    async with engine(tmp_path, registry) as e:
        job = await e.run("threads")
        lines = await e.log(job.id)
    assert len(lines) == 1000
    for k in range(5):
        own = [line for line in lines if line.startswith(f"{k}:")]
        assert own == [f"{k}:{i}" for i in range(200)]


async def test_a_log_without_end_is_cut_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter_module, "MAX_RUN_LOG", 2 * 1024 * 1024)
    registry = Registry()

    @registry.job("chatty")
    def chatty(ctx: Context) -> None:
        for _ in range(1000):
            ctx.log("x" * 4000)

    async with engine(tmp_path, registry) as e:
        job = await e.run("chatty")
        lines = await e.log(job.id)
    assert lines[-1] == "(log cut: this run has written 2 MiB)"
    assert len(lines) == -(-2 * 1024 * 1024 // 4032)
    assert set(lines[:-1]) == {"x" * 4000}


async def test_a_thread_waits_for_room_and_loses_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter_module, "MAX_BUFFER", 10_000)
    registry = Registry()

    @registry.job("chatty")
    def chatty(ctx: Context) -> None:
        for i in range(2000):
            ctx.log(f"{i}")

    async with engine(tmp_path, registry) as e:
        job = await e.run("chatty")
        lines = await e.log(job.id)
    assert lines == [f"{i}" for i in range(2000)]


async def test_the_event_loop_cannot_wait_and_says_how_many_lines_it_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter_module, "MAX_BUFFER", 10_000)
    registry = Registry()

    @registry.job("chatty")
    async def chatty(ctx: Context) -> None:
        for i in range(2000):
            ctx.log(f"{i:04}")

    async with engine(tmp_path, registry) as e:
        job = await e.run("chatty")
        lines = await e.log(job.id)
    kept = 10_000 // 36
    assert lines[:-1] == [f"{i:04}" for i in range(kept)]
    assert lines[-1] == f"({2000 - kept} lines dropped: they came faster than they could be stored)"


async def test_reports_survive_a_store_that_is_away_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter_module, "_RETRY_S", 0.01)
    registry = Registry()

    @registry.job("steady")
    async def steady(ctx: Context) -> None:
        ctx.log("before")
        ctx.progress(0.5, "half")
        await trio.sleep(0.05)
        ctx.log("after")

    async with engine(tmp_path, registry) as e:
        failures: list[str] = []

        def flaky(name: str) -> None:
            real = getattr(e.store, name)

            async def write(*arguments: object) -> object:
                if failures.count(name) < 3:
                    failures.append(name)
                    raise StoreUnavailable("away")
                return await real(*arguments)

            monkeypatch.setattr(e.store, name, write)

        flaky("append_logs")
        flaky("progress")
        job = await e.run("steady")
        assert await e.log(job.id) == ["before", "after"]
    assert len(failures) == 6
    assert job.progress is not None
    assert job.progress.value == 0.5


async def test_reports_of_a_run_that_is_over_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    kept: list[Context] = []

    @registry.job("leaks")
    async def leaks(ctx: Context) -> None:
        kept.append(ctx)

    async with engine(tmp_path, registry) as e:
        job = await e.run("leaks")
        asked: list[object] = []

        async def write(*arguments: object) -> bool:
            asked.append(arguments)
            return False

        monkeypatch.setattr(e.store, "append_logs", write)
        monkeypatch.setattr(e.store, "progress", write)
        kept[0].log("too late")
        kept[0].progress(0.5)
        await trio.sleep(0.15)
        after = await e.job(job.id)
        assert await e.log(job.id) == []
    assert after.version == job.version
    assert after.progress is None
    assert asked == []


async def test_a_stale_runs_reports_are_dropped_by_the_store_and_by_us(tmp_path: Path) -> None:
    registry = Registry()
    go_on = trio.Event()

    @registry.job("stale")
    async def stale(ctx: Context) -> None:
        await go_on.wait()
        ctx.log("not mine any more")
        ctx.progress(0.9)
        await trio.sleep(0.15)
        ctx.log("nor is this")

    async with engine(tmp_path, registry) as e:
        job_id = await e.enqueue("stale")
        await e.until(job_id, "running")
        await e.store.rescue()  # as another process would
        failed = await e.job(job_id)
        assert failed.status == "failed"
        go_on.set()
        await wait_for(lambda: not e.runner.live)
        assert await e.log(job_id) == []
        assert (await e.job(job_id)).version == failed.version


async def test_a_run_that_reports_nothing_costs_no_reporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    class Counted(reporter_module.Reporter):
        def __init__(self, *arguments: object, **more: object) -> None:
            made.append(self)
            super().__init__(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("jobctl.engine.context.Reporter", Counted)
    registry = Registry()
    registry.job("quiet")(lambda ctx: time.sleep(0))
    registry.job("loud")(lambda ctx: ctx.log("x"))
    async with engine(tmp_path, registry) as e:
        await e.run("quiet")
        assert made == []
        await e.run("loud")
    assert len(made) == 1
