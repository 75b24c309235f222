"""The outbox's bounds and order, on a transport that takes as many bytes as it is told to."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from jobctl.stream.outbox import CONTROL_ROOM, Expired, Outbox
from jobctl.stream.transport import Transport


class Valve(Transport):
    """Takes ``room`` bytes, then none until more room is made."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken = b""
        self.opened = trio.Event()

    def try_send(self, data: bytes | memoryview) -> int:
        n = min(self.room, len(data))
        self.room -= n
        self.taken += bytes(data[:n])
        return n

    async def wait_writable(self) -> None:
        await self.opened.wait()

    def open(self, room: int) -> None:
        self.room += room
        self.opened.set()
        self.opened = trio.Event()


def test_what_fits_goes_straight_through() -> None:
    valve = Valve(100)
    outbox = Outbox(valve, 50, clock=lambda: 0.0)
    assert outbox.offer(b"abc")
    assert (valve.taken, outbox.pending, outbox.torn) == (b"abc", 0, False)


def test_what_does_not_fit_is_refused_whole() -> None:
    outbox = Outbox(Valve(2), 10, clock=lambda: 0.0)
    assert outbox.offer(b"abcdef")  # 4 bytes wait
    assert outbox.offer(b"ghijkl")  # exactly full
    assert not outbox.offer(b"m")
    assert outbox.pending == 10
    assert outbox.torn


def test_control_messages_have_room_of_their_own_and_that_is_bounded_too() -> None:
    outbox = Outbox(Valve(0), 10, clock=lambda: 0.0)
    assert outbox.offer(b"x" * 10)
    assert outbox.answer(b"y" * CONTROL_ROOM)
    assert not outbox.answer(b"z")


async def test_draining_keeps_the_order_and_resumes_inside_a_chunk() -> None:
    valve = Valve(1)
    outbox = Outbox(valve, 100, clock=lambda: 0.0)
    for chunk in (b"abc", b"def", b"ghi"):
        assert outbox.offer(chunk)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.drain)
        for room in (1, 3, 10):
            await trio.testing.wait_all_tasks_blocked()
            valve.open(room)
    assert (valve.taken, outbox.pending, outbox.torn) == (b"abcdefghi", 0, False)


async def test_what_was_cleared_while_waiting_is_not_written() -> None:
    valve = Valve(0)
    outbox = Outbox(valve, 100, clock=lambda: 0.0)
    assert outbox.offer(b"secret")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.drain)
        await trio.testing.wait_all_tasks_blocked()
        outbox.clear()
        assert outbox.answer(b"bye")
        valve.open(100)
    assert valve.taken == b"bye"


async def test_nothing_is_written_after_the_deadline() -> None:
    now = 0.0
    valve = Valve(0)
    outbox = Outbox(valve, 100, clock=lambda: now)
    outbox.until = 5.0
    assert outbox.offer(b"secret")
    with pytest.RaisesGroup(Expired):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.drain)
            await trio.testing.wait_all_tasks_blocked()
            now = 5.0
            valve.open(100)
    assert valve.taken == b""
