"""The loop that claims: order, slots, limits, waking up, and a store that fails."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.lowlevel
from engine_kit import OWNER, engine, wait_for

from jobctl import Context, NoRetry
from jobctl.engine import patience
from jobctl.engine.registry import Registry
from jobctl.errors import StoreUnavailable
from jobctl.model import NewJob, wire_time
from jobctl.store.base import Cancelled, Claims, Completed, End
from jobctl.store.committer import now_ms


class Crowd:
    """An async handler that counts how many of it run at once, per queue, and waits to be let go."""

    def __init__(self) -> None:
        self.go_on = trio.Event()
        self.inside: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.order: list[str] = []

    async def __call__(self, ctx: Context, tag: str = "") -> None:
        self.order.append(tag)
        for name in (ctx.queue, ""):
            self.inside[name] += 1
            self.most[name] = max(self.most[name], self.inside[name])
        await self.go_on.wait()
        await trio.lowlevel.checkpoint()
        for name in (ctx.queue, ""):
            self.inside[name] -= 1


async def test_no_more_run_at_once_than_there_are_slots(tmp_path: Path) -> None:
    registry, crowd = Registry(), Crowd()
    registry.job("crowd")(crowd)
    async with engine(tmp_path, registry, concurrency=3) as e:
        ids = [await e.enqueue("crowd") for _ in range(20)]
        await wait_for(lambda: crowd.inside[""] == 3)
        assert e.runner.free == 0
        assert len(e.runner.live) == 3
        crowd.go_on.set()
        for job_id in ids:
            await e.until(job_id)
    assert crowd.most[""] == 3


async def test_a_queue_keeps_its_own_limit_and_the_others_go_on(tmp_path: Path) -> None:
    registry, crowd = Registry(), Crowd()
    registry.job("crowd")(crowd)
    async with engine(tmp_path, registry, concurrency=6, limits={"narrow": 2}) as e:
        ids = [await e.enqueue("crowd", queue="narrow") for _ in range(10)]
        await wait_for(lambda: crowd.inside["narrow"] == 2)
        await trio.sleep(0.1)
        assert crowd.inside["narrow"] == 2
        ids += [await e.enqueue("crowd", queue="wide") for _ in range(4)]
        await wait_for(lambda: crowd.inside["wide"] == 4)
        crowd.go_on.set()
        for job_id in ids:
            await e.until(job_id)
    assert crowd.most["narrow"] == 2


async def test_a_queue_at_its_limit_is_not_asked_over_and_over(tmp_path: Path) -> None:
    registry, crowd = Registry(), Crowd()
    registry.job("crowd")(crowd)
    async with engine(tmp_path, registry, concurrency=6, limits={"narrow": 1}, start=False) as e:
        for _ in range(5):
            await e.enqueue("crowd", queue="narrow")
        real, claims = e.store.claim, 0

        async def claim(*arguments: object, **more: object) -> object:
            nonlocal claims
            claims += 1
            return await real(*arguments, **more)  # type: ignore[arg-type]

        e.store.claim = claim  # type: ignore[method-assign, assignment]
        await e.nursery.start(e.runner.run)
        await wait_for(lambda: crowd.inside["narrow"] == 1)
        await trio.sleep(0.5)
        assert claims < 12
        crowd.go_on.set()
        await wait_for(lambda: len(crowd.order) == 5)


async def test_a_queue_at_its_limit_is_asked_again_when_one_of_its_runs_ends(tmp_path: Path) -> None:
    registry, crowd = Registry(), Crowd()
    registry.job("crowd")(crowd)
    async with engine(tmp_path, registry, concurrency=6, limits={"narrow": 1}, start=False) as e:
        for _ in range(5):
            await e.enqueue("crowd", queue="narrow")
        real = e.store.claim

        async def claim(*arguments: object, **more: object) -> object:
            return msgspec.structs.replace(await real(*arguments, **more), more=False)  # type: ignore[arg-type]

        e.store.claim = claim  # type: ignore[method-assign, assignment]
        await e.nursery.start(e.runner.run)
        await wait_for(lambda: crowd.inside["narrow"] == 1)
        await trio.sleep(0.1)
        crowd.go_on.set()
        await wait_for(lambda: len(crowd.order) == 5)


async def test_higher_priority_runs_first_then_the_older(tmp_path: Path) -> None:
    registry, crowd = Registry(), Crowd()
    registry.job("crowd")(crowd)
    crowd.go_on.set()
    async with engine(tmp_path, registry, concurrency=1, start=False) as e:
        for tag, priority in (("a", 0), ("b", 5), ("c", 0), ("d", -1), ("e", 5)):
            await e.enqueue("crowd", {"tag": tag}, priority=priority)
        await e.nursery.start(e.runner.run)
        await wait_for(lambda: len(crowd.order) == 5)
    assert crowd.order == ["b", "e", "a", "c", "d"]


async def test_a_delayed_job_wakes_the_sleeping_runner(tmp_path: Path) -> None:
    registry, crowd = Registry(), Crowd()
    registry.job("crowd")(crowd)
    crowd.go_on.set()
    async with engine(tmp_path, registry) as e:
        await e.run("crowd")
        due = now_ms() + 200
        job = await e.until(await e.enqueue("crowd", scheduled_for=due))
    assert job.status == "completed"
    assert (job.started_at or "") >= wire_time(due)


async def test_an_idle_runner_starts_a_job_in_the_commit_that_brings_it(tmp_path: Path) -> None:
    registry, crowd = Registry(), Crowd()
    registry.job("crowd")(crowd)
    crowd.go_on.set()
    async with engine(tmp_path, registry) as e:
        await wait_for(lambda: e.runner.resting)
        told: list[list[str | None]] = []
        e.store.listen(lambda commit: told.append([event.status for event in commit.events]))
        for _ in range(3):
            await e.run("crowd")
            await wait_for(lambda: e.runner.resting)
    assert [each for each in told if each] == [["pending", "running"], ["completed"]] * 3


async def test_an_idle_runner_asks_for_nothing(tmp_path: Path) -> None:
    registry, crowd = Registry(), Crowd()
    registry.job("crowd")(crowd)
    crowd.go_on.set()
    async with engine(tmp_path, registry, start=False) as e:
        real, claims = e.store.claim, 0

        async def claim(*arguments: object, **more: object) -> object:
            nonlocal claims
            claims += 1
            return await real(*arguments, **more)  # type: ignore[arg-type]

        e.store.claim = claim  # type: ignore[method-assign, assignment]
        await e.nursery.start(e.runner.run)
        for _ in range(5):
            await e.run("crowd")
        await trio.sleep(0.05)
        before = claims
        await trio.sleep(0.3)
        assert claims == before
        assert before <= 12


async def test_a_paused_queue_runs_when_it_is_resumed(tmp_path: Path) -> None:
    registry, crowd = Registry(), Crowd()
    registry.job("crowd")(crowd)
    crowd.go_on.set()
    async with engine(tmp_path, registry) as e:
        await e.store.set_paused("default", True)
        job_id = await e.enqueue("crowd")
        await trio.sleep(0.1)
        assert (await e.job(job_id)).status == "pending"
        await e.store.set_paused("default", False)
        assert (await e.until(job_id)).status == "completed"


async def test_jobs_of_names_that_are_not_here_wait(tmp_path: Path) -> None:
    registry = Registry(accept_unknown=True)
    registry.job("here")(lambda ctx: 1)
    async with engine(tmp_path, registry) as e:
        elsewhere = await e.enqueue("elsewhere")
        assert (await e.run("here")).status == "completed"
        assert (await e.job(elsewhere)).status == "pending"


async def test_the_runner_survives_a_store_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_S", 0.01)
    registry = Registry()
    registry.job("work")(lambda ctx: "done")
    async with engine(tmp_path, registry, start=False) as e:
        real, failures = e.store.claim, 0
        away = [StoreUnavailable, StoreUnavailable, StoreUnavailable, TypeError]
        away_at_the_end = [StoreUnavailable] * 3

        async def claim(*arguments: object, ends: Sequence[End] = (), **more: object) -> object:
            nonlocal failures
            if left := away_at_the_end if ends else away:
                failures += 1
                raise left.pop(0)("away")
            return await real(*arguments, ends=ends, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(e.store, "claim", claim)
        job_id = await e.enqueue("work")  # before it starts: one that stands by claims by another way
        await e.nursery.start(e.runner.run)
        job = await e.until(job_id)
    assert (job.status, job.attempts, failures) == ("completed", 1, 7)


async def test_what_came_as_standing_by_failed_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner was to claim it in the transaction that brought it, and is called by nobody else."""
    registry = Registry()

    @registry.job("ok")
    async def ok(ctx: Context) -> None: ...

    standing, brought = trio.Event(), trio.Event()
    async with engine(tmp_path, registry) as e:
        await wait_for(lambda: e.runner.resting)
        claim_next = e.store.claim_next

        async def fail(*_: Any, **__: Any) -> None:
            monkeypatch.setattr(e.store, "claim_next", claim_next)
            standing.set()
            await brought.wait()
            raise RuntimeError("undone")

        monkeypatch.setattr(e.store, "claim_next", fail)
        e.runner.look_again()
        await standing.wait()
        e.store._listeners.remove(e.runner.on_commit)  # as where the commit says that the runner has looked
        job_id = await e.enqueue("ok")
        brought.set()
        assert (await e.until(job_id)).status == "completed"


