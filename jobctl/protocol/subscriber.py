"""The client's end of the stream, without I/O: what to send, what to hand on, where the reader is.

Whoever owns a connection (``client/live.py``, a load generator) drives one ``Subscriber`` for as long as it wants to
follow, over any number of connections::

    opened(now)                 a connection stands (the WebSocket handshake is done)
    receive(text, now)          a text message came: do what is returned, in order
    heard(now)                  anything else came (a ping, a pong): the peer lives
    tick(now)                   ``deadline`` has passed: do what is returned
    closed(code, now, draw)     the connection is gone, or could not be made: come back, or stop

What is returned is one of

    Send(text)                  write this text message
    SignIn(fresh)               get a token (a new one if ``fresh``), then send what ``sign_in(token)`` returns
    Deliver(message, ...)       hand this to the reader
    Live(position, recovered)   the subscription stands
    Stale(position)             updates were lost: fetch the current state, then send what ``rebase(position)`` returns
    Stalled()                   the peer is dead: drop the connection and call ``closed(None, ...)``
    Stop(error)                 it is of no use to go on: close the connection and raise ``error``

The reader gets every update once and in order: ``position`` moves only forward within an epoch, what is at or before
it is dropped, and each new connection asks for what comes after it.
"""

from enum import Enum, auto
from typing import Final

import msgspec

from jobctl.errors import ApiError, ClientError, SignInFailed, Unreachable
from jobctl.model import Position
from jobctl.protocol import messages as m
from jobctl.protocol.close_codes import TABLE, UNAUTHORIZED, should_reconnect
from jobctl.retry import backoff

PING_EVERY_S: Final = 30.0
"""A JSON ping, whose answer also moves the position of a subscriber whose filter lets little through."""
DEAD_AFTER_S: Final = 75.0
"""Nothing heard for this long: the same figure as the server's, two and a half pings."""
BACKOFF_BASE_S: Final = 0.5
BACKOFF_CAP_S: Final = 10.0
CATCH_UP_PING_S: Final = 0.5
"""While a replay runs: a filter may let nothing of it through, and only a pong says how far it is."""
STEADY_AFTER_S: Final = 5.0
"""A connection that stood this long was a good one: the next backoff starts from the bottom."""

Update = m.JobUpdate | m.JobDeleted | m.JobsPruned | m.JobStatsUpdate | m.JobLog


class Send(msgspec.Struct, frozen=True):
    """Write this text message."""

    text: bytes


class SignIn(msgspec.Struct, frozen=True):
    """Get a token, then send what ``Subscriber.sign_in`` returns. ``fresh``: not the one that was used before.

    ``renewal``: the connection is signed in and its token still holds; whoever has no newer one may ignore this.
    """

    fresh: bool
    renewal: bool = False


class Deliver(msgspec.Struct, frozen=True):
    """Hand ``message`` to the reader; ``text`` is how it came, and ``position`` where the reader is after it."""

    message: Update
    text: str
    position: Position


class Live(msgspec.Struct, frozen=True):
    """The subscription stands. ``recovered`` is false only where updates were lost (a ``Stale`` follows)."""

    position: Position
    recovered: bool


class Stale(msgspec.Struct, frozen=True):
    """Updates were lost: fetch the current state, then send what ``Subscriber.rebase`` returns."""

    position: Position


class Stalled(msgspec.Struct, frozen=True):
    """Nothing was heard for ``DEAD_AFTER_S``."""


class Stop(msgspec.Struct, frozen=True):
    """It is of no use to go on; ``error`` says why."""

    error: ClientError


class Retry(msgspec.Struct, frozen=True):
    """Connect again after ``delay`` seconds. ``reason`` is for a person."""

    delay: float
    reason: str


Output = Send | SignIn | Deliver | Live | Stale | Stalled | Stop


class Phase(Enum):
    """Where the present connection is."""

    CLOSED = auto()
    GREETING = auto()  # waiting for auth_required
    SIGNING_IN = auto()
    SUBSCRIBING = auto()
    LIVE = auto()
    STALE = auto()  # updates were lost; nothing is delivered until the subscription stands again


