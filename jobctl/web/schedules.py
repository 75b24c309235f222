"""Schedules, for admins."""

import re
import time
from typing import Final

import msgspec
from quart import Quart, Response
from quart_schema import document_request, document_response, operation_id, tag

from jobctl.engine.schedules import job_of, next_run
from jobctl.errors import Forbidden, InvalidInput
from jobctl.model import EnqueueRequest, Wire
from jobctl.schedule import Schedule, ScheduleChange, ScheduleList, ScheduleRequest, ScheduleSpec
from jobctl.web.answers import data, tagged
from jobctl.web.body import decode, media_type, query
from jobctl.web.enqueue import prepare
from jobctl.web.jobs import NoParameters
from jobctl.web.openapi import JobAnswer, NotModified, fails
from jobctl.web.request import ApiRequest, signed_in
from jobctl.web.wiring import Web

PATH: Final = "/api/jobs/schedules"
_new = msgspec.json.Decoder(ScheduleRequest)
_change = msgspec.json.Decoder(ScheduleChange)


class SchedulesAnswer(Wire, frozen=True):
    """The schedules."""

    data: ScheduleList


class ScheduleAnswer(Wire, frozen=True):
    """The schedule."""

    data: Schedule


class RemovedSchedule(Wire, frozen=True):
    """What is gone."""

    name: str


class RemovedAnswer(Wire, frozen=True):
    """The schedule is gone; jobs that it has made stay."""

    data: RemovedSchedule


