"""Subscribers that come and go, over real sockets to the real endpoint, and what each of them believes."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any, Final

import msgspec
import trio
import wsproto
from wsproto import events as ws

from jobctl.metrics import Metrics
from jobctl.model import Identity, JobQuery, Position
from jobctl.settings import Stream
from jobctl.store.base import Store
from jobctl.stream.endpoint import PATH, Endpoint
from jobctl.stream.hub import Hub
from tests.model.replay import Rows, prune_rows

FOR_EVER: Final = 4_000_000_000.0
OUTBOX: Final = 4096
"""Bytes, the least that the settings allow: a reader that does not read is soon behind."""


class Link:
    """What the door hands to the endpoint."""

    def __init__(self, sock: trio.socket.SocketType, headers: list[tuple[bytes, bytes]]) -> None:
        self.stream = trio.SocketStream(sock)
        self.sock = sock
        self.headers = headers
        self.target = PATH.encode()
        self.leftover = b""
        self.peer = "127.0.0.1"
        self.tls = False


class Reader:
    """A client: its place in the log, and the jobs as it knows them. It reads only when told to.

    ``of``: it wants those of one queue only.
    """

    def __init__(self, who: str, role: str, *, eager: bool, of: str | None = None) -> None:
        self.who, self.role = who, role
        self.of = of
        self.eager = eager
        self.owner = None if role == "admin" else who
        self.position: Position | None = None
        self.rows: Rows = {}
        self._sock: trio.socket.SocketType | None = None
        self._parser: wsproto.WSConnection
        self._text = ""
        self._queue: list[dict[str, Any]] = []
        self._pings = 0
        """That are not answered yet."""

    @property
    def connected(self) -> bool:
        """Whether it has a connection."""
        return self._sock is not None

    def sees(self, row: dict[str, Any]) -> bool:
        """Whether it is to hear of that job."""
        return self.owner in (None, row["createdBy"]) and self.of in (None, row["queue"])

    # --- the connection ------------------------------------------------------------------------------------------

    async def connect(self, endpoint: Endpoint, nursery: trio.Nursery) -> None:
        """Shake hands and sign in."""
        ours, theirs = (trio.socket.from_stdlib_socket(each) for each in socket.socketpair())
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._sock, self._text, self._queue, self._pings = ours, "", [], 0
        self._parser = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        request = self._parser.send(ws.Request(host="model", target=PATH))
        lines = request.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        nursery.start_soon(endpoint.serve, Link(theirs, headers))
        assert (await self._hear())["type"] == "auth_required"
        await self._say(type="auth", token=f"{self.role}:{self.who}")
        assert (await self._hear())["type"] == "connected"

    async def leave(self) -> None:
        """Cut the connection; what was not read is lost."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    async def _say(self, **message: Any) -> None:
        assert self._sock is not None
        data = self._parser.send(ws.TextMessage(json.dumps(message)))
        while data:
            data = data[await self._sock.send(data) :]

    async def _hear(self) -> dict[str, Any]:
        assert self._sock is not None
        while not self._queue:
            data = await self._sock.recv(65536)
            assert data, "the server has closed the connection"
            self._parser.receive_data(data)
            for event in self._parser.events():
                if isinstance(event, ws.TextMessage):
                    self._text += event.data
                    if event.message_finished:
                        self._queue.append(json.loads(self._text))
                        self._text = ""
        return self._queue.pop(0)

    # --- what it follows -----------------------------------------------------------------------------------------

    async def subscribe(self, store: Store, pruned_to: int) -> None:
        """Follow on from where it is; where that cannot be, from a list that is fetched now."""
        before = self.position
        if before is None:
            await self._fetch(store)
        assert self.position is not None
        told = await self._ask()
        should = self.position.epoch == store.epoch and self.position.seq + 1 >= pruned_to
        assert told["recovered"] is should, (told, self.position, pruned_to)
        if not should:
            await self._fetch(store)
            assert (await self._ask())["recovered"] is True

    async def _ask(self) -> dict[str, Any]:
        assert self.position is not None
        wanted = None if self.of is None else {"queues": [self.of]}
        await self._say(
            type="subscribe_jobs", since=self.position.seq, epoch=self.position.epoch, filter=wanted
        )
        while True:
            message = await self._hear()
            if message["type"] == "pong":  # of a ping before the resync that has led here
                self._pings -= 1
            if message["type"] == "jobs_subscribed":
                assert message["seq"] <= message["head"]
                return message

    async def _fetch(self, store: Store) -> None:
        queues = () if self.of is None else (self.of,)
        read = await store.jobs(JobQuery(owner=self.owner, queues=queues, limit=200))
        self.position = read.position
        self.rows = {job.id: msgspec.json.decode(msgspec.json.encode(job)) for job in read.value.jobs}

    async def catch_up(self, store: Store) -> None:
        """Read all that there is: a ``pong`` at the head says so."""
        head = (await store.events(0, limit=1)).head
        while True:
            await self._say(type="ping")
            self._pings += 1
            while self._pings:
                message = await self._hear()
                if message["type"] != "pong":
                    await self._take(message, store)
                    continue
                self._pings -= 1
                assert self.position is not None
                assert message["seq"] >= self.position.seq, "a pong told of a place before the last update"
                self.position = Position(self.position.epoch, message["seq"])
                if message["seq"] >= head:
                    return
            await trio.lowlevel.checkpoint()

    async def take(self, store: Store, n: int) -> None:
        """Read ``n`` messages, as far as there are so many."""
        for _ in range(n):
            with trio.move_on_after(0.001):
                message = await self._hear()
                await self._take(message, store)
                continue
            return

    async def _take(self, message: dict[str, Any], store: Store) -> None:
        assert self.position is not None
        kind = message["type"]
        if kind == "resync":
            await self._fetch(store)
            await self._ask()
            return
        if kind == "job_stats_update":
            return
        if kind not in ("job_update", "job_deleted", "jobs_pruned"):
            raise AssertionError(f"an unexpected {message}")
        if self.owner is None and self.of is None:
            assert message["seq"] == self.position.seq + 1, "an admin without a filter has missed a number"
        assert message["seq"] > self.position.seq, "a number came twice, or out of order"
        self.position = Position(self.position.epoch, message["seq"])
        if kind == "job_update":
            assert self.sees(message["job"]), "somebody else's job, or of another queue"
            self.rows[message["job"]["id"]] = message["job"]
        elif kind == "job_deleted":
            assert self.rows.pop(message["id"], None) is not None, "a deletion of a job that was never told of"
        else:
            lost = prune_rows(self.rows, message["statuses"], message["finishedBefore"])
            # The count is of all that one may see, whatever one has asked for.
            assert sum(lost.values()) <= message["count"]
            assert self.of is not None or sum(lost.values()) == message["count"]


