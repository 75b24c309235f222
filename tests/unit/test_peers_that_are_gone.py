"""Peers that nothing comes from any more: found in time, and nobody else is taken for one of them."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import wsproto
from wsproto import events as ws

from jobctl.metrics import Metrics
from jobctl.model import Identity
from jobctl.settings import Stream
from jobctl.stream import frames
from jobctl.stream.endpoint import Endpoint
from jobctl.stream.hub import Hub
from jobctl.stream.transport import Transport

DEAD_AFTER = Stream().dead_after
FOR_EVER = 4e9
PRECISION = DEAD_AFTER / 15
"""How much earlier than the limit a peer may be given up that took something, and sent nothing."""


class Line(Transport):
    """A connection's far end, which confirms what it is sent and answers pings, each until ``cut``."""

    def __init__(self, *, cut: float = math.inf, answers: bool = True) -> None:
        self.sent = 0
        self.closed = False
        self.cut, self.answers = cut, answers
        self._confirmed = 0
        self._to_us, self._from_peer = trio.open_memory_channel[bytes](math.inf)
        self.gone: float | None = None

    def try_send(self, data: bytes | memoryview) -> int:
        self.sent += len(data)
        if trio.current_time() < self.cut:
            self._confirmed = self.sent
            if self.answers and data == frames.PING:
                self.says(ws.Pong())
        return len(data)

    def says(self, event: ws.Event) -> None:
        parser = wsproto.connection.Connection(wsproto.ConnectionType.CLIENT)
        self._to_us.send_nowait(parser.send(event))

    async def receive(self) -> bytes:
        try:
            return await self._from_peer.receive()
        except trio.EndOfChannel:
            raise ConnectionAbortedError from None

    def acknowledged(self) -> int:
        return self._confirmed

    def finish(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True
        self._to_us.close()
        self.gone = trio.current_time()

    abort = close


@asynccontextmanager
async def endpoint_and_peer(line: Line) -> AsyncIterator[Endpoint]:
    """An endpoint with one peer, which has signed in at its second 0."""
    store: Any = SimpleNamespace(epoch="an epoch")  # nobody reads
    hub = Hub(store, clock=lambda: 0, metrics=Metrics())
    endpoint = Endpoint(
        hub, store, verify=lambda _: Identity("ann", "admin", FOR_EVER, "t"), limits=Stream(), clock=lambda: 0.0
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(endpoint.run)
        line.says(ws.TextMessage(json.dumps({"type": "auth", "token": "x"})))

        async def attend() -> None:
            with suppress(ConnectionAbortedError):
                await endpoint._attend(line, b"", "there")

        nursery.start_soon(attend)
        await trio.testing.wait_all_tasks_blocked()
        (connection,) = endpoint.connections
        assert connection.identity is not None
        yield endpoint
        nursery.cancel_scope.cancel()


async def keep_sending(line: Line, every: float) -> None:
    while not line.closed:
        await trio.sleep(every)
        line.try_send(b"an update")


@pytest.mark.parametrize("cut", [0.5, 1, 4.9, 5.1, 29, 30.5, 44, 59.9, 61, 89.5, 200])
@pytest.mark.parametrize("every", [None, 0.7, 13.0])
async def test_one_whose_packets_are_dropped_is_found_within_75_seconds(
    autojump_clock: trio.testing.MockClock, cut: float, every: float | None
) -> None:
    """Whenever that begins, and whatever it is sent meanwhile: the last that it took was before."""
    line = Line(cut=cut)
    async with endpoint_and_peer(line) as endpoint, trio.open_nursery() as nursery:
        if every is not None:
            nursery.start_soon(keep_sending, line, every)
        with trio.fail_after(cut + 1000):
            while endpoint.connections:
                await trio.sleep(0.05)
        assert line.gone is not None
        assert line.gone <= cut + DEAD_AFTER
        assert line.gone >= cut - 30 - PRECISION + DEAD_AFTER or every is None, "it lived until then"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answers", "every"), [(True, None), (True, 0.7), (False, 0.7), (False, 13.0), (False, DEAD_AFTER - PRECISION - 1)]
)
async def test_one_that_answers_or_takes_something_in_time_is_kept(
    autojump_clock: trio.testing.MockClock, answers: bool, every: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that take something and say nothing are readers with much before them."""
    if not answers:
        monkeypatch.setattr(frames, "PING", b"")  # as for a reader that is behind: it gets none
    line = Line(answers=answers)
    async with endpoint_and_peer(line) as endpoint, trio.open_nursery() as nursery:
        if every is not None:
            nursery.start_soon(keep_sending, line, every)
        await trio.sleep(20 * DEAD_AFTER)
        assert len(endpoint.connections) == 1
        nursery.cancel_scope.cancel()


async def test_the_time_that_nobody_listened_is_not_a_peers_silence(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A loop that stood for two minutes first counts them, or first reads what came meanwhile: as it happens."""
    for _ in range(20):
        line = Line(cut=10.0, answers=False)
        async with endpoint_and_peer(line) as endpoint:
            await trio.sleep(10.5)
            line.says(ws.Pong())
            autojump_clock.jump(120)
            await trio.sleep(2)
            assert len(endpoint.connections) == 1
            await trio.sleep(DEAD_AFTER - 3)
            assert len(endpoint.connections) == 1
            await trio.sleep(2)
            assert not endpoint.connections
