"""How many take a dear step in one turn of the event loop, and how long they have it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from jobctl.stream.pace import Pace

CROWD = 20
LONG = 60.0


@pytest.fixture
async def pace(nursery: trio.Nursery) -> AsyncIterator[Pace]:
    made = Pace(work=LONG, rest=LONG)
    await nursery.start(made.run)
    yield made


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_one_alone_does_not_wait(pace: Pace) -> None:
    for _ in range(5):
        await settle()
        with pytest.raises(StopIteration):
            pace.turn().send(None)  # it comes to its end without giving way to anybody
    await settle()


async def test_a_crowd_goes_on_one_at_a_time_with_turns_between(pace: Pace) -> None:
    passed: list[int] = []
    seen: list[int] = []

    async def come(n: int) -> None:
        await pace.turn()
        passed.append(n)

    async def bystander() -> None:
        while len(passed) < CROWD:
            seen.append(len(passed))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for n in range(CROWD):
            nursery.start_soon(come, n)
        nursery.start_soon(bystander)
    steps = [after - before for before, after in zip(seen, [*seen[1:], CROWD], strict=True)]
    assert sum(steps) + seen[0] == CROWD
    # Within a turn trio shuffles who is ready: the bystander may look before one and after the next.
    assert max(steps) <= 2
    assert len(seen) > CROWD - 2
    assert sorted(passed) == list(range(CROWD))


async def test_after_so_much_work_all_rest(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("jobctl.stream.pace.time.perf_counter", lambda: now)
    pace = Pace(work=0.5, rest=1.0)
    await nursery.start(pace.run)
    passed: list[float] = []

    async def come() -> None:
        nonlocal now
        await pace.turn()
        passed.append(trio.current_time())
        now += 0.25

    began = trio.current_time()
    async with trio.open_nursery() as crowd:
        for _ in range(8):
            crowd.start_soon(come)
    assert [round(at - began) for at in passed] == [0, 0, 1, 1, 2, 2, 3, 3]


async def test_they_go_on_in_the_order_in_which_they_came(nursery: trio.Nursery) -> None:
    pace = Pace(work=LONG, rest=LONG)
    await nursery.start(pace.run)
    came: list[int] = []
    passed: list[int] = []

    async def come(n: int) -> None:
        came.append(n)
        await pace.turn()
        passed.append(n)

    async with trio.open_nursery() as crowd:
        for n in range(CROWD):
            crowd.start_soon(come, n)
    assert sorted(came) == list(range(CROWD))
    assert passed == came


async def test_whoever_gives_up_does_not_keep_a_place(pace: Pace) -> None:
    passed: list[int] = []

    async def come(n: int, scope: trio.CancelScope) -> None:
        with scope:
            await pace.turn()
            passed.append(n)

    scopes = [trio.CancelScope() for _ in range(CROWD)]
    async with trio.open_nursery() as nursery:
        for n, scope in enumerate(scopes):
            nursery.start_soon(come, n, scope)
        await trio.lowlevel.checkpoint()
        for scope in scopes[::2]:
            scope.cancel()
    await settle()
    assert pace.waiting == 0
    assert set(passed) >= set(range(1, CROWD, 2))
    assert len(passed) < CROWD


async def test_nobody_waits_once_it_has_stopped() -> None:
    pace = Pace(work=LONG, rest=LONG)
    passed: list[int] = []

    async def come(n: int) -> None:
        await pace.turn()
        passed.append(n)

    async with trio.open_nursery() as nursery, trio.open_nursery() as keeper:
        await keeper.start(pace.run)
        for n in range(CROWD):
            nursery.start_soon(come, n)
        await trio.lowlevel.checkpoint()
        keeper.cancel_scope.cancel()
    assert sorted(passed) == list(range(CROWD))
    with pytest.raises(StopIteration):
        pace.turn().send(None)