class Readers:
    """The stream's server side of one life, and its clients."""

    def __init__(self, store: Store, clock: Callable[[], int], nursery: trio.Nursery) -> None:
        self.store = store
        self._nursery = nursery
        self.hub = Hub(store, clock=clock, metrics=Metrics())
        limits = Stream(outbox_bytes=OUTBOX)
        self.endpoint = Endpoint(self.hub, store, verify=_identity, limits=limits, clock=lambda: 0.0)
        self.eager: list[Reader] = []
        """Those that have read everything after each step."""

    async def start(self) -> None:
        """As a server does, before anything is written."""
        await self.hub.start()
        await self._nursery.start(self.hub.run)
        await self._nursery.start(self.endpoint.run)

    async def join(self, reader: Reader, *, eager: bool) -> None:
        """Connect and subscribe."""
        await reader.connect(self.endpoint, self._nursery)
        page = await self.store.events(0, limit=1)
        await reader.subscribe(self.store, page.start)
        if eager:
            self.eager.append(reader)

    async def leave(self, reader: Reader) -> None:
        """Cut one off."""
        await reader.leave()
        if reader in self.eager:
            self.eager.remove(reader)

    async def check(self, rows: Rows) -> None:
        """Whoever has read everything knows exactly what is in the database."""
        for reader in self.eager:
            await self.settle(reader, rows)

    async def settle(self, reader: Reader, rows: Rows) -> None:
        """Let one read to the end: it knows the jobs that it may see as they are."""
        await reader.catch_up(self.store)
        mine = {job_id: row for job_id, row in rows.items() if reader.sees(row)}
        assert reader.rows == mine, f"what {reader.who} has seen is not what the database holds"


def _identity(token: str) -> Identity:
    role, _, who = token.partition(":")
    return Identity(who, role, FOR_EVER, f"token-of-{who}")
