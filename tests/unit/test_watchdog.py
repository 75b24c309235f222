"""The watchdog, by a clock that the test moves; the thread's part is called by hand."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from jobctl import logs
from jobctl.engine import watchdog as watchdogs
from jobctl.engine.context import Run
from jobctl.engine.executor import Executor
from jobctl.engine.registry import Registry
from jobctl.engine.watchdog import BEAT_S, STUCK_S, Culprit, Watchdog, culprit
from jobctl.metrics import Metrics
from jobctl.store.base import Claim


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Dog:
    """A watchdog and what it says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        self.clock, self.metrics = Clock(), Metrics()
        self.watchdog = Watchdog(self.metrics, max_lag=1.0, clock=self.clock)
        self.caplog = caplog
        self.found = Culprit(("resize", "id-1"), '  File "tasks.py", line 3, in resize', idle=False)
        monkeypatch.setattr(watchdogs, "culprit", lambda _: self.found)
        caplog.set_level(logging.INFO)

    def said(self) -> list[str]:
        return [record.getMessage() for record in self.caplog.records]


@pytest.fixture
def dog(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Dog:
    return Dog(monkeypatch, caplog)


def test_a_loop_that_turns_is_not_worth_a_line(dog: Dog) -> None:
    for _ in range(100):
        dog.clock.now += BEAT_S
        dog.watchdog.look()
        dog.watchdog.beat(0.001)
    dog.clock.now += BEAT_S + 0.99
    dog.watchdog.look()
    assert dog.said() == []
    assert (dog.metrics.stalls, dog.metrics.loop_lag.count) == (0, 100)


@pytest.mark.parametrize("max_lag", [0.05, 1.0, 10.0])
def test_a_loop_that_stands_still_is_told_of_again_and_again_but_not_because_all_was_frozen(
    dog: Dog, max_lag: float
) -> None:
    dog.watchdog.max_lag = max_lag
    told: list[float] = []
    dog.watchdog.stuck = lambda: told.append(dog.clock.now)
    dog.clock.now += 3600
    dog.watchdog.look()  # the first that it does after the freeze; the loop has not had its turn yet
    assert told == []
    dog.watchdog.beat(3600)
    began = dog.clock.now
    while len(told) < 5:
        dog.clock.now += dog.watchdog._pause
        dog.watchdog.look()
    assert told[0] - began >= STUCK_S
    assert dog.clock.now - began < STUCK_S + 7 * dog.watchdog._pause
    dog.watchdog.beat(3.0)
    told.clear()
    dog.watchdog.look()
    assert told == []


def test_a_stall_is_told_once_with_its_job_and_again_when_it_is_over(dog: Dog) -> None:
    dog.clock.now += BEAT_S + 1.0
    dog.watchdog.look()
    assert dog.said() == ["the event loop has not turned for 1.0 s; job id-1 (resize) blocks it"]
    told: Any = dog.caplog.records[0]
    assert (told.job_name, told.job_id, told.stack) == ("resize", "id-1", dog.found.stack)
    for _ in range(10):
        dog.clock.now += 1
        dog.watchdog.look()
    assert len(dog.said()) == 1
    assert dog.metrics.stalls == 0

    dog.watchdog.beat(11.0)
    assert dog.said()[1:] == ["the event loop turns again after 11.0 s; job id-1 (resize) blocked it"]
    assert (dog.metrics.stalls, dog.metrics.stalled_seconds) == (1, 11.0)
    dog.watchdog.beat(0.0)
    assert len(dog.said()) == 2


def test_a_stall_that_held_the_interpreter_is_told_afterwards(dog: Dog) -> None:
    """The thread had no turn either, so nobody saw what it was."""
    dog.clock.now += 3
    dog.watchdog.beat(2.75)
    assert dog.said() == ["the event loop turns again after 2.8 s; what blocked it was not seen"]
    assert dog.metrics.stalls == 1


def test_what_is_no_job_is_said_to_be_none(dog: Dog) -> None:
    dog.found = Culprit(None, "", idle=True)
    dog.clock.now += 2
    dog.watchdog.look()
    dog.found = Culprit(None, "", idle=False)
    dog.watchdog.beat(1.75)
    dog.clock.now += 2
    dog.watchdog.look()
    assert "a thread holds the interpreter's lock" in dog.said()[0]
    assert "nothing blocked it" in dog.said()[1]
    assert "what blocks it is no job" in dog.said()[2]


def test_no_time_for_new_work_is_a_reason_not_to_be_ready_but_one_stall_is_not(dog: Dog) -> None:
    dog.clock.now += 3
    dog.watchdog.beat(2.75)
    assert dog.watchdog.trouble() is None
    dog.clock.now += 3
    dog.watchdog.beat(2.75)
    assert dog.watchdog.trouble() == "the event loop was held up for 6 of the last 10 s"
    dog.clock.now += 11
    assert dog.watchdog.trouble() is None


# --- who it is -----------------------------------------------------------------------------------------------------


def run_of(name: str) -> Run:
    job: Any = type("J", (), {"name": name, "id": f"id-of-{name}", "timeout": 60.0, "queue": "q", "attempts": 0})()
    return Run(Claim(job=job, run=1, data=b"{}"), None)  # type: ignore[arg-type]


async def seen_while(handler: Any) -> Culprit:
    """What the watchdog sees while ``handler`` blocks; it is given a function that looks."""
    registry = Registry()
    seen: list[Culprit] = []

    def look() -> None:
        seen.append(culprit(sys._getframe()))

    @registry.job("blocker")
    async def blocker(ctx: object) -> None:
        await handler(look)

    run = run_of("blocker")

    async def one() -> None:
        logs.running.set((run.job.name, run.job.id))
        await Executor(registry, threads=1).execute(run)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
    (found,) = seen
    return found


async def test_a_handler_that_blocks_is_named_with_its_own_frames_only() -> None:
    async def handler(look: Any) -> None:
        deeper(look)

    def deeper(look: Any) -> None:
        look()

    found = await seen_while(handler)
    assert found.job == ("blocker", "id-of-blocker")
    names = [line.rpartition(" in ")[2] for line in found.stack.splitlines() if line.startswith("  File")]
    assert names == ["blocker", "handler", "deeper", "look"]


async def test_a_task_that_a_handler_started_leads_to_its_job_too() -> None:
    async def handler(look: Any) -> None:
        async def child() -> None:
            look()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    found = await seen_while(handler)
    assert found.job == ("blocker", "id-of-blocker")
    assert "in child" in found.stack
    assert "trio" not in found.stack


async def test_frames_of_the_engine_and_of_trio_are_left_out() -> None:
    found: dict[str, Any] = {}
    for package in (watchdogs, trio):
        place = Path(package.__file__ or "").with_name("somewhere.py")
        exec(compile("def ours(look):\n    look()\n", str(place), "exec"), found)

        async def handler(look: Any, ours: Any = found["ours"]) -> None:
            ours(look)

        stack = (await seen_while(handler)).stack
        assert "somewhere.py" not in stack
        assert "in handler" in stack


async def test_what_runs_outside_of_jobs_has_no_name() -> None:
    found = culprit(sys._getframe())
    assert (found.job, found.idle) == (None, False)
    assert "test_what_runs_outside_of_jobs" in found.stack


def test_a_thread_that_is_gone_has_nothing_to_show() -> None:
    assert culprit(None) == Culprit(None, "", idle=False)


