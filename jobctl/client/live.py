"""Following jobs over the stream: one reader, any number of connections, every update once and in order."""

import random
from collections import deque
from typing import TYPE_CHECKING, Final, Self

import msgspec
import trio

from jobctl.client.api import Busy
from jobctl.client.connection import Closed, Connection, Rejected, open_connection
from jobctl.errors import Unreachable
from jobctl.model import Job, JobFilter, Position
from jobctl.protocol import subscriber as s
from jobctl.protocol.messages import JobUpdate, SubscribeJobs, SubscribeLogs

if TYPE_CHECKING:
    from jobctl.client.client import Client

CONNECT_TIMEOUT_S: Final = 10.0


class Resynced(msgspec.Struct, frozen=True):
    """Updates were lost (a restored backup, or too long away); this is the state now, and the stream goes on from it.

    ``jobs`` are the jobs of ``ids``, or those that match the filter now: of its ``statuses``, else the live ones.
    ``missing`` are ids that are gone. ``complete`` is false where there are more than were fetched.
    """

    position: Position
    jobs: tuple[Job, ...]
    missing: tuple[str, ...] = ()
    complete: bool = True


Update = s.Update | Resynced


class Watch:
    """The updates of what was asked for; made by ``Client.watch``, read with ``async for``.

    It has no task of its own: it reads as fast as its reader does, and reconnects while its reader waits. A reader
    that is cancelled while it waits may go on later. Close it with ``aclose`` or ``async with``; a ``Client`` that is
    left closes those that were forgotten.

    Attributes:
        position: Where the reader is; resume later with ``since``. None before the first connection.
        text: The last update as the server sent it; None after a ``Resynced``.
        live: Whether the subscription stands.
        retry_at: When it connects again (``trio.current_time()``), while it waits to.
        reason: Why the last connection ended.
    """

    def __init__(
        self,
        client: "Client",
        request: SubscribeJobs,
        since: Position | None = None,
        *,
        log: SubscribeLogs | None = None,
    ) -> None:
        self._client = client
        self._filter = request.filter or JobFilter()
        self._subscriber = s.Subscriber(request, since=since, renewable=client.token.renewable, log=log)
        self._connection: Connection | None = None
        self._inbox: deque[str] = deque()
        self._todo: deque[s.Output] = deque()
        self._ready: deque[tuple[Update, str | None, Position]] = deque()
        self._snapshot: dict[str, int] = {}
        self._give_up_at = trio.current_time() + client.patience
        self._been_live = False
        self.position = since
        self.text: str | None = None
        self.live = False
        self.retry_at: float | None = None
        self.reason = ""

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection."""
        connection, self._connection, self.live = self._connection, None, False
        if connection is not None:
            await connection.aclose()
            self._client.forget(connection)

    def __del__(self) -> None:
        connection = getattr(self, "_connection", None)
        if connection is not None and trio.lowlevel.in_trio_run():
            connection.abandon()
            self._client.forget(connection)

    async def __anext__(self) -> Update:
        """The next update.

        Raises:
            Unreachable: the first connection cannot be made, for as long as the client is patient.
            SignInFailed: the server refuses the token, and a fresh one.
            ClientError: it is of no use to go on.
        """
        await trio.lowlevel.checkpoint()
        while (update := self.take()) is None:
            await self.advance()
        return update

    def take(self) -> Update | None:
        """The next update that has come already, if any."""
        if not self._ready:
            return None
        update, self.text, self.position = self._ready.popleft()
        return update

    async def start(self) -> Position:
        """Wait until the subscription stands; the position from which on nothing is missed."""
        while not self._been_live or self.position is None:
            await self.advance()
        return self.position

    async def advance(self) -> None:
        """One step (connect, act, or read), after which there may be something to ``take`` or a new ``position``.

        Cancelled anywhere, it may be called again.
        """
        try:
            if self._todo:
                first = self._todo[0]
                await self._act(first)
                if self._todo and self._todo[0] is first:
                    self._todo.popleft()
            elif self._inbox:
                self._take(self._subscriber.receive(self._inbox.popleft(), trio.current_time()))
            elif self._connection is None:
                await self._connect()
            else:
                await self._read(self._connection)
        except Closed as closed:
            self._drop()
            self._verdict(self._subscriber.closed(closed.code, trio.current_time(), random.random()))  # noqa: S311
        if not self._ready and self._subscriber.position is not None:
            self.position = self._subscriber.position

    async def _connect(self) -> None:
        if self.retry_at is not None:
            await trio.sleep_until(self.retry_at)
        draw = random.random()  # noqa: S311 - jitter
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                connection = await open_connection(self._client.nursery, self._client.address, self._client.tls)
        except Rejected as rejected:
            self._verdict(self._subscriber.rejected(rejected.status, trio.current_time(), draw))
        except (OSError, Closed, trio.TooSlowError) as error:
            verdict = self._subscriber.closed(None, trio.current_time(), draw)
            reason = describe(error)
            self._verdict(s.Retry(verdict.delay, reason) if isinstance(verdict, s.Retry) else verdict)
        else:
            self.retry_at = None
            self._connection = connection
            self._client.remember(connection)
            self._subscriber.opened(trio.current_time())

    async def _read(self, connection: Connection) -> None:
        # What has come already is read before a deadline that passed while the reader was away is believed.
        deadline = max(self._subscriber.deadline, trio.current_time() + 0.05)
        with trio.move_on_at(deadline):
            text = await connection.receive()
            self._subscriber.heard(trio.current_time())
            self._inbox.append(text)
            return
        self._take(self._subscriber.tick(trio.current_time()))

    def _take(self, outputs: list[s.Output]) -> None:
        for output in outputs:
            if not isinstance(output, s.Deliver):
                self._todo.append(output)
            elif not self._known(output.message):
                self._ready.append((output.message, output.text, output.position))

    def _known(self, message: s.Update) -> bool:
        """Whether a fetched snapshot had this version already (it may be newer than the position it was joined at)."""
        if not self._snapshot or not isinstance(message, JobUpdate):
            return False
        return message.job.version <= self._snapshot.get(message.job.id, -1)

    async def _act(self, output: s.Output) -> None:
        connection = self._connection
        if connection is None:
            return
        match output:
            case s.Send(text=text):
                await connection.send(text)
            case s.SignIn(fresh=fresh, renewal=renewal):
                if renewal and not self._client.token.renewable:
                    return
                token = await self._client.token.get(fresh=fresh)
                await connection.send(self._subscriber.sign_in(token).text)
            case s.Live(recovered=recovered):
                self.live = recovered
                self._been_live = self._been_live or recovered
            case s.Stale():
                self.live = False
                await self._resync()
            case s.Stalled():
                raise Closed(None)
            case s.Stop():
                self._verdict(output)

    async def _resync(self) -> None:
        from jobctl.client.waiting import current  # it follows with this class

        try:
            state = await current(self._client, self._filter)
        except (Unreachable, Busy):
            raise Closed(None) from None
        self._snapshot = {job.id: job.version for job in state.jobs}
        self._ready.append((state, None, state.position))
        self._todo[0] = self._subscriber.rebase(state.position)  # sent next; a cancelled reader fetches no second time

    def _verdict(self, verdict: s.Retry | s.Stop) -> None:
        self.live = False
        if isinstance(verdict, s.Stop):
            self._drop()
            raise verdict.error
        self.reason = verdict.reason
        self.retry_at = trio.current_time() + verdict.delay
        if not self._been_live and self.retry_at >= self._give_up_at:
            raise Unreachable(f"cannot reach {self._client.address}: {verdict.reason}")

    def _drop(self) -> None:
        self._inbox.clear()
        self._todo.clear()
        self.live = False
        if self._connection is not None:
            self._connection.abandon()
            self._client.forget(self._connection)
            self._connection = None


def describe(error: BaseException) -> str:
    """Why no connection was made, for a person: the system's own words, where they are at the bottom of it."""
    found, inner = error, error.__cause__ or error.__context__
    while inner is not None:
        if isinstance(inner, BaseExceptionGroup):  # trio's "all attempts to connect failed"
            inner = inner.exceptions[0]
            continue
        if isinstance(inner, OSError) and inner.errno is not None:
            found = inner
        inner = inner.__cause__ or inner.__context__
    if isinstance(found, ConnectionRefusedError):
        return "connection refused"
    if isinstance(found, trio.TooSlowError):
        return "no answer in time"
    if isinstance(found, Closed):
        return "the connection was closed"
    return str(getattr(found, "strerror", None) or str(found) or type(found).__name__).lower()
