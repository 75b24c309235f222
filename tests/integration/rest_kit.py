"""What the REST tests share: the app over a real store, and a client that hides nothing.

Requests are ASGI messages, as Hypercorn sends them: Quart's own client tidies paths and counts bodies anew, and so
would not show what a peer sees. Import the fixture by name.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
import trio

from jobctl import auth
from jobctl.access.access import Access
from jobctl.engine.registry import Registry
from jobctl.model import NewJob
from jobctl.settings import QueueSettings, Settings
from jobctl.store.base import LogEntry
from jobctl.store.sqlite import SqliteStore, open_store
from jobctl.web.app import App, Web, create_app

SECRET = b"a secret of more than 32 bytes for tests"
ADMIN = "root"
MISSING = "01890000-0000-7000-8000-000000000000"


class Then(Enum):
    """What a client may do instead of sending the rest of its body."""

    NOTHING = 1
    LEAVE = 2


def token(subject: str = ADMIN, role: str = "admin", *, ttl: float = 900, now: float | None = None) -> str:
    return auth.mint(SECRET, subject=subject, role=role, ttl=ttl, now=now)


def user(subject: str) -> str:
    return token(subject, "user")


@dataclass
class Answer:
    """A response, as it went over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    pairs: list[tuple[str, str]] = field(repr=False, default_factory=list)

    @property
    def data(self) -> Any:
        assert self.status < 300, self.body
        assert self.headers["content-type"] == "application/json"
        return msgspec.json.decode(self.body)["data"]

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """The problem document, checked for what every one has."""
        assert self.status == status, (self.status, self.body)
        assert self.headers["content-type"] == "application/problem+json"
        told: dict[str, Any] = msgspec.json.decode(self.body)
        assert told["code"] == code, told
        assert told["status"] == status
        assert told["type"] == "about:blank"
        assert told["title"]
        assert told["detail"]
        assert b"Traceback" not in self.body
        assert b"<" not in self.body
        return told


class Api:
    """The app under test and ways to ask it."""

    def __init__(self, app: App, store: SqliteStore, registry: Registry) -> None:
        self.app = app
        self.store = store
        self.registry = registry
        self.consumed = 0

    async def call(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes | Then] = b"",
        *,
        bearer: str | None = "",
        headers: Sequence[tuple[str, str]] = (),
        client: tuple[str, int] | None = ("127.0.0.1", 50000),
        scheme: str = "http",
        host: str = "127.0.0.1:8000",
        patience_s: float = 10.0,
    ) -> Answer:
        """One request. ``bearer``: "" is an admin's token, None none.

        A body in pieces comes one message a piece.
        """
        path, _, query = target.partition("?")
        sent = [("host", host), *headers]
        if bearer is not None:
            sent.append(("authorization", f"Bearer {bearer or token()}"))
        pieces = [body] if isinstance(body, bytes) else body
        if isinstance(body, bytes) and body:
            sent.append(("content-length", str(len(body))))
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.1"},
            "http_version": "1.1",
            "method": method,
            "scheme": scheme,
            "path": unquote(path),
            "raw_path": path.encode("utf-8", "surrogatepass"),
            "query_string": query.encode("latin-1"),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent],
            "client": client,
            "server": ("127.0.0.1", 8000),
            "state": {},
            "extensions": {},
        }
        with trio.fail_after(patience_s):
            return await self._exchange(scope, iter(pieces))

    async def _exchange(self, scope: dict[str, Any], pieces: Any) -> Answer:
        start: dict[str, Any] = {}
        said = bytearray()
        ended = False
        self.consumed = 0

        async def receive() -> dict[str, Any]:
            nonlocal ended
            await trio.lowlevel.checkpoint()
            if ended:
                await trio.sleep_forever()
            piece = next(pieces, None)
            if piece is Then.NOTHING:
                await trio.sleep_forever()
            if piece is Then.LEAVE:
                return {"type": "http.disconnect"}
            ended = piece is None
            self.consumed += len(piece or b"")
            return {"type": "http.request", "body": piece or b"", "more_body": not ended}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                said.extend(message["body"])

        await self.app(scope, receive, send)  # type: ignore[arg-type]
        if not start:
            return Answer(0, {}, b"")
        pairs = [(name.decode().lower(), value.decode()) for name, value in start["headers"]]
        return Answer(start["status"], dict(pairs), bytes(said), pairs)

    async def get(self, target: str, **more: Any) -> Answer:
        return await self.call("GET", target, **more)

    async def post(self, target: str, body: Any = None, **more: Any) -> Answer:
        """A POST of ``body``: bytes as they are, anything else as JSON."""
        raw = b"" if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        return await self.call("POST", target, raw, **more)

    async def enqueue(self, bearer: str = "", **fields: Any) -> dict[str, Any]:
        """A new job, as the API shows it."""
        answer = await self.post("/api/jobs", {"name": "noop"} | fields, bearer=bearer)
        assert answer.status == 201, answer.body
        job: dict[str, Any] = answer.data
        return job

    async def start(self) -> str:
        """Claim the next job, so that it runs; its id."""
        claims = await self.store.claim(1, worker="w1", limits={}, busy={})
        return claims.claims[0].job.id

    async def log(self, job_id: str, *lines: str) -> None:
        now = int(time.time() * 1000)
        assert await self.store.append_logs(job_id, 1, [LogEntry(now, "stdout", line) for line in lines])

    async def seed(self, n: int, owner: str = ADMIN, **fields: Any) -> tuple[str, ...]:
        return (await self.store.enqueue([NewJob(**{"name": "noop"} | fields) for _ in range(n)], owner=owner)).ids


def handlers() -> Registry:
    """Handlers with and without fields and limits of their own."""
    registry = Registry()

    @registry.job("noop")
    def noop(ctx: object, **data: object) -> None: ...

    @registry.job("resize", timeout=12.5, max_attempts=7)
    def resize(ctx: object, path: str, width: int = 640) -> None: ...

    return registry


Build = Callable[..., Any]


@pytest.fixture
async def make_api(tmp_path: Path) -> AsyncIterator[Callable[..., Api]]:
    """Makes apps over one store; settings are given by name."""
    async with open_store(tmp_path / "jobs.db", state_dir=tmp_path / "state", durability="normal") as store:

        def make(ready: Callable[[], list[str]] = list, registry: Registry | None = None, **settings: Any) -> Api:
            registry = registry or handlers()
            chosen = Settings(**{"queues": {"slow": QueueSettings(concurrency=2)}} | settings)
            access = Access(store, SECRET)
            web = Web(store=store, registry=registry, access=access, settings=chosen, ready=ready)
            app = create_app(web)
            assert isinstance(app, App)
            return Api(app, store, registry)

        yield make


@pytest.fixture
def api(make_api: Callable[..., Api], caplog: pytest.LogCaptureFixture) -> Api:
    """The app with default settings."""
    caplog.set_level(logging.INFO, logger="jobctl.web")
    return make_api()
