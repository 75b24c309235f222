"""The WebSocket endpoint: one task a connection reads what clients say; a sweep each second keeps time for all.

``wsproto`` parses. No extension is ever agreed to, so nothing is inflated.
"""

import heapq
import logging
import math
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Final, Protocol

import trio
from wsproto import events as ws
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from jobctl.model import Identity
from jobctl.protocol import close_codes, messages
from jobctl.protocol.close_codes import Close
from jobctl.protocol.session import AUTH_REQUIRED, End, FetchKeys, Say, ServerSession, SignedIn, Step
from jobctl.store.base import Store
from jobctl.stream import frames, handshake
from jobctl.stream.connection import Connection
from jobctl.stream.hub import Hub
from jobctl.stream.incoming import Incoming, TooBig, echo, fault
from jobctl.stream.limits import Limits
from jobctl.stream.outbox import Outbox
from jobctl.stream.pace import Pace
from jobctl.stream.pulse import LOOKS
from jobctl.stream.transport import PlainTransport, TlsTransport, Transport
from jobctl.stream.upkeep import CLOSE_TIMEOUT_S, look_after
from jobctl.stream.waiting import Waiting

log = logging.getLogger("jobctl.stream")

PATH: Final = "/api/notifications/ws"
SWEEP_EVERY_S: Final = 1.0
GOODBYE_S: Final = 2.0
"""How long all peers together get when the server stops."""
WORK_S: Final = 0.0005
"""How long a crowd that comes or goes has the event loop before it rests: for two handshakes, sign-ins or
subscriptions, a quarter of a millisecond each, or a dozen connections that are taken down. The p99 of a GET beside 500
that come back is twice what it is without; with 0.0002 it is 1.6 times, and they are back after 2.4 s for 1.7
(``python -m tests.faults.storm``)."""
REST_S: Final = 0.001
TURN: Final = 1024
"""Bytes of one peer that are parsed before the others get their turn: 170 frames at most, at 30 us each."""


class Upgrade(Protocol):
    """What the door hands over; see ``door.Upgrade``."""

    @property
    def stream(self) -> trio.abc.Stream: ...
    @property
    def sock(self) -> trio.socket.SocketType: ...
    @property
    def target(self) -> bytes: ...
    @property
    def headers(self) -> list[tuple[bytes, bytes]]: ...
    @property
    def leftover(self) -> bytes: ...
    @property
    def peer(self) -> str: ...
    @property
    def tls(self) -> bool: ...


