"""Jobs: lists, figures, one job, its log and history, and what may be done to it by hand."""

from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Quart, Response
from quart_schema import document_querystring, document_response, operation_id, tag

from jobctl.model import DEFAULT_PAGE, MAX_PAGE, JobQuery, Name, Tag, Wire
from jobctl.protocol.messages import event_text
from jobctl.states import Status
from jobctl.web.answers import data, tagged
from jobctl.web.body import query
from jobctl.web.openapi import (
    DeletedAnswer,
    HistoryAnswer,
    JobAnswer,
    JobsAnswer,
    LogPageShown,
    LogsAnswer,
    NotModified,
    StatsAnswer,
    fails,
)
from jobctl.web.request import signed_in
from jobctl.web.wiring import Web

MAX_LINES = 1000
MAX_VALUES = 100
"""Values of one filter of a list."""

Text = Annotated[str, Meta(min_length=1, max_length=200)]


class JobsParameters(Wire, frozen=True):
    """Filters of a list of jobs; those with several values are repeated or separated by commas."""

    status: Annotated[tuple[Status, ...], Meta(max_length=MAX_VALUES)] = ()
    name: Annotated[tuple[Name, ...], Meta(max_length=MAX_VALUES)] = ()
    queue: Annotated[tuple[Name, ...], Meta(max_length=MAX_VALUES)] = ()
    tag: Annotated[tuple[Tag, ...], Meta(max_length=MAX_VALUES, description="any of them; commas separate")] = ()
    created_by: Text | None = None
    q: Annotated[str, Meta(max_length=200, description="a part of the name, the id or a tag")] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE
    cursor: Annotated[str, Meta(max_length=500, description="`cursor` of the page before")] | None = None


class LogsParameters(Wire, frozen=True):
    """A page of a log."""

    after: Annotated[int, Meta(ge=0, le=2**53, description="`n` of the last line that is known")] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_LINES)] = MAX_LINES


class NoParameters(Wire, frozen=True):
    """None."""


class JobRoutes:
    """Everything about jobs but how they come in."""

    def __init__(self, web: Web) -> None:
        self._store = web.store

    def register(self, app: Quart) -> None:
        """Add the routes."""
        app.add_url_rule("/api/jobs", "jobs", self.jobs, methods=["GET"])
        app.add_url_rule("/api/jobs/stats", "stats", self.stats, methods=["GET"])
        app.add_url_rule("/api/jobs/<job_id:job_id>", "job", self.job, methods=["GET"])
        app.add_url_rule("/api/jobs/<job_id:job_id>", "delete", self.delete, methods=["DELETE"])
        app.add_url_rule("/api/jobs/<job_id:job_id>/retry", "retry", self.retry, methods=["POST"])
        app.add_url_rule("/api/jobs/<job_id:job_id>/cancel", "cancel", self.cancel, methods=["POST"])
        app.add_url_rule("/api/jobs/<job_id:job_id>/logs", "logs", self.logs, methods=["GET"])
        app.add_url_rule("/api/jobs/<job_id:job_id>/events", "history", self.history, methods=["GET"])

    @fails(400, 422, 503)
    @document_response(JobsAnswer)
    @document_response(NotModified, 304)
    @document_querystring(JobsParameters)
    @operation_id("jobs")
    @tag(["jobs"])
    async def jobs(self) -> Response:
        """List jobs, newest first.

        `data` and `result` above 4 KiB are null and named in `omitted`. A `user` sees what it created.
        """
        request = signed_in()
        asked = query(request, JobsParameters)
        page = await self._store.jobs(
            JobQuery(
                owner=request.who.scope,
                statuses=tuple(status.value for status in asked.status),
                names=asked.name,
                queues=asked.queue,
                tags=asked.tag,
                created_by=asked.created_by,
                q=asked.q or None,
                limit=asked.limit,
                cursor=asked.cursor,
            )
        )
        return tagged(request, page.value, page.position)

    @fails(422, 503)
    @document_response(StatsAnswer)
    @document_response(NotModified, 304)
    @operation_id("stats")
    @tag(["jobs"])
    async def stats(self) -> Response:
        """Count jobs by status, over all and by queue; for a `user` those it created."""
        request = signed_in()
        query(request, NoParameters)
        found = await self._store.stats(owner=request.who.scope)
        return tagged(request, found.value, found.position)

    @fails(404, 422, 503)
    @document_response(JobAnswer)
    @document_response(NotModified, 304)
    @operation_id("job")
    @tag(["jobs"])
    async def job(self, job_id: str) -> Response:
        """Show one job, with all of `data` and `result`."""
        request = signed_in()
        query(request, NoParameters)
        found = await self._store.job(job_id, owner=request.who.scope)
        return tagged(request, found.value, found.position)

    @fails(404, 409, 503)
    @document_response(DeletedAnswer)
    @operation_id("job")
    @tag(["jobs"])
    async def delete(self, job_id: str) -> Response:
        """Delete a job and its log; 409 while it runs."""
        await self._store.delete(job_id, owner=signed_in().who.scope)
        return data({"id": job_id})

    @fails(404, 409, 503)
    @document_response(JobAnswer)
    @operation_id("retry")
    @tag(["jobs"])
    async def retry(self, job_id: str) -> Response:
        """Put a job that has ended back in its queue, with all its attempts."""
        return data(await self._store.retry(job_id, owner=signed_in().who.scope))

    @fails(404, 409, 503)
    @document_response(JobAnswer)
    @operation_id("cancel")
    @tag(["jobs"])
    async def cancel(self, job_id: str) -> Response:
        """Cancel a job: at once while it waits; a running one is asked to stop (`cancelRequested`)."""
        return data(await self._store.cancel(job_id, owner=signed_in().who.scope))

    @fails(404, 422, 503)
    @document_response(LogsAnswer)
    @document_response(NotModified, 304)
    @document_querystring(LogsParameters)
    @operation_id("logs")
    @tag(["jobs"])
    async def logs(self, job_id: str) -> Response:
        """Show lines of a job's log, over all its runs."""
        request = signed_in()
        asked = query(request, LogsParameters)
        found = await self._store.logs(job_id, owner=request.who.scope, after=asked.after, limit=asked.limit)
        return tagged(request, LogPageShown(lines=found.value.lines, has_more=found.value.has_more), found.position)

    @fails(404, 422, 503)
    @document_response(HistoryAnswer)
    @document_response(NotModified, 304)
    @operation_id("history")
    @tag(["jobs"])
    async def history(self, job_id: str) -> Response:
        """Show the changes of one job that the log still has, oldest first, as stream messages."""
        request = signed_in()
        query(request, NoParameters)
        found = await self._store.history(job_id, owner=request.who.scope)
        events = [msgspec.Raw(event_text(event)) for event in found.value]
        return tagged(request, {"events": events}, found.position)
