"""``GET /api/events``: the log over plain HTTP, for those who cannot hold a socket."""

import time
from collections import Counter
from typing import Annotated, Final

import msgspec
import trio
from msgspec import Meta
from quart import Quart, Response
from quart_schema import document_querystring, document_response, operation_id, tag

from jobctl.errors import RateLimited, Unauthorized
from jobctl.events import Commit, Event, may_see, owners_of
from jobctl.model import DEFAULT_PAGE, Identity, Position, Wire
from jobctl.protocol.messages import event_text
from jobctl.store.base import Store
from jobctl.web.answers import positioned
from jobctl.web.body import query
from jobctl.web.openapi import EventsAnswer, fails
from jobctl.web.ratelimit import Verdict
from jobctl.web.request import signed_in
from jobctl.web.wiring import Web

MAX_WAIT_S: Final = 30
MAX_EVENTS: Final = 1000
PAGE: Final = 1000
"""Events read at once; of a scoped reader's page most may be other people's."""
MAX_PAGES: Final = 20
"""Pages looked through for one request: a user far behind is answered with a newer position and comes again."""
MAX_WAITING: Final = 200
"""Requests of one subject that wait at once: each holds an HTTP connection, of which there are 1,000 for all."""


class EventsParameters(Wire, frozen=True):
    """Where to go on, how much to take, how long to wait."""

    since: Annotated[str, Meta(max_length=100, description="`EPOCH:SEQ`; without it: from now on")] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_EVENTS)] = DEFAULT_PAGE
    wait: Annotated[float, Meta(ge=0, le=MAX_WAIT_S, description="seconds to wait for a first event")] = 0.0


class Events(msgspec.Struct, frozen=True):
    """The answer: messages spliced from the log's bytes, and where the reader is now."""

    events: tuple[msgspec.Raw, ...]
    position: str
    recovered: bool


class Stretch(msgspec.Struct, frozen=True):
    """What one look at the log found. ``more``: there may be more behind ``position`` already."""

    events: tuple[Event, ...]
    position: int
    recovered: bool = True
    more: bool = False


class Wakeups:
    """Wakes those who wait for a commit that they may see.

    One trio event a scope (an owner; None: everybody), made when somebody waits and dropped when it is set: a commit
    costs as much as it has owners, however many wait.
    """

    def __init__(self, store: Store) -> None:
        self._waiting: dict[str | None, trio.Event] = {}
        store.listen(self._committed)

    def next(self, scope: str | None) -> trio.Event:
        """Set by the next commit that ``scope`` may see. Take it before reading, or a commit may slip between."""
        return self._waiting.setdefault(scope, trio.Event())

    def _committed(self, commit: Commit) -> None:
        if commit.missed is not None:
            waiting, self._waiting = self._waiting, {}
            for each in waiting.values():
                each.set()
        if commit.events and self._waiting:
            for scope in {None, *(owner for event in commit.events for owner in owners_of(event))}:
                wakeup = self._waiting.pop(scope, None)
                if wakeup is not None:
                    wakeup.set()


class EventRoutes:
    """The long poll."""

    def __init__(self, web: Web) -> None:
        self._store = web.store
        self._access = web.access
        self._wakeups = Wakeups(web.store)
        self._waiting: Counter[str] = Counter()

    def register(self, app: Quart) -> None:
        """Add the route."""
        app.add_url_rule("/api/events", "events", self.events, methods=["GET"])

    @fails(422, 503)
    @document_response(EventsAnswer)
    @document_querystring(EventsParameters)
    @operation_id("events")
    @tag(["events"])
    async def events(self) -> Response:
        """Read the log after `since`.

        With `wait` the answer comes with the first event, or empty after as many seconds. `position` moves on over
        events that the reader may not see. `recovered` is false where the log no longer reaches back to `since`, or
        `since` is not of this log: there are no events then, and lists are to be fetched again. A `user` reads
        events of jobs that it created.
        """
        request = signed_in()
        asked = query(request, EventsParameters)
        since = None if asked.since is None else Position.parse(asked.since)
        who = request.who
        wait = min(asked.wait, who.expires_at - time.time())
        if wait > 0 and self._waiting[who.subject] >= MAX_WAITING:
            request.verdict = Verdict(allowed=False, limit=MAX_WAITING, remaining=0, reset_s=1.0, retry_after_s=1.0)
            raise RateLimited(request.verdict.retry_after_s)
        self._waiting[who.subject] += 1
        try:
            found = await self._wait(since, asked.limit, wait, who)
        finally:
            self._waiting[who.subject] -= 1
            if not self._waiting[who.subject]:
                del self._waiting[who.subject]
        if who.expires_at <= time.time():
            raise Unauthorized  # nothing is told after the token's end, however long the wait was
        self._access.check(who)  # nor after it was revoked
        position = Position(self._store.epoch, found.position)
        answer = Events(
            tuple(msgspec.Raw(event_text(event, who.scope)) for event in found.events), str(position), found.recovered
        )
        return positioned(answer, position)

    async def _wait(self, since: Position | None, limit: int, wait: float, who: Identity) -> Stretch:
        deadline = trio.current_time() + wait
        after = None if since is None else since.seq
        if since is not None and since.epoch != self._store.epoch:
            return Stretch((), (await self._store.events(0, limit=1)).head, recovered=False)
        while True:
            wakeup = self._wakeups.next(who.scope) if wait > 0 else None
            found = await self._look(after, limit, who.scope)
            done = found.events or found.more or not found.recovered
            if done or wakeup is None or trio.current_time() >= deadline:
                return found
            after = found.position
            with trio.move_on_at(deadline):
                await wakeup.wait()

    async def _look(self, after: int | None, limit: int, scope: str | None) -> Stretch:
        """Up to ``limit`` events that ``scope`` may see, from as many pages as that takes."""
        if after is None:
            return Stretch((), (await self._store.events(0, limit=1)).head)
        seen: list[Event] = []
        for _ in range(MAX_PAGES):
            page = await self._store.events(after, limit=min(PAGE, limit) if scope is None else PAGE)
            if not page.start - 1 <= after <= page.head:  # pruned, or never written in this log
                return Stretch((), page.head, recovered=False)
            for event in page.events:
                after = event.seq
                if may_see(event, scope):
                    seen.append(event)
                    if len(seen) == limit:
                        return Stretch(tuple(seen), after)
            if after >= page.head:
                break
        return Stretch(tuple(seen), after, more=after < page.head)
