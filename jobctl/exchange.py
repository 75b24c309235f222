"""One request and its answer, as an ASGI app sees them.

This stands in for Hypercorn's ``HTTPStream``, which sends head, body and end of an answer one by one, and whose app
takes its events through a channel: together a third of what a small request cost. Here what is known of an answer is
one write, and events wait in a plain queue, bounded as Hypercorn bounds them.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from typing import Any, Final, Protocol

import trio
from hypercorn.events import Event as AnyEvent
from hypercorn.protocol.events import Body, EndBody, StreamClosed

MAX_WAITING: Final = 10
"""Events that an app has not taken; beyond that nothing is read from its peer (Hypercorn's figure)."""
_LEFT: Final = {"type": "http.disconnect"}
_WITHOUT_BODY: Final = frozenset({204, 304})

Headers = Iterable[tuple[bytes, bytes]]


class Answering(Protocol):
    """What an exchange needs of its connection."""

    async def answer(self, head: tuple[int, Headers] | None, body: bytes, *, last: bool) -> None:
        """Send a part of the answer; ``head``, status and headers, comes with the first of them."""

    async def fail(self) -> None:
        """Answer that the app has failed."""

    async def over(self) -> None:
        """The answer is whole, or nothing more comes of it."""


class _State(Enum):
    WAITING = 1
    BEGUN = 2
    """The app has said how its answer begins; nothing of it is sent before there is a body, be it empty."""
    SENDING = 3
    DONE = 4


class Exchange:
    """From the head of a request until its answer is sent, or nobody waits for it any more."""

    def __init__(self, scope: dict[str, Any], connection: Answering) -> None:
        self.scope = scope
        self._connection = connection
        self._state = _State.WAITING
        self._head: tuple[int, Headers] = (0, ())
        self._bodiless = False
        self._events: deque[dict[str, Any]] = deque()
        self._left = self._deaf = False
        self._changed: trio.Event | None = None
        self.when_whole: Callable[[Exchange], Awaitable[None]] | None = None
        """Runs the app once all of the request is here, if it was not started before."""

    # --- the peer's side -----------------------------------------------------------------------------------------

    async def handle(self, event: AnyEvent) -> None:
        """Take what ``H11Protocol`` has read. Waits while the app has enough of it."""
        if isinstance(event, Body):
            await self._bring({"type": "http.request", "body": bytes(event.data), "more_body": True})
        elif isinstance(event, EndBody):
            await self._bring({"type": "http.request", "body": b"", "more_body": False})
            if self.when_whole is not None:
                await self.when_whole(self)
        elif isinstance(event, StreamClosed):
            self._left = True
            self._wake()

    async def _bring(self, event: dict[str, Any]) -> None:
        while len(self._events) >= MAX_WAITING and not self._deaf:
            await self._change()
        if not self._deaf:
            self._events.append(event)
            self._wake()

    async def _change(self) -> None:
        self._changed = self._changed or trio.Event()
        await self._changed.wait()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    # --- the app's side ------------------------------------------------------------------------------------------

    async def receive(self) -> dict[str, Any]:
        """ASGI's ``receive``."""
        while not self._events:
            if self._left:
                return _LEFT
            await self._change()
        event = self._events.popleft()
        self._wake()
        return event

    async def send(self, message: Any) -> None:
        """ASGI's ``send``.

        Raises:
            RuntimeError: this message cannot come now.
        """
        kind = message["type"]
        if kind == "http.response.start" and self._state is _State.WAITING:
            status = int(message["status"])
            self._head = (status, message.get("headers", ()))
            self._bodiless = self.scope["method"] == "HEAD" or status < 200 or status in _WITHOUT_BODY
            self._state = _State.BEGUN
        elif kind == "http.response.body" and self._state in (_State.BEGUN, _State.SENDING):
            head = self._head if self._state is _State.BEGUN else None
            last = not message.get("more_body", False)
            self._state = _State.SENDING
            await self._connection.answer(head, b"" if self._bodiless else bytes(message.get("body", b"")), last=last)
            if last:
                self._state = _State.DONE
                await self._over()
        else:
            raise RuntimeError(f"the app sent {kind} when it could not")

    async def end(self) -> None:
        """The app has returned."""
        self._deaf = True
        self._events.clear()
        self._wake()
        if self._state in (_State.WAITING, _State.BEGUN) and not self._left:
            await self._connection.fail()
        if self._state is not _State.DONE:
            await self._over()

    async def _over(self) -> None:
        if not self._left:
            await self._connection.over()