class Endpoint:
    """Serves every stream connection.

    Args:
        hub: Where live connections are.
        store: The log, for those who are behind.
        verify: Who a token speaks for; raises ``Unauthorized``.
        limits: Bounds and times.
        origins: Browser origins allowed besides the same one.
        clock: Seconds since the epoch, for tokens.
        fetch_keys: Asks an external issuer for its keys, before a token that needs them is looked at again.
        scheme_of: http or https as the client sees it, from the peer's address, the ``X-Forwarded-Proto`` lines, and
            what the connection itself is.
        address_of: Whom a connection is counted for until it has signed in, from the peer's address and the
            ``X-Forwarded-For`` lines.
    """

    def __init__(
        self,
        hub: Hub,
        store: Store,
        *,
        verify: Callable[[str], Identity],
        limits: Limits,
        origins: Collection[str] = (),
        clock: Callable[[], float],
        fetch_keys: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
        scheme_of: Callable[[str, Sequence[str], str], str] = lambda _peer, _told, own: own,
        address_of: Callable[[str, Sequence[str]], str] = lambda peer, _told: peer,
    ) -> None:
        self._hub = hub
        self._store = store
        self._verify = verify
        self._fetch_keys = fetch_keys
        self._scheme_of = scheme_of
        self._address_of = address_of
        self._waiting = Waiting()
        self._pace = Pace(work=WORK_S, rest=REST_S)
        self._limits = limits
        self._origins = origins
        self._clock = clock
        self._nursery: trio.Nursery | None = None
        self._subjects: Counter[str] = Counter()
        self._deadlines: list[tuple[float, int, Connection]] = []
        self._next_death = math.inf
        self._stopping = False
        self._empty: trio.Event | None = None
        self.connections: dict[Connection, float] = {}
        """Every open connection, with the time (trio's clock) at which it came."""
        hub.before_flush = self.expire_due

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep time, and be the parent of the tasks that feed slow readers."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self._pace.run)
            task_status.started()
            while True:
                due = trio.current_time() + self._next_sweep()
                await trio.sleep_until(due)
                self.sweep(late=trio.current_time() - due)

    def configure(self, limits: Limits, origins: Collection[str]) -> None:
        """Take other limits, for connections from now on, and other origins."""
        self._limits, self._origins = limits, origins

    async def stop(self) -> None:
        """Tell everybody that the server goes away; what has not closed after a moment is dropped."""
        self._stopping = True
        self._end_all(close_codes.GOING_AWAY)
        if self.connections:
            self._empty = trio.Event()
            with trio.move_on_after(GOODBYE_S):
                await self._empty.wait()
        for connection in tuple(self.connections):
            connection.abort()

    def call_back(self) -> None:
        """Have everybody come back and sign in again: tokens that were good may not be any more."""
        self._end_all(close_codes.GOING_AWAY)

    def _end_all(self, why: Close) -> None:
        for connection in tuple(self.connections):
            connection.end(why)

    def _spawn(self, task: Callable[[], object]) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(task)  # type: ignore[arg-type]

    # --- one connection ------------------------------------------------------------------------------------------

    async def turn(self) -> None:
        """Wait for one's turn to come in, before the handshake; see ``pace``."""
        await self._pace.turn()

    async def serve(self, upgrade: Upgrade) -> None:
        """Speak with one peer until either side ends it. Closes the socket."""
        transport: Transport
        if isinstance(upgrade.stream, trio.SSLStream):
            transport = TlsTransport(upgrade.stream)
        else:
            transport = PlainTransport(upgrade.sock)
        try:
            reply = self._greet(upgrade)
            leftover = upgrade.leftover
            address = self._address_of(upgrade.peer, _lines(upgrade, b"x-forwarded-for"))
            del upgrade  # the request's headers are of no more use, and this task lives long
            await _send(transport, reply if isinstance(reply, bytes) else reply.encode())
            if isinstance(reply, bytes):
                await self._attend(transport, leftover, address)
        except OSError as error:
            log.debug("a connection broke: %s", error)
        finally:
            self._hub.metrics.bytes_of_closed += transport.sent
            transport.close()

    def _greet(self, upgrade: Upgrade) -> bytes | handshake.Refused:
        if self._stopping:
            return handshake.STOPPING
        told = _lines(upgrade, b"x-forwarded-proto")
        scheme = self._scheme_of(upgrade.peer, told, "https" if upgrade.tls else "http")
        if not handshake.origin_allowed(upgrade.headers, scheme=scheme, allowed=self._origins):
            return handshake.WRONG_ORIGIN
        return handshake.answer(upgrade.headers)

    async def _attend(self, transport: Transport, leftover: bytes, address: str) -> None:
        now = trio.current_time()
        outbox = Outbox(transport, self._limits.outbox_bytes, clock=self._clock)
        connection = Connection(outbox, self._hub, self._store, spawn=self._spawn, now=now)
        full = len(self.connections) >= self._limits.max_connections
        most = self._limits.max_waiting_per_address
        if self._stopping or full or not self._waiting.admit(connection, address, most):
            connection.end(close_codes.GOING_AWAY if self._stopping else close_codes.TOO_MANY)
            await _see_off(connection)
            return
        session = ServerSession(str(uuid.uuid4()), verify=self._verify, clock=self._clock)
        self.connections[connection] = now
        self._hub.metrics.connections_opened += 1
        try:
            connection.say(AUTH_REQUIRED)
            await self._converse(connection, session, leftover)
        finally:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        connection.drop_all()
        connection.closing = True
        self.connections.pop(connection, None)
        self._waiting.leave(connection)
        if connection.identity is not None:
            self._leave_subject(connection.identity.subject)
        if self._empty is not None and not self.connections:
            self._empty.set()

    async def _converse(self, connection: Connection, session: ServerSession, leftover: bytes) -> None:
        incoming = Incoming()
        data = leftover
        while True:
            for start in range(0, len(data), TURN):
                if start:
                    await trio.lowlevel.checkpoint()
                if connection.subscription is None:
                    await self._arrive(connection)
                if not await self._hear(connection, session, incoming, data[start : start + TURN]):
                    return
            try:
                data = await connection.transport.receive()
            except OSError as error:
                log.debug("a connection broke: %s", error)
                data = b""
            if not data:
                await self._pace.turn()
                return
            connection.pulse.life = trio.current_time()

    async def _arrive(self, connection: Connection) -> None:
        """Wait for the turn of one that has not subscribed yet. It is no silence of the peer's."""
        since = self.connections[connection]
        self.connections[connection] = math.inf
        began = trio.current_time()
        await self._pace.turn()
        self.connections[connection] = since + trio.current_time() - began

    async def _hear(self, connection: Connection, session: ServerSession, incoming: Incoming, data: bytes) -> bool:
        """Act on what ``data`` says; False when the socket is to be closed."""
        self.expire_due()
        try:
            for event in incoming.events(data):
                if isinstance(event, ws.CloseConnection):
                    connection.end(echo(event.code))
                    if not connection.outbox.pending:
                        return False  # both sides have said goodbye, and the server closes first (RFC 6455 7.1.1)
                elif connection.closing:
                    continue  # only the peer's close is of interest now
                elif isinstance(event, ws.Ping):
                    connection.control(frames.pong(bytes(event.payload)))
                elif isinstance(event, bytes | None):
                    steps = session.not_text() if event is None else session.receive(event)
                    await self._carry_out(connection, steps)
        except TooBig:
            connection.end(close_codes.TOO_BIG)  # closing with bytes unread resets it: the rest is never read
        except (RemoteProtocolError, LocalProtocolError) as error:
            connection.end(fault(error))
        else:
            return True
        await _see_off(connection)
        return False

    async def _carry_out(self, connection: Connection, steps: Iterable[Step]) -> None:
        for step in steps:
            if connection.closing:
                return
            match step:
                case Say():
                    connection.say(step.text)
                case SignedIn():
                    self._sign_in(connection, step)
                case FetchKeys():
                    await self._fetch_keys()
                case End():
                    connection.end(step.close, step.text)
                case messages.SubscribeJobs():
                    await connection.subscribe(step)
                case messages.UnsubscribeJobs():
                    connection.unsubscribe()
                    connection.say(messages.encode(messages.JobsUnsubscribed()))
                case messages.SubscribeLogs():
                    await connection.follow_log(step)
                case messages.UnsubscribeLogs():
                    connection.unfollow_log(step.id)
                case messages.Ping():
                    connection.say(messages.encode(messages.Pong(seq=connection.position)))

    # --- who is signed in ----------------------------------------------------------------------------------------

    def _sign_in(self, connection: Connection, step: SignedIn) -> None:
        subject = step.identity.subject
        before = connection.identity
        if before is None or before.subject != subject:
            if self._subjects[subject] >= self._limits.max_per_subject:
                connection.end(close_codes.TOO_MANY)
                return
            self._subjects[subject] += 1
            if before is not None:
                self._leave_subject(before.subject)
        self._waiting.leave(connection)
        connection.sign_in(step.identity, drop=step.drop)
        heapq.heappush(self._deadlines, (step.identity.expires_at, id(connection), connection))

    def _leave_subject(self, subject: str) -> None:
        self._subjects[subject] -= 1
        if self._subjects[subject] <= 0:
            del self._subjects[subject]

    def expire_due(self) -> None:
        """End every connection whose token has ended. Called before anything is written."""
        now = self._clock()
        while self._deadlines and self._deadlines[0][0] <= now:
            connection = heapq.heappop(self._deadlines)[2]
            if connection.identity is not None and connection.identity.expires_at <= now:
                connection.expire()

    def revoke(self, ids: Collection[str]) -> None:
        """End every connection that came in with one of these: ids of tokens or of sessions."""
        for connection in tuple(self.connections):  # revocations are rare: an index would cost every connection
            who = connection.identity
            if who is not None and (who.token_id in ids or who.session in ids):
                connection.expire()

    # --- time ----------------------------------------------------------------------------------------------------

    def _next_sweep(self) -> float:
        soonest = min(SWEEP_EVERY_S, self._limits.dead_after / LOOKS, self._next_death - trio.current_time())
        if self._deadlines:
            soonest = min(soonest, self._deadlines[0][0] - self._clock())
        return max(0.001, soonest)

    def sweep(self, late: float = 0.0) -> None:
        """Expiries, warnings, heartbeats, and the peers that are gone. ``late``: so many seconds, nobody listened."""
        self.expire_due()
        now, wall = trio.current_time(), self._clock()
        self._next_death = math.inf
        # Anew: those that are gone fall out, and so do the earlier tokens of those that have renewed theirs.
        self._deadlines = [
            (connection.identity.expires_at, id(connection), connection)
            for connection in self.connections
            if connection.identity is not None
        ]
        heapq.heapify(self._deadlines)
        stood = late if late > self._limits.dead_after / LOOKS else 0.0
        for connection, since in tuple(self.connections.items()):
            if stood:
                connection.pulse.excuse(stood, now)
            try:
                dies = look_after(connection, self._limits, since=since, now=now, wall=wall)
                self._next_death = min(self._next_death, dies)
            except Exception:
                log.debug("a connection failed", exc_info=True)
                connection.abort()


def _lines(upgrade: Upgrade, wanted: bytes) -> list[str]:
    """Every line of one header of the request."""
    return [value.decode("latin-1") for name, value in upgrade.headers if name == wanted]


async def _see_off(connection: Connection) -> None:
    """Give the close frame of an ended connection its time before the socket is closed."""
    with trio.move_on_after(CLOSE_TIMEOUT_S):
        await connection.told()


async def _send(transport: Transport, data: bytes) -> None:
    """Write the handshake's answer: a few hundred bytes on a fresh connection, which takes them at once."""
    data = data[transport.try_send(data) :]
    if not data:
        return
    with trio.fail_after(CLOSE_TIMEOUT_S):
        while data:
            if transport.direct:
                taken = transport.try_send(data)
                if not taken:
                    await transport.wait_writable()
            else:
                taken = await transport.send_some(data)
            data = data[taken:]
