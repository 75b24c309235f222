"""The processes that run jobs, for admins."""

from quart import Quart, Response
from quart_schema import document_response, operation_id, tag

from jobctl.errors import Forbidden
from jobctl.model import Wire
from jobctl.web.answers import tagged
from jobctl.web.body import query
from jobctl.web.jobs import NoParameters
from jobctl.web.openapi import NotModified, fails
from jobctl.web.request import signed_in
from jobctl.web.wiring import Web
from jobctl.worker import WorkerList


class WorkersAnswer(Wire, frozen=True):
    """The processes."""

    data: WorkerList


class WorkerRoutes:
    """Lists them."""

    def __init__(self, web: Web) -> None:
        self._workers = web.store.workers

    def register(self, app: Quart) -> None:
        """Add the route."""
        app.add_url_rule("/api/workers", "workers", self.workers, methods=["GET"])

    @fails(422, 503)
    @document_response(WorkersAnswer)
    @document_response(NotModified, 304)
    @operation_id("workers")
    @tag(["server"])
    async def workers(self) -> Response:
        """List the processes that run jobs: their slots, what they can run, when they were last heard, who leads.

        A process that has left in order is not among them; one that was lost is shown for ten minutes.
        """
        request = signed_in()
        if not request.who.is_admin:
            raise Forbidden("workers are for admins")
        query(request, NoParameters)
        return tagged(request, WorkerList(workers=await self._workers.all()), None)
