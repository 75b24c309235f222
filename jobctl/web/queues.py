"""Queues, for admins: what is in them, and whether they are worked on."""

import msgspec
from quart import Quart, Response
from quart_schema import document_response, operation_id, tag

from jobctl.errors import Forbidden
from jobctl.model import Queue
from jobctl.web.answers import data, tagged
from jobctl.web.body import query
from jobctl.web.jobs import NoParameters
from jobctl.web.openapi import NotModified, QueueAnswer, QueuesAnswer, fails
from jobctl.web.request import ApiRequest, signed_in
from jobctl.web.wiring import Web


class QueueRoutes:
    """Lists, pauses and resumes queues."""

    def __init__(self, web: Web) -> None:
        self._store = web.store
        self._limits = {name: each.concurrency for name, each in web.settings.queues.items()}

    def register(self, app: Quart) -> None:
        """Add the routes."""
        app.add_url_rule("/api/queues", "queues", self.queues, methods=["GET"])
        app.add_url_rule("/api/queues/<queue_name:name>/pause", "pause", self.pause, methods=["POST"])
        app.add_url_rule("/api/queues/<queue_name:name>/resume", "resume", self.resume, methods=["POST"])

    @fails(422, 503)
    @document_response(QueuesAnswer)
    @document_response(NotModified, 304)
    @operation_id("queues")
    @tag(["queues"])
    async def queues(self) -> Response:
        """List every queue with its counts. `concurrency` is null where only the server's own bounds it."""
        request = _admin()
        query(request, NoParameters)
        found = await self._store.queues()
        return tagged(request, {"queues": [self._shown(queue) for queue in found.value]}, found.position)

    @fails(404, 503)
    @document_response(QueueAnswer)
    @operation_id("pause")
    @tag(["queues"])
    async def pause(self, name: str) -> Response:
        """Start no more jobs of a queue; those that run go on, and jobs may still be enqueued."""
        _admin()
        return data(self._shown(await self._store.set_paused(name, True)))

    @fails(404, 503)
    @document_response(QueueAnswer)
    @operation_id("resume")
    @tag(["queues"])
    async def resume(self, name: str) -> Response:
        """Start jobs of a paused queue again."""
        _admin()
        return data(self._shown(await self._store.set_paused(name, False)))

    def _shown(self, queue: Queue) -> Queue:
        return msgspec.structs.replace(queue, concurrency=self._limits.get(queue.name))


def _admin() -> ApiRequest:
    request = signed_in()
    if not request.who.is_admin:
        raise Forbidden("queues are for admins")
    return request
