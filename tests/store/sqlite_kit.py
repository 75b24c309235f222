"""A SQLite store on a file; and holding its writer thread, so that a test decides what goes into one transaction.

Import the fixtures by name.
"""

import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from store_kit import Clock

from jobctl.store.sqlite import SqliteStore, open_store
from jobctl.store.transaction import Tx


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
async def store(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    async with open_store(path, state_dir=path.parent / "state") as opened:
        opened.clock = clock
        yield opened


class Gate:
    """Holds the writer thread until it is opened, so that a group gathers behind it."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._open = threading.Event()
        self._entered = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    async def hold(self, nursery: trio.Nursery) -> None:
        def wait(tx: Tx) -> None:
            self._token.run_sync_soon(self._entered.set)
            assert self._open.wait(10)

        nursery.start_soon(self._store.committer.submit, wait)
        await self._entered.wait()

    def open(self) -> None:
        self._open.set()


async def together(store: SqliteStore, *writes: Callable[[], Any]) -> list[Any]:
    """Run ``writes`` in one group; what each returned or raised."""
    answers: list[Any] = [None] * len(writes)

    async def one(i: int) -> None:
        try:
            answers[i] = await writes[i]()
        except Exception as error:  # noqa: BLE001 - the answer is what is asked for
            answers[i] = error

    gate = Gate(store)
    async with trio.open_nursery() as nursery:
        await gate.hold(nursery)
        for i in range(len(writes)):
            nursery.start_soon(one, i)
            await trio.testing.wait_all_tasks_blocked()
        gate.open()
    return answers