async def test_an_outcome_that_cannot_be_stored_at_all_fails_the_job_and_not_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()
    registry.job("work")(lambda ctx: "done")

    @registry.job("other")
    async def other(ctx: Context) -> None:
        raise NoRetry("this one can be stored")

    async with engine(tmp_path, registry) as e:
        real_claim, real_finish, alone = e.store.claim, e.store.finish, 0

        def bind(*outcomes: object) -> None:
            if any(isinstance(outcome, Completed) for outcome in outcomes):
                raise TypeError("cannot be bound")

        async def claim(*arguments: object, ends: Sequence[End] = (), **more: object) -> object:
            bind(*(end.outcome for end in ends))
            return await real_claim(*arguments, ends=ends, **more)  # type: ignore[arg-type]

        async def finish(job_id: str, run: int, outcome: object, **more: bool) -> bool:
            nonlocal alone
            alone += 1
            bind(outcome)
            return await real_finish(job_id, run, outcome, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(e.store, "claim", claim)
        monkeypatch.setattr(e.store, "finish", finish)
        others = [await e.enqueue("other") for _ in range(3)]
        job = await e.run("work", max_attempts=3)
        assert [(await e.until(each)).status for each in others] == ["failed"] * 3
    assert alone > 0
    assert (job.status, job.attempts) == ("failed", 1)
    assert job.error == "the outcome could not be stored: TypeError: cannot be bound"


async def test_a_cancel_of_an_earlier_run_does_not_stop_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever claims keeps in mind what is to stop; by the time of its answer that may be a run that has ended."""
    registry = Registry()

    @registry.job("work")
    async def work(ctx: Context) -> bool:
        return ctx.cancelled

    async with engine(tmp_path, registry, start=False) as e:
        job_id = await e.enqueue("work")
        elsewhere = (await e.store.claim(1, worker="other", limits={}, busy={})).claims[0]
        await e.nursery.start(e.runner.run)
        await wait_for(lambda: e.runner.resting)
        await e.store.cancel(job_id, owner=OWNER)
        await e.store.finish(job_id, elsewhere.run, Cancelled(None))
        claim, retried = e.store.claim, trio.Event()

        async def claim_after_a_retry(*args: Any, **more: Any) -> Claims:
            if not retried.is_set():
                await e.store.retry(job_id, owner=OWNER)
                retried.set()
            return await claim(*args, **more)

        monkeypatch.setattr(e.store, "claim", claim_after_a_retry)
        e.runner.look_again()
        await retried.wait()
        assert (await e.until(job_id)).status == "completed"


async def test_a_thousand_jobs_each_run_once(tmp_path: Path) -> None:
    registry = Registry()
    seen: Counter[str] = Counter()

    @registry.job("count")
    async def count(ctx: Context) -> None:
        seen[ctx.job_id] += 1

    async with engine(tmp_path, registry, concurrency=50) as e:
        new = [NewJob(name="count", data=b"{}") for _ in range(1000)]
        ids = (await e.store.enqueue(new, owner=OWNER)).ids
        await wait_for(lambda: len(seen) == 1000)
        await wait_for(lambda: not e.runner.live)
        stats = (await e.store.stats(owner=None)).value
    assert set(seen) == set(ids)
    assert set(seen.values()) == {1}
    assert stats.completed == 1000
