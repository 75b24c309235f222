"""Watches for what other processes commit, and tells them that this one has.

``LISTEN/NOTIFY`` is only a wake-up: it carries nothing, and is sent outside of the transactions that write, since a
transaction that notifies takes a lock of the whole database server; at most one in ``NOTIFY_EVERY_S`` a process.
Without it (a pooler in transaction mode, or ``notify = "off"``) the database is polled: often while something happens,
and at most 1.1 times a second when nothing does.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import psycopg
import trio

from jobctl.errors import StoreUnavailable
from jobctl.events import Commit
from jobctl.store.postgres_link import SQL, Link
from jobctl.store.postgres_settings import PostgresOptions
from jobctl.store.postgres_tail import Tail

log = logging.getLogger("jobctl.store")

NOTIFY_EVERY_S: Final = 0.005
LISTENING_S: Final = 2.0
"""Between polls while notifications come: nothing is lost if one does not."""
FASTEST_S, SLOWEST_S, SLOWER = 0.02, 0.9, 1.7
"""Between polls without notifications: after one that found something; at most; and how it grows until then."""
RECONNECT_S: Final = 0.5
FOLD_EVERY: Final = 1000
"""Events after which the counters are brought up to date by the process whose event it is: a count adds the rest up."""
VACUUM_EVERY: Final = 5000
"""Claimed jobs after which their dead rows are cleared away: each claim steps over them. The table is small, so that it
takes some milliseconds; autovacuum would look once a minute."""
TIDY_EVERY_S: Final = 60.0
NOTES_KEPT_MS: Final = 300_000
"""A process that was out of touch for longer ends: it cannot know what it has missed."""


class Watch:
    """The task that keeps ``tail`` going.

    Args:
        tail: The position.
        connect: Makes a connection of a name; raises StoreUnavailable.
        options: Whether notifications are used.
        give: Tells listeners; called on the trio thread.
        clock: Is told the database's time.
        taken: How many jobs this process has claimed, ever.
    """

    def __init__(
        self,
        tail: Tail,
        connect: Callable[[str], Link],
        options: PostgresOptions,
        *,
        give: Callable[[Sequence[Commit]], None],
        clock: Any,
        taken: Callable[[], int],
    ) -> None:
        self._tail, self._connect, self._give, self._clock = tail, connect, give, clock
        self._notify = options.notify and not options.transaction_pooling
        self._link: Link | None = None
        self._pid = 0
        self._listening = False
        self._look = trio.Event()
        self._announce = trio.Event()
        self._taken, self._vacuumed = taken, 0
        self._folded = 0
        self._tidied = 0.0
        self._lock = threading.Lock()  # of the connection: one thread polls, another notifies
        self._token: trio.lowlevel.TrioToken | None = None
        self.polls = 0
        """How often the database was asked."""

    def look(self) -> None:
        """Poll at once."""
        self._look.set()

    def committed(self, head: int) -> None:
        """This process has committed up to ``head``: others are told, and counters folded where it is time."""
        if self._notify:
            self._announce.set()
        if head // FOLD_EVERY != self._folded // FOLD_EVERY or self._taken() - self._vacuumed >= VACUUM_EVERY:
            self._look.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled."""
        self._token = trio.lowlevel.current_trio_token()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._poll)
                if self._notify:
                    nursery.start_soon(self._listen)
                    nursery.start_soon(self._tell)
                task_status.started()
        finally:  # no thread of its tasks is at work any more
            if self._link is not None:
                self._link.close()

    # --- polling -------------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        pause = FASTEST_S
        lost = False
        while True:
            self._look = trio.Event()
            try:
                found = await trio.to_thread.run_sync(self._poll_in_thread)
            except (psycopg.Error, StoreUnavailable) as error:
                if not lost:
                    log.warning("cannot follow what others commit: %s", " ".join(str(error).split()))
                lost, found = True, False
                await trio.sleep(RECONNECT_S)
            else:
                if lost:
                    log.info("following what others commit again")
                lost = False
            pause = longer(pause, found=found)
            await trio.sleep(NOTIFY_EVERY_S)  # others may commit all the time
            with trio.move_on_after(LISTENING_S if self._listening else pause):
                await self._look.wait()

    def _poll_in_thread(self) -> bool:
        with self._lock:
            return self._poll_on(self._linked())

    def _poll_on(self, link: Link) -> bool:
        asked = time.monotonic()
        (((seq, n, at),), _), = link.ask((SQL["heads"], ()))
        self._clock.told(at, asked, time.monotonic())
        self.polls += 1
        found = (seq, n) != (self._tail.seq, self._tail.n) and self._tail.poll(link.ask, self._hand)
        if seq // FOLD_EVERY != self._folded // FOLD_EVERY:
            self._fold(link)
        if (taken := self._taken()) - self._vacuumed >= VACUUM_EVERY:
            self._vacuumed = taken
            link.execute("VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) ready")
        if at - self._tidied > TIDY_EVERY_S * 1000:
            self._tidied = at
            link.execute(SQL["forget_notes"], (at - NOTES_KEPT_MS,))
        return found

    def _hand(self, commits: Sequence[Commit]) -> None:
        assert self._token is not None  # noqa: S101 - set by run
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._give, commits)

    def _linked(self) -> Link:
        if self._link is None or self._link.broken:
            self._link = self._connect("watch")
            self._pid = self._link.raw.info.backend_pid
            if self._notify:  # a notification need not outlive a crash
                self._link.execute("SET synchronous_commit = off")
        return self._link

    def _fold(self, link: Link) -> None:
        try:
            rows, _ = link.execute_all([*link.begin(), (SQL["lock_folding"], ())])[-1]
            ((head,),), _ = link.execute(SQL["head"])
            if rows and head > rows[0][0]:
                link.execute(SQL["fold"], (rows[0][0], head))
            link.execute("COMMIT")
            self._folded = head
        finally:
            link.roll_back()

    # --- notifications -------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while True:
            with suppress(psycopg.Error, StoreUnavailable, OSError):
                link = await trio.to_thread.run_sync(self._connect, "listener")
                try:
                    await trio.to_thread.run_sync(partial(link.execute, "LISTEN jobctl"))
                    self._listening = True
                    self.look()
                    await self._hear(link)
                finally:
                    self._listening = False
                    link.close()
            self.look()
            await trio.sleep(RECONNECT_S)

    async def _hear(self, link: Link) -> None:
        connection = link.raw.pgconn
        while True:
            await trio.lowlevel.wait_readable(connection.socket)
            connection.consume_input()
            while (told := connection.notifies()) is not None:
                if told.be_pid != self._pid:
                    self._look.set()

    async def _tell(self) -> None:
        while True:
            await self._announce.wait()
            self._announce = trio.Event()
            with suppress(psycopg.Error, StoreUnavailable):
                await trio.to_thread.run_sync(self._notify_in_thread)
            await trio.sleep(NOTIFY_EVERY_S)

    def _notify_in_thread(self) -> None:
        with self._lock:
            self._linked().execute("NOTIFY jobctl")


def longer(pause: float, *, found: bool) -> float:
    """The pause (s) after the next poll."""
    return FASTEST_S if found else min(SLOWEST_S, pause * SLOWER)
