"""Schedules on the stream: whole snapshots for the admins who asked, when they have changed."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from jobctl.errors import JobctlError
from jobctl.model import wire_time
from jobctl.protocol import messages
from jobctl.store.base import Store
from jobctl.stream import frames
from jobctl.stream.snapshots import Follower, Followers

log = logging.getLogger("jobctl.stream")

EVERY_S: Final = 0.25
INLINE_ALL: Final = 128 * 1024
"""A snapshot longer than this is sent without any schedule's data: half of what a slow reader may have waiting."""


class ScheduleFeed:
    """Reads the schedules after a change, at most four times a second and only while somebody follows them.

    Args:
        store: Where they are.
        reached: Waits until the stream has told everything up to a number of the log: a snapshot may name a job,
            and is never ahead of the events.
        clock: Milliseconds since the epoch.
    """

    def __init__(
        self, store: Store, reached: Callable[[int], Awaitable[None]], *, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._reached = reached
        self._clock = clock
        self._followers = Followers("schedules")
        self._due = trio.Event()

    def changed(self) -> None:
        """A schedule is new, has changed or is gone."""
        if self._followers:
            self._due.set()

    def follow(self, follower: Follower) -> None:
        """Send snapshots to ``follower`` from now on, one soon: it has had none, or was behind and missed some."""
        self._followers.add(follower)
        self._due.set()

    def unfollow(self, follower: Follower) -> None:
        """No more of them; harmless if it does not follow."""
        self._followers.remove(follower)

    async def run(self) -> None:
        """Send what is due."""
        while True:
            await self._due.wait()
            self._due = trio.Event()
            try:
                await self._send()
            except JobctlError as error:
                log.debug("cannot read the schedules: %s", error)
                self._due.set()
            except Exception:
                log.debug("the stream failed on schedules", exc_info=True)
            await trio.sleep(EVERY_S)

    async def _send(self) -> None:
        read = await self._store.schedules.all()
        await self._reached(read.position.seq)
        shown = tuple(state.shown() for state in read.value)
        now = messages.encode(messages.SchedulesUpdate(schedules=shown, timestamp=""))
        to = self._followers.due(now)
        if not to:
            return
        if len(now) > INLINE_ALL:
            shown = tuple(state.shown(inline=False) for state in read.value)
        told = messages.SchedulesUpdate(schedules=shown, timestamp=wire_time(self._clock()))
        self._followers.send(to, frames.text(messages.encode(told)))
