"""``POST /api/admin/prune``: forget finished jobs by hand."""

import time
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from quart import Quart, Response
from quart_schema import document_request, document_response, operation_id, tag

from jobctl.durations import MAX_SPAN_S
from jobctl.engine.maintenance import prune
from jobctl.errors import Forbidden
from jobctl.model import Wire, wire_time
from jobctl.web.answers import data
from jobctl.web.body import decode, media_type
from jobctl.web.openapi import fails
from jobctl.web.request import signed_in
from jobctl.web.wiring import Web

Ended = Literal["completed", "failed", "cancelled"]
ENDED: Final[tuple[Ended, ...]] = ("completed", "failed", "cancelled")


class PruneRequest(Wire, frozen=True, forbid_unknown_fields=True):
    """Which jobs to forget: those that ended more than ``olderThan`` seconds ago, of these statuses.

    All three where none are named; an empty list is refused, it may be one that lost what stood in it. ``dryRun`` only
    counts them.
    """

    older_than: Annotated[float, Meta(ge=0, le=MAX_SPAN_S, description="seconds")]
    statuses: Annotated[tuple[Ended, ...], Meta(min_length=1, max_length=3)] = ENDED
    dry_run: bool = False


class PruneDone(Wire, frozen=True):
    """How many jobs are gone (or, with ``dryRun``, would be). ``more``: time was up; ask again for the rest."""

    count: int
    by_status: dict[str, int]
    finished_before: str
    dry_run: bool
    more: bool


class PruneAnswer(Wire, frozen=True):
    """What was pruned."""

    data: PruneDone


_request = msgspec.json.Decoder(PruneRequest)


class PruneRoutes:
    """Pruning by hand."""

    def __init__(self, web: Web) -> None:
        self._store = web.store

    def register(self, app: Quart) -> None:
        """Add the route."""
        app.add_url_rule("/api/admin/prune", "prune", self.prune, methods=["POST"])

    @fails(400, 415, 422, 503)
    @document_response(PruneAnswer)
    @document_request(PruneRequest)
    @operation_id("prune")
    @tag(["server"])
    async def prune(self) -> Response:
        """Remove jobs that have ended, with their logs, everybody's. With `dryRun`, count them.

        It takes some seconds at most: `more` says that there are others left to remove, by asking again.
        """
        request = signed_in()
        if not request.who.is_admin:
            raise Forbidden("pruning is for admins")
        media_type(request)
        asked = decode(_request, await request.body.read())
        statuses: tuple[str, ...] = tuple(dict.fromkeys(asked.statuses))
        before = wire_time(max(0, time.time_ns() // 1_000_000 - round(asked.older_than * 1000)))
        if asked.dry_run:
            found = (await self._store.retention.ended_before(statuses, older_than=asked.older_than)).value
            gone, more = {status: found.get(status, 0) for status in statuses}, False
        else:
            gone, more = await prune(self._store, statuses, asked.older_than)
        return data(
            PruneDone(
                count=sum(gone.values()), by_status=gone, finished_before=before, dry_run=asked.dry_run, more=more
            )
        )
