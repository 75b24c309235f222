"""Standing by at the writer thread: who is called off in the middle, and what fails."""
# ruff: noqa: F401, F811  (fixtures are imported by name)

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
import trio.testing
from sqlite_kit import path, store
from store_kit import ANN, add, check_invariants, claims, new, status

from jobctl.errors import StoreUnavailable
from jobctl.store import enqueue as enqueueing
from jobctl.store.sqlite import SqliteStore
from jobctl.store.transaction import Tx


class Watch:
    """Something that stands by, and holds the writer thread in the middle of its turn until it is let go."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self._token = trio.lowlevel.current_trio_token()
        self._go_on = threading.Event()
        self.entered = trio.Event()
        self.scope = trio.CancelScope()
        self.over = trio.Event()
        self.turns = 0
        self.got: Any = "nothing yet"

    async def run(self, store: SqliteStore) -> None:
        with self.scope:
            self.got = await store.committer.stand_by(self._look)
        self.over.set()

    def _look(self, tx: Tx) -> Any:
        self.turns += 1
        self._token.run_sync_soon(self.entered.set)
        assert self._go_on.wait(10)
        return self._answer

    def let_go(self) -> None:
        self._go_on.set()


@pytest.mark.parametrize("answer", ["something", None])
async def test_a_call_off_in_the_middle_of_its_turn_waits_for_the_answer(
    store: SqliteStore, nursery: trio.Nursery, answer: str | None
) -> None:
    watch = Watch(answer)
    nursery.start_soon(watch.run, store)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(add, store)
    await watch.entered.wait()
    watch.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert watch.got == "nothing yet"
    watch.let_go()
    with trio.fail_after(10):
        await watch.over.wait()
    assert watch.got == answer
    assert not watch.scope.cancelled_caught
    await add(store)
    assert watch.turns == 1, "it does not stand by any more"


async def raised(store: SqliteStore, function: Callable[[Tx], Any], nursery: trio.Nursery) -> list[Exception]:
    """What whoever stands by with ``function`` gets for it."""
    errors: list[Exception] = []

    async def stand_by() -> None:
        try:
            await store.committer.stand_by(function)
        except Exception as error:  # noqa: BLE001 - the answer is what is asked for
            errors.append(error)

    nursery.start_soon(stand_by)
    await trio.testing.wait_all_tasks_blocked()
    return errors


async def test_an_error_of_whoever_stands_by_is_theirs_alone(store: SqliteStore, nursery: trio.Nursery) -> None:
    def fail(tx: Tx) -> None:
        enqueueing.enqueue(tx, [new("ghost")], ANN, None)
        raise KeyError("late")

    errors = await raised(store, fail, nursery)
    job_id = await add(store)
    await trio.testing.wait_all_tasks_blocked()
    assert [type(error) for error in errors] == [KeyError]
    assert [one.job.id for one in (await claims(store)).claims] == [job_id], "its own writes are undone"
    await check_invariants(store)


async def test_a_transaction_that_fails_is_told_to_whoever_stands_by_in_it(
    store: SqliteStore, nursery: trio.Nursery
) -> None:
    def fail(tx: Tx) -> None:
        raise apsw.FullError("database or disk is full")

    errors = await raised(store, fail, nursery)
    with pytest.raises(StoreUnavailable):
        await add(store)
    await trio.testing.wait_all_tasks_blocked()
    assert [type(error) for error in errors] == [StoreUnavailable]
    assert await status(store, await add(store)) == "pending"


async def test_nobody_stands_by_at_a_closed_store(store: SqliteStore) -> None:
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.claim_next(1, worker="w", limits={}, busy={}, due=None)


async def test_what_was_submitted_in_the_turn_in_which_the_store_closes_is_kept_and_answered(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered, go_on = trio.Event(), trio.Event()

    async def a_long_turn() -> None:
        gathered.set()
        await go_on.wait()

    ids: list[str] = []

    async def write() -> None:
        ids.append(await add(store))

    monkeypatch.setattr(trio.lowlevel, "cancel_shielded_checkpoint", a_long_turn)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(write)
            await gathered.wait()
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(store.committer.stop)
            await trio.testing.wait_all_tasks_blocked(0.05)  # whatever the thread has to do, it has done
            assert ids == []
            go_on.set()
    assert {await status(store, each) for each in ids} == {"pending"}
    assert len(ids) == 2
