"""``POST /api/jobs/bulk``: retry, cancel or delete all jobs that a filter matches, or those that are named."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta, json
from msgspec.structs import replace
from quart import Quart, Response
from quart_schema import document_request, document_response, operation_id, tag

from jobctl.errors import InvalidInput
from jobctl.model import MAX_FILTER_IDS, Id, JobQuery, Name, Tag, Wire
from jobctl.states import Status
from jobctl.store.base import BulkAction, Store, can
from jobctl.web.answers import data
from jobctl.web.body import decode, media_type
from jobctl.web.jobs import MAX_VALUES, Text
from jobctl.web.openapi import fails
from jobctl.web.request import signed_in
from jobctl.web.wiring import Web

PAGE: Final = 500
MAX_JOBS: Final = 10_000
"""Jobs looked at for one request, as many as a batch may bring in; ``cursor`` leads on."""


class BulkFilter(Wire, frozen=True, forbid_unknown_fields=True):
    """As the parameters of `GET /api/jobs`; all conditions hold together, and there is at least one."""

    status: Annotated[tuple[Status, ...], Meta(max_length=MAX_VALUES)] = ()
    name: Annotated[tuple[Name, ...], Meta(max_length=MAX_VALUES)] = ()
    queue: Annotated[tuple[Name, ...], Meta(max_length=MAX_VALUES)] = ()
    tag: Annotated[tuple[Tag, ...], Meta(max_length=MAX_VALUES, description="any of them")] = ()
    created_by: Text | None = None
    q: Annotated[str, Meta(min_length=1, max_length=200, description="a part of the name, the id or a tag")] | None = (
        None
    )


class BulkRequest(Wire, frozen=True, forbid_unknown_fields=True):
    """What to do, to which jobs: those that `filter` matches, or those named by `ids`.

    With a filter, `dryRun` only counts, and `cursor` goes on where a former answer ended.
    """

    action: BulkAction
    filter: BulkFilter | None = None
    ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=MAX_FILTER_IDS)] | None = None
    dry_run: bool = False
    cursor: Annotated[str, Meta(max_length=500)] | None = None


class Refusal(Wire, frozen=True):
    """One of `ids` that was left as it was, and why, as a request for it alone would have been told."""

    id: str
    code: str
    detail: str


class BulkDone(Wire, frozen=True):
    """`matched` is `changed + skipped`.

    Skipped are jobs whose status does not allow it and, at a retry, those whose `uniqueKey` a live job has; `dryRun`
    counts only the former, so that `changed` is then the most that can be.

    With a filter: `byStatus` counts those that matched, and `cursor` is null when all have been looked at. With `ids`:
    `refused` has those that were skipped, each with the reason; a job that does not exist is one of them.
    """

    matched: int
    changed: int
    skipped: int
    by_status: dict[str, int]
    cursor: str | None = None
    refused: tuple[Refusal, ...] = ()


class BulkAnswer(Wire, frozen=True):
    """What was done, or with `dryRun` would be."""

    data: BulkDone


_decoder = json.Decoder(BulkRequest)


class BulkRoutes:
    """Acts on many jobs."""

    def __init__(self, web: Web) -> None:
        self._store = web.store

    def register(self, app: Quart) -> None:
        """Add the route."""
        app.add_url_rule("/api/jobs/bulk", "bulk", self.bulk, methods=["POST"])

    @fails(400, 413, 415, 422, 503)
    @document_response(BulkAnswer)
    @document_request(BulkRequest)
    @operation_id("bulk")
    @tag(["jobs"])
    async def bulk(self) -> Response:
        """Retry, cancel or delete all jobs that a filter matches, or those that are named by `ids`.

        With a filter and `dryRun` nothing is done, and all that match are counted. Without, up to 10,000 jobs are
        looked at, in many small transactions; where there are more, send the same again with the `cursor` of the
        answer. With `ids` (at most 1,000) the answer says of each that was refused, why. A `user` reaches what it
        created.
        """
        request = signed_in()
        media_type(request)
        asked = decode(_decoder, await request.body.read())
        if asked.ids is not None:
            if asked.filter is not None or asked.dry_run or asked.cursor is not None:
                raise InvalidInput("ids go with nothing but an action", field="ids")
            return data(await _chosen(self._store, asked.action, asked.ids, request.who.scope))
        if asked.filter is None:
            raise InvalidInput("say which jobs: filter or ids", field="filter")
        if asked.filter == BulkFilter():
            raise InvalidInput("the filter has no condition; to mean all jobs, list all statuses", field="filter")
        query = _query(asked.filter, asked.cursor, request.who.scope)
        return data(await (_counted if asked.dry_run else _done)(self._store, asked.action, query))


async def _counted(store: Store, action: BulkAction, query: JobQuery) -> BulkDone:
    counts = (await store.tally(query)).value
    changed = sum(n for status, n in counts.items() if can(action, status))
    matched = sum(counts.values())
    return BulkDone(matched=matched, changed=changed, skipped=matched - changed, by_status=dict(counts))


async def _chosen(store: Store, action: BulkAction, ids: Sequence[str], scope: str | None) -> BulkDone:
    left = list(dict.fromkeys(ids))
    matched = len(left)
    refused: list[Refusal] = []
    while left:
        acted = await store.act(action, left, owner=scope, statuses=())
        refused += [
            Refusal(id=job_id, code=error.code, detail=str(error)) for job_id, error in acted.refused.items()
        ]
        del left[: acted.changed + acted.skipped]
    return BulkDone(
        matched=matched, changed=matched - len(refused), skipped=len(refused), by_status={}, refused=tuple(refused)
    )


async def _done(store: Store, action: BulkAction, query: JobQuery) -> BulkDone:
    counts: Counter[str] = Counter()
    changed = skipped = 0
    cursor = query.cursor
    while changed + skipped < MAX_JOBS:
        page = (await store.matching(replace(query, cursor=cursor))).value
        counts.update(page.jobs.values())
        ids = list(page.jobs)
        while ids:
            acted = await store.act(action, ids, owner=query.owner, statuses=query.statuses)
            changed, skipped = changed + acted.changed, skipped + acted.skipped
            del ids[: acted.changed + acted.skipped]
        cursor = page.cursor
        if cursor is None:
            break
    by_status = dict(sorted(counts.items()))
    return BulkDone(matched=changed + skipped, changed=changed, skipped=skipped, by_status=by_status, cursor=cursor)


def _query(wanted: BulkFilter, cursor: str | None, scope: str | None) -> JobQuery:
    return JobQuery(
        owner=scope,
        statuses=tuple(status.value for status in wanted.status),
        names=wanted.name,
        queues=wanted.queue,
        tags=wanted.tag,
        created_by=wanted.created_by,
        q=wanted.q,
        limit=PAGE,
        cursor=cursor,
    )