class ScheduleRoutes:
    """Lists and changes schedules, and runs one by hand."""

    def __init__(self, web: Web) -> None:
        self._store = web.store.schedules
        self._registry = web.registry

    def register(self, app: Quart) -> None:
        """Add the routes."""
        one = f"{PATH}/<queue_name:name>"
        app.add_url_rule(PATH, "schedules", self.schedules, methods=["GET"])
        app.add_url_rule(PATH, "add_schedule", self.add, methods=["POST"])
        app.add_url_rule(one, "schedule", self.schedule, methods=["GET"])
        app.add_url_rule(one, "replace_schedule", self.replace, methods=["PUT"])
        app.add_url_rule(one, "remove_schedule", self.remove, methods=["DELETE"])
        app.add_url_rule(f"{one}/trigger", "trigger_schedule", self.trigger, methods=["POST"])
        app.add_url_rule(f"{one}/enable", "enable_schedule", self.enable, methods=["POST"])
        app.add_url_rule(f"{one}/disable", "disable_schedule", self.disable, methods=["POST"])

    @fails(422, 503)
    @document_response(SchedulesAnswer)
    @document_response(NotModified, 304)
    @operation_id("schedules")
    @tag(["schedules"])
    async def schedules(self) -> Response:
        """List every schedule by name. `data` above 4 KiB is null and named in `omitted`."""
        request = _admin()
        query(request, NoParameters)
        found = await self._store.all()
        return tagged(request, ScheduleList(schedules=tuple(each.shown() for each in found.value)), found.position)

    @fails(400, 409, 413, 415, 422, 503)
    @document_response(ScheduleAnswer, 201)
    @document_request(ScheduleRequest)
    @operation_id("add_schedule")
    @tag(["schedules"])
    async def add(self) -> Response:
        """Add a schedule: `jobName` is enqueued with `data` whenever `cron` comes true in `timezone`.

        `missed` says what becomes of ticks while no server ran: `skip`, or `once`, one job for all of them. Its jobs
        belong to `schedule:NAME`.
        """
        request = _admin()
        media_type(request)
        asked = decode(_new, await request.body.read())
        spec = self._spec(asked.name, asked)
        made = await self._store.add(spec, created_by=request.who.subject, next_run=next_run(spec, _now_ms()))
        response = data(made.shown(inline=True), 201)
        response.headers["Location"] = f"{PATH}/{spec.name}"
        return response

    @fails(404, 422, 503)
    @document_response(ScheduleAnswer)
    @document_response(NotModified, 304)
    @operation_id("schedule")
    @tag(["schedules"])
    async def schedule(self, name: str) -> Response:
        """Show one schedule, with all of its `data`."""
        request = _admin()
        query(request, NoParameters)
        found = await self._store.one(name)
        return tagged(request, found.value.shown(inline=True), found.position)

    @fails(400, 404, 409, 413, 415, 422, 503)
    @document_response(ScheduleAnswer)
    @document_request(ScheduleChange)
    @operation_id("replace_schedule")
    @tag(["schedules"])
    async def replace(self, name: str) -> Response:
        """Replace all that a schedule says; what is left out takes its default.

        409 for one that belongs to the configuration. Its next run stays where its times stay.
        """
        request = _admin()
        media_type(request)
        spec = self._spec(name, decode(_change, await request.body.read()))
        return data((await self._store.replace(spec, next_run=next_run(spec, _now_ms()))).shown(inline=True))

    @fails(404, 409, 503)
    @document_response(RemovedAnswer)
    @operation_id("remove_schedule")
    @tag(["schedules"])
    async def remove(self, name: str) -> Response:
        """Remove a schedule; 409 for one that belongs to the configuration. Jobs that it has made stay."""
        _admin()
        await self._store.remove(name)
        return data(RemovedSchedule(name=name))

    @fails(404, 413, 422, 503)
    @document_response(JobAnswer, 201)
    @operation_id("trigger_schedule")
    @tag(["schedules"])
    async def trigger(self, name: str) -> Response:
        """Enqueue its job now, also where it is disabled. Its next run stays as it is."""
        _admin()
        state = (await self._store.one(name)).value
        job = await self._store.trigger(name, job_of(state.spec, self._registry))
        response = data(job, 201)
        response.headers["Location"] = f"/api/jobs/{job.id}"
        return response

    @fails(404, 409, 503)
    @document_response(ScheduleAnswer)
    @operation_id("enable_schedule")
    @tag(["schedules"])
    async def enable(self, name: str) -> Response:
        """Let a schedule run from now on; what it would have run meanwhile is not made up for."""
        return await self._set_enabled(name, enabled=True)

    @fails(404, 409, 503)
    @document_response(ScheduleAnswer)
    @operation_id("disable_schedule")
    @tag(["schedules"])
    async def disable(self, name: str) -> Response:
        """Let a schedule rest."""
        return await self._set_enabled(name, enabled=False)

    async def _set_enabled(self, name: str, *, enabled: bool) -> Response:
        _admin()
        spec = msgspec.structs.replace((await self._store.one(name)).value.spec, enabled=enabled)
        state = await self._store.set_enabled(name, enabled, next_run=next_run(spec, _now_ms()))
        return data(state.shown(inline=True))

    def _spec(self, name: str, asked: ScheduleChange) -> ScheduleSpec:
        """The schedule, checked: its times, and its job as an enqueue would check it.

        Raises:
            InvalidInput: something is wrong; ``field`` names it.
        """
        job = EnqueueRequest(
            name=asked.job_name, data=asked.data, queue=asked.queue, priority=asked.priority,
            max_attempts=asked.max_attempts, timeout=asked.timeout, tags=asked.tags,
        )  # fmt: skip
        try:
            checked = prepare(job, self._registry, _now_ms())
        except InvalidInput as error:
            if error.field == "name":
                error.field = "jobName"
            raise
        spec = ScheduleSpec(
            name=name, cron=re.sub(r"\s+", " ", asked.cron.strip()), timezone=asked.timezone, job_name=job.name,
            data=checked.data, queue=job.queue, priority=job.priority, max_attempts=job.max_attempts,
            timeout=job.timeout, tags=job.tags, missed=asked.missed, enabled=asked.enabled,
        )  # fmt: skip
        next_run(spec, _now_ms())
        return spec


def _admin() -> ApiRequest:
    request = signed_in()
    if not request.who.is_admin:
        raise Forbidden("schedules are for admins")
    return request


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
