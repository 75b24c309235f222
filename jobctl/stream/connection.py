"""One subscriber: who it is, what it follows, and what is sent to it.

A subscribed connection is either *live* (in its group; the hub gives it every flush, and its position is the hub's
head) or *behind* at a position of its own. Whoever is behind, or has something waiting, is fed by a task of
``feeder``; a live connection that takes what it is given has none.
"""

import logging
import math
from collections.abc import Callable
from functools import partial

import trio

from jobctl.errors import JobctlError
from jobctl.model import Identity, wire_time
from jobctl.protocol import close_codes, messages
from jobctl.protocol.close_codes import Close
from jobctl.protocol.session import AUTH_FAILED
from jobctl.store.base import Store
from jobctl.stream import frames
from jobctl.stream.feeder import feed, from_ring
from jobctl.stream.filters import key_of
from jobctl.stream.hub import Hub
from jobctl.stream.log_feed import LogFeed
from jobctl.stream.outbox import Expired, Outbox
from jobctl.stream.pulse import Pulse
from jobctl.stream.subscription import Subscription
from jobctl.stream.transport import Transport

log = logging.getLogger("jobctl.stream")

class Connection:
    """A signed-in connection. ``spawn`` starts a task that lives no longer than the stream server."""

    __slots__ = (
        "_farewell",
        "_spawn",
        "closing",
        "ended_at",
        "feeding",
        "hub",
        "identity",
        "last_ping",
        "logs",
        "outbox",
        "pulse",
        "store",
        "subscription",
        "warned",
    )

    def __init__(
        self, outbox: Outbox, hub: Hub, store: Store, *, spawn: Callable[..., None], now: float
    ) -> None:
        self.outbox = outbox
        self.hub = hub
        self.store = store
        self._spawn = spawn
        self.identity: Identity | None = None
        self.subscription: Subscription | None = None
        self.logs: LogFeed | None = None
        self.feeding = False
        self.closing = False
        self._farewell: trio.Event | None = None
        self.warned = False
        self.pulse = Pulse(now)
        self.last_ping = now
        self.ended_at = math.inf

    @property
    def transport(self) -> Transport:
        """The bytes below."""
        return self.outbox.transport

    @property
    def position(self) -> int:
        """Everything up to here has been handed over, or did not match."""
        wanted = self.subscription
        return self.hub.head if wanted is None or wanted.live else wanted.position

    # --- sending -------------------------------------------------------------------------------------------------

    def say(self, text: bytes) -> None:
        """Send one control message."""
        self.control(frames.text(text))

    def control(self, frame: bytes) -> None:
        """Send one frame outside the event order; a peer that lets them pile up is closed."""
        if self.closing:
            return
        if self.outbox.expired:  # while an answer was looked up
            self.expire()
            return
        try:
            fits = self.outbox.answer(frame)
        except OSError:
            self.abort()
            return
        if not fits:
            self.end(close_codes.SLOW_CONSUMER, discard=True)
        elif self.outbox.pending:
            self.wake()

    def deliver(self, chunk: bytes, before: int) -> bool:
        """Take a piece of a flush; see ``Member``."""
        try:
            if self.outbox.offer(chunk):
                if self.outbox.pending:
                    self.wake()
                return True
        except Exception as error:  # noqa: BLE001 - whatever it is, the flush goes on to the others
            self._fail(error)
            return True
        self.fall_behind(before)
        return False

    def send_stats(self, frame: bytes) -> None:
        """Take a snapshot; one that does not fit is dropped, a newer one follows when it goes live again."""
        try:
            if self.outbox.offer(frame):
                if self.outbox.pending:
                    self.wake()
            else:
                self.fall_behind(self.hub.head)
        except Exception as error:  # noqa: BLE001 - likewise
            self._fail(error)

    def send_snapshot(self, kind: str, frame: bytes) -> None:
        """Take a snapshot; while something waits it waits alone, apart from the order of events."""
        wanted = self.subscription
        if wanted is None or self.closing:
            return
        if self.outbox.expired:
            self.expire()
            return
        if self.outbox.pending:
            wanted.snapshots[kind] = frame
            self.wake()
            return
        try:
            self.outbox.offer(frame)
        except Exception as error:  # noqa: BLE001 - likewise
            self._fail(error)
        else:
            if self.outbox.pending:
                self.wake()

    def send_waiting(self) -> bool:
        """Send a snapshot that waits; False when none does."""
        wanted = self.subscription
        if wanted is None or not wanted.snapshots:
            return False
        self.send_snapshot(*wanted.snapshots.popitem())
        return True

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, OSError):
            log.debug("sending to a connection failed", exc_info=error)
        self.abort()

    def fall_behind(self, position: int) -> None:
        """Leave the group; see ``Member``."""
        wanted = self.subscription
        if wanted is not None and wanted.live:
            self.hub.metrics.fell_behind += 1
            wanted.leave(self.hub, self)
            wanted.position = position
            self.wake()

    def wake(self) -> None:
        """Have the task run that feeds this connection, if it does not."""
        if not self.feeding and not self.closing:
            self.feeding = True
            self._spawn(partial(feed, self))

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
            group=self.hub.group(key),
            scope=identity.scope,
            stats=message.stats,
            conflate=message.conflate,
            position=position if recovered else self.hub.head,
            schedules=message.schedules and identity.is_admin,
            workers=message.workers and identity.is_admin,
        )
        told = messages.JobsSubscribed(
            seq=wanted.position, head=self.hub.head, epoch=self.hub.epoch, recovered=recovered
        )
        self.say(messages.encode(told))
        for kind, asked in (("schedules", message.schedules), ("workers", message.workers)):
            if asked and not identity.is_admin:
                self.say(messages.encode(messages.Error(code="forbidden", message=f"{kind} are for admins")))
        if not self.closing and not from_ring(self, wanted):
            self.wake()

    async def _resume(self, message: messages.SubscribeJobs) -> tuple[bool, int]:
        """Whether the log goes on from where the client is, and where that is."""
        since = message.since
        if since is None:
            return False, 0
        if message.epoch != self.hub.epoch:
            return False, 0
        if since > self.hub.head or self.hub.since(since) is None:
            try:
                page = await self.store.events(since, limit=1)
            except JobctlError:
                return False, 0
            if since > page.head or page.start > since + 1:
                return False, 0
            await self.hub.reached(since)  # committed, and about to be published
        return True, since

    def unsubscribe(self) -> None:
        """No more updates."""
        if self.subscription is not None:
            self.subscription.leave(self.hub, self)
            self.subscription = None

    # --- logs ----------------------------------------------------------------------------------------------------

    async def follow_log(self, message: messages.SubscribeLogs) -> None:
        """Follow the log of one job, from ``after`` or from now."""
        identity = self.identity
        if identity is None:
            return
        logs = self.logs = self.logs or LogFeed(self, identity, self.hub, self.store)
        refused = await logs.follow(message)
        if self.closing or self.logs is not logs:  # signed in as somebody else meanwhile
            logs.clear()
        elif refused is not None:
            self.say(messages.encode(refused))
        else:
            self.log_grew(message.id)

    def unfollow_log(self, job_id: str) -> None:
        """No more of that log."""
        if self.logs is not None:
            self.logs.unfollow(job_id)

    def log_grew(self, job_id: str) -> None:
        """There may be new lines."""
        if self.logs is not None and self.logs.grew(job_id):
            self.wake()

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
        if self.logs is not None:
            self.logs.clear()
            self.logs = None

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

    def cut_off(self) -> None:
        """End; see ``Member``."""
        self.end(close_codes.INTERNAL, discard=True)

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
            if self.outbox.pending:
                self._farewell = trio.Event()
            self.finish()

    async def told(self) -> None:
        """Wait until an ended connection's last frames are written: closing it would lose what TLS has yet to send."""
        if self._farewell is not None:
            await self._farewell.wait()

    def finish(self) -> None:
        """Write what remains of an ended connection; the server bounds the time."""
        if not self.outbox.pending:
            self.transport.finish()
        elif not self.feeding:
            self.feeding = True
            self._spawn(self._last_words)

    async def _last_words(self) -> None:
        try:
            await self.outbox.drain()
            self.transport.finish()
        except (OSError, Expired):
            self.abort()
        finally:
            self._said()

    def _said(self) -> None:
        if self._farewell is not None:
            self._farewell.set()

    def abort(self) -> None:
        """Drop the connection at once."""
        self.closing = True
        self.drop_all()
        self.outbox.clear()
        self.transport.abort()
        self._said()
