"""One subscriber: its subscriptions, its position, and how it is fed.

A subscribed connection is either *live* (in its group; the hub gives it every flush, and its position is the hub's
head) or *behind* at a position of its own. Whoever is behind is fed by ``_pump``, a task that exists only while
there is something to do: it drains the outbox, reads a page of the log, and again, until the position is inside the
hub's ring; then the rest is copied and the connection goes live without a checkpoint in between, so that no event
can fall between the two.
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
import trio

from jobctl.errors import JobctlError
from jobctl.events import JOB_UPDATE, Event
from jobctl.model import Identity, wire_time
from jobctl.protocol import close_codes, messages
from jobctl.protocol.close_codes import Close
from jobctl.protocol.session import AUTH_FAILED
from jobctl.states import TERMINAL
from jobctl.store.base import Store
from jobctl.stream import frames
from jobctl.stream.filters import key_of
from jobctl.stream.hub import Entry, Group, Hub, chunks, scoped
from jobctl.stream.log_feed import LogFeed
from jobctl.stream.outbox import Expired, Outbox
from jobctl.stream.transport import Transport

log = logging.getLogger("jobctl.stream")

PAGE: Final = 256
"""Events of one read of the log; about half an outbox."""
RETRY_READ_S: Final = 1.0


class Subscription(msgspec.Struct):
    """What ``subscribe_jobs`` asked for. ``position``: everything up to here has been handed over."""

    group: Group
    scope: str | None
    stats: bool
    conflate: bool
    position: int
    schedules: bool = False
    live: bool = False
    greeted: bool = False
    snapshot: bytes | None = None
    """Schedules that wait until the reader has taken what was before."""


class Connection:
    """A signed-in connection. ``spawn`` starts a task that lives no longer than the stream server."""

    __slots__ = (
        "_hub",
        "_logs",
        "_pumping",
        "_spawn",
        "_store",
        "acknowledged",
        "closing",
        "ended_at",
        "identity",
        "last_life",
        "last_ping",
        "outbox",
        "subscription",
        "warned",
    )

    def __init__(
        self, outbox: Outbox, hub: Hub, store: Store, *, spawn: Callable[..., None], now: float
    ) -> None:
        self.outbox = outbox
        self._hub = hub
        self._store = store
        self._spawn = spawn
        self.identity: Identity | None = None
        self.subscription: Subscription | None = None
        self._logs: LogFeed | None = None
        self._pumping = False
        self.closing = False
        self.warned = False
        self.last_life = self.last_ping = now
        self.acknowledged = 0
        self.ended_at = math.inf

    @property
    def transport(self) -> Transport:
        """The bytes below."""
        return self.outbox.transport

    @property
    def position(self) -> int:
        """Everything up to here has been handed over, or did not match."""
        wanted = self.subscription
        return self._hub.head if wanted is None or wanted.live else wanted.position

    # --- sending -------------------------------------------------------------------------------------------------

    def say(self, text: bytes) -> None:
        """Send one control message."""
        self.control(frames.text(text))

    def control(self, frame: bytes) -> None:
        """Send one frame outside the event order; a peer that lets them pile up is closed."""
        if self.closing:
            return
        try:
            fits = self.outbox.answer(frame)
        except OSError:
            self.abort()
            return
        if not fits:
            self.end(close_codes.SLOW_CONSUMER, discard=True)
        elif self.outbox.pending:
            self._wake()

    def deliver(self, chunk: bytes, before: int) -> bool:
        """Take a piece of a flush; see ``Member``."""
        try:
            if self.outbox.offer(chunk):
                if self.outbox.pending:
                    self._wake()
                return True
        except OSError:
            self.abort()
            return True
        self._fall_behind(before)
        return False

    def send_stats(self, frame: bytes) -> None:
        """Take a snapshot; one that does not fit is dropped, a newer one follows when it goes live again."""
        try:
            if self.outbox.offer(frame):
                if self.outbox.pending:
                    self._wake()
            else:
                self._fall_behind(self._hub.head)
        except OSError:
            self.abort()

    def send_schedules(self, frame: bytes) -> None:
        """Take a snapshot; while something waits it waits alone, apart from the order of events."""
        wanted = self.subscription
        if wanted is None or self.closing:
            return
        if self.outbox.pending:
            wanted.snapshot = frame
            self._wake()
            return
        try:
            self.outbox.offer(frame)
        except OSError:
            self.abort()
        else:
            if self.outbox.pending:
                self._wake()

    def _send_snapshot(self) -> bool:
        """Send the snapshot that waits; False when none does."""
        wanted = self.subscription
        if wanted is None or wanted.snapshot is None:
            return False
        frame, wanted.snapshot = wanted.snapshot, None
        self.send_schedules(frame)
        return True

    def _fall_behind(self, position: int) -> None:
        wanted = self.subscription
        if wanted is not None and wanted.live:
            self._hub.metrics.fell_behind += 1
            self._leave(wanted)
            wanted.position = position
            self._wake()

    # --- subscriptions -------------------------------------------------------------------------------------------

    async def subscribe(self, message: messages.SubscribeJobs) -> None:
        """Follow jobs; replaces what was followed before."""
        identity = self.identity
        if identity is None:
            return
        self.unsubscribe()
        recovered, position = await self._resume(message)
        if self.closing or self.identity is not identity:
            return
        key = key_of(message.filter, identity)
        self.subscription = wanted = Subscription(
            group=self._hub.group(key),
            scope=identity.scope,
            stats=message.stats,
            conflate=message.conflate,
            position=position if recovered else self._hub.head,
            schedules=message.schedules and identity.is_admin,
        )
        told = messages.JobsSubscribed(
            seq=wanted.position, head=self._hub.head, epoch=self._hub.epoch, recovered=recovered
        )
        self.say(messages.encode(told))
        if message.schedules and not identity.is_admin:
            self.say(messages.encode(messages.Error(code="forbidden", message="schedules are for admins")))
        if not self.closing and not self._from_ring(wanted):
            self._wake()

    async def _resume(self, message: messages.SubscribeJobs) -> tuple[bool, int]:
        """Whether the log goes on from where the client is, and where that is."""
        since = message.since
        if since is None:
            return False, 0
        if message.epoch != self._hub.epoch:
            return False, 0
        if since > self._hub.head or self._hub.since(since) is None:
            try:
                page = await self._store.events(since, limit=1)
            except JobctlError:
                return False, 0
            if since > page.head or page.start > since + 1:
                return False, 0
            await self._hub.reached(since)  # committed, and about to be published
        return True, since

    def unsubscribe(self) -> None:
        """No more updates."""
        if self.subscription is not None:
            self._leave(self.subscription)
            self.subscription = None

    def _leave(self, wanted: Subscription) -> None:
        if wanted.live:
            wanted.live, wanted.snapshot = False, None
            self._hub.leave(wanted.group, self)
            if wanted.stats:
                self._hub.drop_stats(wanted.scope, self)
            if wanted.schedules:
                self._hub.schedules.unfollow(self)

    def _go_live(self, wanted: Subscription) -> None:
        wanted.live = True
        wanted.position = self._hub.head
        wanted.group = self._hub.join(wanted.group, self)
        if wanted.stats:
            self._hub.want_stats(wanted.scope, self, first=not wanted.greeted)
        if wanted.schedules:
            self._hub.schedules.follow(self)
        wanted.greeted = True

    # --- feeding those who are behind ----------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._pumping and not self.closing:
            self._pumping = True
            self._spawn(self._pump)

    async def _pump(self) -> None:
        try:
            while not self.closing:
                await self.outbox.drain()
                self.outbox.check()
                wanted = self.subscription
                if wanted is not None and not wanted.live:
                    if not self._from_ring(wanted):
                        await self._from_log(wanted)
                elif self._logs is not None and self._logs.due:
                    await self._feed_log(self._logs)
                elif not self._send_snapshot() and not self.outbox.pending:
                    return
        except OSError:
            self.abort()
        except Expired:
            self.expire()
        except Exception:
            log.debug("feeding a connection failed", exc_info=True)
            self.end(close_codes.INTERNAL, discard=True)
        finally:
            self._pumping = False
            if self.closing and not self.transport.closed:
                self._finish()

    def _finish(self) -> None:
        """Write what remains of an ended connection; the server bounds the time."""
        if not self.outbox.pending:
            self.transport.finish()
        elif not self._pumping:
            self._pumping = True
            self._spawn(self._last_words)

    async def _last_words(self) -> None:
        try:
            await self.outbox.drain()
            self.transport.finish()
        except (OSError, Expired):
            self.abort()

    def _from_ring(self, wanted: Subscription) -> bool:
        """Copy from the ring; True when it reached that far back. Goes live when all of it fitted."""
        entries = self._hub.since(wanted.position)
        if entries is None:
            return False
        if self._write(wanted, self._chosen(wanted, entries)):
            self._go_live(wanted)
        else:
            self._wake()
        return True

    async def _from_log(self, wanted: Subscription) -> None:
        """Feed one page of the log, never beyond the hub's head."""
        upto = self._hub.head
        try:
            page = await self._store.events(wanted.position, limit=PAGE, upto=upto)
        except JobctlError as error:
            log.debug("cannot read the log: %s", error)
            await trio.sleep(RETRY_READ_S)
            return
        if wanted is not self.subscription or self.closing:
            return
        self.outbox.check()
        if page.start > wanted.position + 1:
            wanted.position = self._hub.head
            self.say(messages.encode(messages.Resync(seq=wanted.position, epoch=self._hub.epoch)))
            return
        whole = self._write(wanted, self._chosen(wanted, (Entry(event) for event in page.events)))
        if whole and page.events:
            wanted.position = page.events[-1].seq

    def _chosen(self, wanted: Subscription, entries: Iterable[Entry]) -> Sequence[Entry]:
        self._hub.metrics.catch_up_pages += 1
        matches = wanted.group.matches
        chosen = [entry for entry in entries if matches is None or matches(entry.event)]
        chosen = list(scoped(chosen, wanted.group.key.owner))
        return conflated(chosen) if wanted.conflate else chosen

    def _write(self, wanted: Subscription, entries: Sequence[Entry]) -> bool:
        """Hand over in order what fits; ``position`` follows. True when it was all."""
        for chunk, seq, n in chunks(entries):
            if not self.outbox.offer(chunk):
                return False
            wanted.position = seq
            self._hub.metrics.deliveries += n
        return True

    # --- logs ----------------------------------------------------------------------------------------------------

    async def follow_log(self, message: messages.SubscribeLogs) -> None:
        """Follow the log of one job, from ``after`` or from now."""
        identity = self.identity
        if identity is None:
            return
        logs = self._logs = self._logs or LogFeed(self, identity, self._hub, self._store)
        refused = await logs.follow(message)
        if self.closing or self._logs is not logs:  # signed in as somebody else meanwhile
            logs.clear()
        elif refused is not None:
            self.say(messages.encode(refused))
        else:
            self.log_grew(message.id)

    def unfollow_log(self, job_id: str) -> None:
        """No more of that log."""
        if self._logs is not None:
            self._logs.unfollow(job_id)

    def log_grew(self, job_id: str) -> None:
        """There may be new lines."""
        if self._logs is not None and self._logs.grew(job_id):
            self._wake()

    async def _feed_log(self, logs: LogFeed) -> None:
        found = await logs.next_frame()
        if found is None or self.closing or self._logs is not logs:
            return
        self.outbox.check()
        frame, job_id, last = found
        if self.outbox.offer(frame):
            logs.sent(job_id, last)
        else:
            logs.refused(job_id)

    # --- the end -------------------------------------------------------------------------------------------------

    def sign_in(self, identity: Identity, *, drop: bool) -> None:
        """Speak for ``identity``; ``drop``: it is somebody else than before."""
        if drop:
            self.drop_all()
        self.identity = identity
        self.outbox.until = identity.expires_at
        self.warned = False

    def drop_all(self) -> None:
        """End every subscription."""
        self.unsubscribe()
        if self._logs is not None:
            self._logs.clear()
            self._logs = None

    def warn(self) -> None:
        """Say once that the token ends soon."""
        if not self.warned and self.identity is not None:
            self.warned = True
            expires = wire_time(int(self.identity.expires_at * 1000))
            self.say(messages.encode(messages.TokenExpiring(expires_at=expires)))

    def expire(self) -> None:
        """The token has ended: nothing that waits is written any more."""
        self.outbox.until = math.inf
        self.end(AUTH_FAILED.close, AUTH_FAILED.text, discard=True)

    def end(self, why: Close, text: bytes | None = None, *, discard: bool = False) -> None:
        """Send ``text`` and a close frame, then stop sending.

        ``discard``: nothing that waits is written any more; where a frame is half written the connection can only be
        aborted.
        """
        if self.closing:
            return
        if discard:
            if self.outbox.torn:
                self.abort()
                return
            self.outbox.clear()
        self.closing = True
        self.ended_at = trio.current_time()
        self.drop_all()
        try:
            self.outbox.answer((frames.text(text) if text else b"") + frames.close(why))
        except OSError:
            self.abort()
        else:
            self._finish()

    def abort(self) -> None:
        """Drop the connection at once."""
        self.closing = True
        self.drop_all()
        self.outbox.clear()
        self.transport.abort()


def conflated(entries: Sequence[Entry]) -> list[Entry]:
    """Only the latest state per job; terminal states and everything that is not a job's update stay."""
    latest = {entry.event.job_id: entry.event.seq for entry in entries if entry.event.kind == JOB_UPDATE}
    return [entry for entry in entries if _stays(entry.event, latest)]


def _stays(event: Event, latest: dict[str, int]) -> bool:
    return event.kind != JOB_UPDATE or event.status in TERMINAL or latest[event.job_id] == event.seq