class Subscriber:
    """One reader's end of the stream.

    Args:
        request: What to follow. Its ``since`` and ``epoch`` are set here.
        since: Where the reader is; None is live from now.
        renewable: Whether a fresh token can be had; else a refused one ends it.
        log: Follow a log too, from the line after its ``after`` on; each line is delivered once. With ``since`` only.
    """

    def __init__(
        self,
        request: m.SubscribeJobs | None = None,
        *,
        since: Position | None = None,
        renewable: bool = True,
        log: m.SubscribeLogs | None = None,
    ) -> None:
        self._request = request or m.SubscribeJobs()
        self._log = log
        self._renewable = renewable
        self.position = since
        self.phase = Phase.CLOSED
        self._heard_at = self._ping_at = 0.0
        self._live_at: float | None = None
        self._head = 0
        self._failures = 0
        self._fresh_tried = False
        self._refused = False

    # --- the connection ----------------------------------------------------------------------------------------

    def opened(self, now: float) -> None:
        """A new connection stands; the server speaks first."""
        self.phase = Phase.GREETING
        self._heard_at, self._ping_at = now, now + PING_EVERY_S
        self._live_at = None
        self._refused = False

    def heard(self, now: float) -> None:
        """Bytes came."""
        self._heard_at = now

    @property
    def deadline(self) -> float:
        """When ``tick`` is to be called."""
        return min(self._ping_at, self._heard_at + DEAD_AFTER_S)

    def tick(self, now: float) -> list[Output]:
        """What time asks for: a ping, or giving a dead peer up."""
        if now >= self._heard_at + DEAD_AFTER_S:
            return [Stalled()]
        if now < self._ping_at:
            return []
        self._ping_at = now + PING_EVERY_S
        return [Send(m.encode(m.Ping()))] if self.phase is Phase.LIVE else []

    def closed(self, code: int | None, now: float, draw: float) -> Retry | Stop:
        """The connection is gone (``code`` None: without a close message), or could not be made.

        Args:
            code: The close code.
            now: The clock.
            draw: A uniform random number in [0, 1).
        """
        refused = self._refused or code == UNAUTHORIZED.code
        steady = self._live_at is not None and now - self._live_at >= STEADY_AFTER_S
        self.phase, self._live_at = Phase.CLOSED, None
        self._failures = 1 if steady else self._failures + 1
        delay = backoff(self._failures, draw, base=BACKOFF_BASE_S, cap=BACKOFF_CAP_S)
        if refused:
            if self._fresh_tried or not self._renewable:
                return Stop(SignInFailed("the server refuses the token"))
            self._fresh_tried = True
            return Retry(0.0 if self._failures == 1 else delay, "the token was refused; trying a fresh one")
        if code is None:
            return Retry(delay, "connection lost")
        reason = TABLE[code].reason if code in TABLE else f"closed with {code}"
        if should_reconnect(code):
            return Retry(delay, reason)
        return Stop(ClientError(f"the server closed the stream: {reason} ({code})"))

    def rejected(self, status: int, now: float, draw: float) -> Retry | Stop:
        """The WebSocket handshake was answered with HTTP ``status``."""
        if status == 401:
            return self.closed(UNAUTHORIZED.code, now, draw)
        if status == 429 or status >= 500:
            verdict = self.closed(None, now, draw)
            return Retry(verdict.delay, f"the server answers {status}") if isinstance(verdict, Retry) else verdict
        self.phase = Phase.CLOSED
        if status == 404:
            return Stop(Unreachable("there is no jobctl stream at this address"))
        return Stop(ApiError(status, {"title": f"the stream was refused with HTTP {status}"}))

    # --- what the owner says -----------------------------------------------------------------------------------

    def sign_in(self, token: str) -> Send:
        """The answer to ``SignIn``."""
        return Send(m.encode(m.Auth(token=token)))

    def rebase(self, position: Position) -> Send:
        """The state at ``position`` has been fetched: go on from there. The answer to ``Stale``."""
        self.position = position
        return self._subscribe()

    # --- what the server says ----------------------------------------------------------------------------------

    def receive(self, text: str, now: float) -> list[Output]:  # noqa: C901, PLR0911, PLR0912 - a case each
        """A text message came; do what is returned, in order."""
        self._heard_at = now
        try:
            message = m.decode_server(text)
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            return [Stop(ClientError(f"the server sent what this client does not understand: {str(error)[:200]}"))]
        if self.phase is Phase.GREETING and not isinstance(message, m.AuthRequired):
            return [Stop(ClientError("the server does not speak jobctl's stream protocol"))]
        match message:
            case m.JobUpdate() | m.JobDeleted() | m.JobsPruned():
                return self._numbered(message, text)
            case m.JobStatsUpdate():
                live = self.phase is Phase.LIVE and self.position is not None
                return [Deliver(message, text, self.position)] if live and self.position else []
            case m.JobLog():
                return self._lines(message, text)
            case m.Pong(seq=seq):
                self._advance(seq)
                if self.position is not None and self.position.seq < self._head:
                    self._ping_at = min(self._ping_at, now + CATCH_UP_PING_S)
            case m.AuthRequired():
                self.phase = Phase.SIGNING_IN
                return [SignIn(fresh=self._fresh_tried)]
            case m.Connected():
                self._fresh_tried = False
                # A renewed token of another subject or role has dropped the subscription without a word.
                return [self._subscribe()] if self.phase in (Phase.SIGNING_IN, Phase.LIVE) else []
            case m.TokenExpiring():
                return [SignIn(fresh=True, renewal=True)]
            case m.AuthFailed():
                self._refused = True
            case m.JobsSubscribed():
                return self._subscribed(message, now)
            case m.Resync():
                return self._stale(Position(message.epoch, message.seq))
            case m.Error() if self.phase is Phase.SUBSCRIBING:
                return [Stop(ApiError(400, {"code": message.code, "detail": message.message}))]
        return []

    def _subscribe(self) -> Send:
        self.phase = Phase.SUBSCRIBING
        since, epoch = (self.position.seq, self.position.epoch) if self.position else (None, None)
        return Send(m.encode(msgspec.structs.replace(self._request, since=since, epoch=epoch)))

    def _subscribed(self, message: m.JobsSubscribed, now: float) -> list[Output]:
        if self.phase is not Phase.SUBSCRIBING:
            return []
        place = Position(message.epoch, message.seq)
        if self.position is not None and not message.recovered:
            return [Live(place, recovered=False), *self._stale(place)]
        self.phase = Phase.LIVE
        self._live_at = self._live_at or now
        self._head = message.head
        if message.head > message.seq:
            self._ping_at = now
        if self.position is None:
            self.position = place
        log = [] if self._log is None else [Send(m.encode(self._log))]
        return [Live(self.position, recovered=True), *log]

    def _stale(self, place: Position) -> list[Output]:
        if self.phase is Phase.STALE:
            return []
        self.phase = Phase.STALE
        return [Stale(place)]

    def _numbered(self, message: m.JobUpdate | m.JobDeleted | m.JobsPruned, text: str) -> list[Output]:
        before = self.position
        self._advance(message.seq)
        if self.position is None or self.position is before:
            return []
        return [Deliver(message, text, self.position)]

    def _lines(self, message: m.JobLog, text: str) -> list[Output]:
        """Lines that are new: a log that is asked for again (a renewed token) may repeat some."""
        if self._log is None or message.id != self._log.id or self.position is None:
            return []
        after = self._log.after or 0
        lines = tuple(line for line in message.lines if line.n > after)
        if not lines:
            return []
        self._log = msgspec.structs.replace(self._log, after=lines[-1].n)
        return [Deliver(msgspec.structs.replace(message, lines=lines), text, self.position)]

    def _advance(self, seq: int) -> None:
        if self.phase is Phase.LIVE and self.position is not None and seq > self.position.seq:
            self.position = Position(self.position.epoch, seq)
