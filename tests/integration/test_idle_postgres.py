"""What a server asks the database that shares it with others, while nothing happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from jobctl.store.postgres_link import Link
from tests.kit import StartServer

SECONDS: Final = 60
"""What is done once a minute has its share."""


@pytest.fixture
def clock() -> MockClock:
    """Jumps to the next thing to do; while a thread asks the database, most likely nothing is passed over."""
    return MockClock(autojump_threshold=0.003)


async def test_an_idle_server_that_nobody_wakes_asks_twice_a_second_at_most(
    clock: MockClock, start_server: StartServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    plain, alone = Link.execute_all, Link.execute

    def execute_all(self: Link, statements: Sequence[Any]) -> Any:
        nonlocal asked
        asked += not self.in_transaction
        return plain(self, statements)

    def execute(self: Link, sql: str, values: Sequence[Any] = ()) -> Any:
        nonlocal asked
        asked += not self.in_transaction
        return alone(self, sql, values)

    await start_server(db=postgres_url, durability="full", postgres={"notify": "off"})
    await trio.sleep(15)  # it leads by now
    monkeypatch.setattr(Link, "execute_all", execute_all)
    monkeypatch.setattr(Link, "execute", execute)
    began = trio.current_time()
    await trio.sleep(SECONDS)
    took = trio.current_time() - began
    assert 1 < asked / took <= 2
