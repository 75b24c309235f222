"""What the server of a block counts about itself, beside its own metrics and without asking anybody else.

Requests are counted where they pass from the door to the app, connections where the door takes them, statements where
SQLite runs them, commits on the writer's thread right after COMMIT. Each costs a microsecond or less.
"""

import time
from collections import Counter, deque
from typing import Any, Final

import apsw
import msgspec

from bench.result import Traffic
from jobctl.events import Commit, Event
from jobctl.service import Service
from jobctl.store.sqlite import SqliteStore

Asgi = Any


class Requests:
    """Stands between the door and the app: counts requests by route and the status of their answer."""

    def __init__(self, app: Asgi) -> None:
        self._app = app
        self.counts: Counter[tuple[str, str]] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request (or the app's lifespan)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = f"{scope['method']} {scope['path']}"

        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.counts[route, str(message["status"])] += 1
            await send(message)

        await self._app(scope, receive, counted)


class Reads:
    """Counts the queries of every read-only connection that is opened from ``start`` on."""

    def __init__(self) -> None:
        self._each: list[list[int]] = []  # one a connection: each is used by one thread at a time

    def start(self) -> None:
        """Watch connections to come."""
        apsw.connection_hooks.append(self._watch)

    def stop(self) -> None:
        """Watch no more."""
        apsw.connection_hooks.remove(self._watch)

    @property
    def total(self) -> int:
        """Queries so far; BEGIN and ROLLBACK of a read transaction are none."""
        return sum(each[0] for each in self._each)

    def _watch(self, connection: apsw.Connection) -> None:
        if not connection.open_flags & apsw.SQLITE_OPEN_READONLY:
            return
        mine = [0]
        self._each.append(mine)

        def trace(_: Any, sql: str, __: Any) -> bool:
            mine[0] += sql.startswith(("SELECT", "WITH"))
            return True

        connection.exec_trace = trace


class Commits:
    """When each event was committed. Stamped on the writer's thread, right after COMMIT and before anybody is told.

    A stamp may be late: from COMMIT on other connections read what was written, and the writer's thread has to get hold
    of the interpreter before it can look at the clock. So a client that was answered from the database (a poll, a long
    poll, a stream that catches up) may have the news some microseconds before the stamp, or even milliseconds on a
    loaded machine; its staleness is 0 then. What is pushed comes after it, always.
    """

    def __init__(self, store: SqliteStore) -> None:
        self._stamps: deque[int] = deque()
        self._events: list[tuple[int, Event]] = []
        self.total = 0
        writer = store.writer
        after: Final = writer.committed  # the one place that runs between COMMIT and the news of it

        def stamped() -> None:
            self._stamps.append(time.monotonic_ns())
            after()

        writer.committed = stamped
        store.listen(self._deliver)

    def _deliver(self, commit: Commit) -> None:
        stamp = self._stamps.popleft()  # commits are told in their order, each once
        self.total += 1
        self._events += [(stamp, event) for event in commit.events]

    @property
    def stamped(self) -> list[tuple[int, Event]]:
        """When each event was committed (ns), in their order."""
        return self._events

    def rows(self, name: str) -> list[tuple[int, int, str, int, int]]:
        """``(seq, n, job id, version, ns)`` of each update of the jobs of that name; ``n`` is of their data."""
        found = []
        for stamp, event in self._events:
            if event.name == name:
                body = _decode(event.body)
                found.append((event.seq, body.data["n"], event.job_id, body.version, stamp))
        return found


class _Body(msgspec.Struct):
    version: int
    data: dict[str, Any]


_decode: Final = msgspec.json.Decoder(_Body).decode


class Connections:
    """Counts what the door of a service takes."""

    def __init__(self, service: Service) -> None:
        self.total = 0
        door: Any = service.door
        serve = door._serve  # noqa: SLF001 - before anything is read of a connection

        async def counted(stream: Any) -> None:
            self.total += 1
            await serve(stream)

        door._serve = counted  # noqa: SLF001


class Counters:
    """All of them, on one service. Made before anybody can connect; ``reads`` is started before the service is."""

    def __init__(self, service: Service, reads: Reads) -> None:
        assert isinstance(service.store, SqliteStore)  # noqa: S101 - there is no other yet
        http: Any = service.door._http  # noqa: SLF001
        self._service = service
        self.reads = reads
        self.requests = Requests(http.app)
        http.app = self.requests
        self.connections = Connections(service)
        self.commits = Commits(service.store)

    def traffic(self) -> Traffic:
        """What came in so far."""
        requests: dict[str, dict[str, int]] = {}
        for (route, status), n in sorted(self.requests.counts.items()):
            requests.setdefault(route, {})[status] = n
        return Traffic(
            requests=requests, connections=self.connections.total, streams=self._service.metrics.connections_opened
        )
