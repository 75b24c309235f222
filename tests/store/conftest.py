"""The implementations that the conformance suite runs on."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from store_kit import Clock, Heard, check_invariants

from jobctl.store import bulk, postgres, sqlite
from jobctl.store.base import Store
from jobctl.store.postgres_settings import PostgresOptions

OpenStore = Callable[[], AbstractAsyncContextManager[Any]]


@pytest.fixture(autouse=True)
def _time_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of one transaction does not run out, however slow the machine; one test is about that."""
    monkeypatch.setattr(bulk, "BUDGET_S", 60.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> OpenStore:
    """Opens the test's store; again after it was closed, the same one."""

    @asynccontextmanager
    async def open_sqlite() -> AsyncIterator[Store]:
        place = {"state_dir": tmp_path / "state", "durability": "normal"}  # syncs have tests of their own
        async with sqlite.open_store(tmp_path / "jobs.db", **place) as store:
            store.clock = clock
            yield store

    if request.param == "sqlite":
        return open_sqlite
    url = request.getfixturevalue("postgres_url")

    @asynccontextmanager
    async def open_postgres() -> AsyncIterator[Store]:
        # Alone on its database, it needs not hear of others at once; that has tests of its own.
        async with postgres.open_postgres(url, options=PostgresOptions(notify=False)) as store:
            store.clock = clock
            yield store

    return open_postgres


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    """A new store. At the end of the test the invariants must hold."""
    async with open_store() as opened:
        yield opened
        await check_invariants(opened)


@pytest.fixture
async def heard(store: Store) -> Heard:
    return Heard(store)
