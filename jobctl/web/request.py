"""The request as the routes see it: with who asks, and a body that cannot outgrow its route."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final

import trio
from quart_trio.wrappers import TrioRequest

from jobctl.errors import TooLarge
from jobctl.model import MAX_BATCH_BYTES, MAX_DATA, Identity
from jobctl.web.problems import RequestTimeout
from jobctl.web.ratelimit import Verdict

MAX_BODY: Final = 4 * MAX_DATA
"""Room for ``data`` of the largest size, indented or with escapes, and the other fields."""
BODY_TIMEOUT_S: Final = 60.0
"""As Quart's own default: a body that takes longer is not coming."""
_LIMITS: Final = {
    ("POST", "/api/jobs/batch"): MAX_BATCH_BYTES,
    ("POST", "/api/auth/login"): 4096,  # anybody may send it
    ("POST", "/api/auth/refresh"): 0,
    ("POST", "/api/auth/logout"): 0,
}


def body_limit(method: str, path: str) -> int:
    """Most bytes of body that a request may bring; 0 where nobody reads it."""
    return _LIMITS.get((method, path), MAX_BODY) if method in {"POST", "PUT", "PATCH"} else 0


class Disconnected(BaseException):
    """The client has left before its request had come; like a cancellation, it is nothing to answer."""


class LimitedBody:
    """The body as it comes in. What exceeds the limit is dropped at once, not kept to be counted later.

    Stands in for Quart's own, which keeps all that arrives while a handler waits for something else (a long poll),
    and differs between versions: 0.22 calls ``append``, 0.23 ``put`` and ``disconnect``.
    """

    def __init__(self, expected: int | None, limit: int | None) -> None:
        self.limit = limit or 0
        self._expected = expected or 0
        self._chunks: list[bytes] = []
        self._size = 0
        self._over = False
        self._done = trio.Event()
        self.when_read: Callable[[], None] | None = None
        """Called when all of it is there; raises where it comes too late."""
        self.receive: Callable[[], Awaitable[Any]] | None = None
        """Where to take it from, if no other task brings it: gives the next ASGI message."""

    def append(self, chunk: bytes) -> None:
        """Take what has arrived."""
        self._size += len(chunk)
        if self._size > self.limit:
            self._over = True
            self._chunks.clear()
            self._done.set()
        elif chunk:
            self._chunks.append(chunk)

    async def put(self, chunk: bytes) -> None:
        """Take what has arrived."""
        self.append(chunk)

    def set_complete(self) -> None:
        """Nothing more comes."""
        self._done.set()

    def disconnect(self) -> None:
        """The client is gone; its request is cancelled, so nobody is to be told."""

    async def read(self) -> bytes:
        """All of it.

        Raises:
            TooLarge: it exceeds the limit; raised before the rest has come.
            RequestTimeout: the rest does not come.
        """
        if self._expected <= self.limit:
            with trio.move_on_after(BODY_TIMEOUT_S) as scope:
                await self._complete()
            if scope.cancelled_caught:
                raise RequestTimeout(f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s")
        if self._over or self._expected > self.limit:
            raise TooLarge(f"the body exceeds {self.limit} bytes")
        if self.when_read is not None:
            self.when_read()
        return b"".join(self._chunks)

    async def _complete(self) -> None:
        if self.receive is None:
            await self._done.wait()
            return
        while not self._done.is_set():
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            self.append(message.get("body", b""))
            if not message.get("more_body", False):
                self.set_complete()


class ApiRequest(TrioRequest):
    """A request, its id, and what the gate found out about it."""

    body_class = LimitedBody  # type: ignore[assignment]
    body: LimitedBody  # type: ignore[assignment]
    request_id: str = ""
    identity: Identity | None = None
    verdict: Verdict | None = None
    cors_origin: str | None = None

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.body.limit = body_limit(self.method, self.path)

    @property
    def who(self) -> Identity:
        """Who asks. Only for routes behind the gate."""
        if self.identity is None:
            raise RuntimeError(f"{self.path} is answered without a signed-in caller")
        return self.identity


answering: Final[ContextVar[ApiRequest]] = ContextVar("jobctl_answering")


def current() -> ApiRequest:
    """The request that is being answered."""
    return answering.get()


def signed_in() -> ApiRequest:
    """The request that is being answered, which has passed the gate: every route that is not public begins so."""
    request = current()
    _ = request.who
    return request
