"""The stream's own code fails at random, everywhere: no reader misses an update, or hears of one twice."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio_websocket

from jobctl.stream import hub as hub_module
from jobctl.stream.connection import Connection
from jobctl.stream.hub import Entry
from jobctl.stream.tally import Tally
from tests.kit import Running

pytestmark = pytest.mark.faults
ROUNDS = 80
TAGGED = {"filter": {"tags": ["t"]}}


class Failures:
    """Makes functions fail at random, until ``over``."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.over = False
        self.n = 0

    def maybe(self, p: float) -> None:
        if not self.over and self.random.random() < p:
            self.n += 1
            raise RuntimeError("on purpose")

    def some(self, function: Callable[..., Any], p: float) -> Callable[..., Any]:
        def flaky(*arguments: Any, **more: Any) -> Any:
            self.maybe(p)
            return function(*arguments, **more)

        return flaky


@pytest.fixture
async def failures(
    server: Running, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Failures]:
    made = Failures(request.param)

    class FlakyEntry(Entry):
        __slots__ = ()

        def __init__(self, *arguments: Any, **more: Any) -> None:
            made.maybe(0.01)
            super().__init__(*arguments, **more)

    hub = server.service.hub
    monkeypatch.setattr(hub_module, "COUNT_AGAIN_S", 0.05)
    monkeypatch.setattr(hub_module, "STATS_EVERY_S", 0.02)
    monkeypatch.setattr(hub_module, "Entry", FlakyEntry)
    for owner, name, p in (
        (hub, "before_flush", 0.05), (hub, "_give", 0.03), (hub, "_cut_ring", 0.03), (hub._store, "counters", 0.1),
        (Tally, "apply", 0.01), (Connection, "send_stats", 0.03),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, made.some(getattr(owner, name), p))
    yield made


class Reader:
    """Follows, and comes back to where it was whenever it is cut off."""

    def __init__(self, server: Running, **wanted: Any) -> None:
        self.server, self.wanted = server, wanted
        self.heard: list[int] = []
        self.pending: int | None = None
        self.broken: list[str] = []

    async def run(self) -> None:
        while True:
            try:
                async with self.server.peer() as peer:
                    since, epoch = (self.heard or [0])[-1], self.server.service.hub.epoch
                    await peer.say(type="subscribe_jobs", since=since, epoch=epoch, **self.wanted)
                    while True:
                        self._take(await peer.hear())
            except* (trio_websocket.ConnectionClosed, AssertionError):  # the latter: cut off before it had signed in
                await trio.sleep(0.01)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "job_update":
            self.heard.append(message["seq"])
        elif message["type"] == "job_stats_update":
            self.pending = message["stats"]["pending"]
        elif message["type"] == "resync" or not message.get("recovered", True):
            self.broken.append(str(message))


@pytest.mark.parametrize("failures", range(3), indirect=True)
async def test_no_reader_misses_anything_whatever_fails_in_the_stream(
    server: Running, failures: Failures, nursery: trio.Nursery
) -> None:
    every = [Reader(server) for _ in range(3)]
    some = Reader(server, **TAGGED)
    for reader in (*every, some):
        nursery.start_soon(reader.run)
    seqs: list[tuple[int, bool]] = []

    async def add(n: int, *, tagged: bool) -> None:
        await server.enqueue(n, tags=("t",) if tagged else ())
        first = len(seqs) + 1
        seqs.extend((seq, tagged) for seq in range(first, first + n))

    for _ in range(ROUNDS):
        await add(failures.random.randrange(1, 6), tagged=failures.random.random() < 0.3)
        if failures.random.random() < 0.3:
            await trio.sleep(failures.random.random() * 0.03)
    failures.over = True
    assert failures.n > 5
    await add(1, tagged=True)
    with trio.fail_after(30):
        while any(reader.heard[-1:] != [len(seqs)] or reader.pending != len(seqs) for reader in (*every, some)):
            await trio.sleep(0.02)
    for reader in every:
        assert reader.heard == [seq for seq, _ in seqs]
    assert some.heard == [seq for seq, tagged in seqs if tagged]
    assert not [each for reader in (*every, some) for each in reader.broken]
    nursery.cancel_scope.cancel()
