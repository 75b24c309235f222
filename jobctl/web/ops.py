"""What operators and tools ask the server about itself."""

from typing import Final

from quart import Quart, Response
from quart_schema import document_response, operation_id, security_scheme, tag

from jobctl import __version__
from jobctl.model import Wire, wire_time
from jobctl.store.committer import now_ms
from jobctl.web.answers import JSON, data, tagged
from jobctl.web.body import query
from jobctl.web.jobs import NoParameters
from jobctl.web.openapi import PATH, HandlersAnswer, Health, NotModified, OpenApi, document, fails
from jobctl.web.problems import NotReady, Problem
from jobctl.web.request import signed_in
from jobctl.web.wiring import Web

_OK: Final = b'{"status":"ok"}'
_READY: Final = b'{"status":"ready"}'


class ServerShown(Wire, frozen=True):
    """This server, as the caller sees it."""

    version: str
    started_at: str
    epoch: str
    subject: str
    role: str


class ServerAnswer(Wire, frozen=True):
    """The server."""

    data: ServerShown


class OpsRoutes:
    """Health, readiness, handlers and the description of the API."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._document: bytes | None = None
        self._started = wire_time(now_ms())

    def register(self, app: Quart) -> None:
        """Add the routes."""
        self._app = app
        app.add_url_rule("/healthz", "healthz", self.healthz, methods=["GET"])
        app.add_url_rule("/readyz", "readyz", self.readyz, methods=["GET"])
        app.add_url_rule("/api/server", "server", self.server, methods=["GET"])
        app.add_url_rule("/api/handlers", "handlers", self.handlers, methods=["GET"])
        app.add_url_rule(PATH, "openapi", self.openapi, methods=["GET"])

    @document_response(Health)
    @operation_id("healthz")
    @security_scheme([])
    @tag(["server"])
    async def healthz(self) -> Response:
        """Say that the server runs (its event loop turns)."""
        return _plain(_OK)

    @document_response(Health)
    @document_response(Problem, 503)
    @operation_id("readyz")
    @security_scheme([])
    @tag(["server"])
    async def readyz(self) -> Response:
        """Say whether the server takes work; 503 and the reasons where it does not."""
        if reasons := self._web.ready():
            raise NotReady(reasons)
        return _plain(_READY)

    @fails(422)
    @document_response(ServerAnswer)
    @operation_id("server")
    @tag(["server"])
    async def server(self) -> Response:
        """Say which version this is, since when it runs, where its event log is, and whom it takes the caller for."""
        request = signed_in()
        query(request, NoParameters)
        who = request.who
        told = ServerShown(__version__, self._started, self._web.store.epoch, who.subject, who.role)
        return data(told)

    @fails(422)
    @document_response(HandlersAnswer)
    @document_response(NotModified, 304)
    @operation_id("handlers")
    @tag(["server"])
    async def handlers(self) -> Response:
        """List the names that this server can run, with their fields."""
        request = signed_in()
        query(request, NoParameters)
        return tagged(request, {"handlers": self._web.registry.describe()}, None)

    @document_response(OpenApi)
    @operation_id("openapi")
    @security_scheme([])
    @tag(["server"])
    async def openapi(self) -> Response:
        """Show this document."""
        if self._document is None:
            self._document = document(self._app)
        return Response(self._document, 200, content_type=JSON)


def _plain(body: bytes) -> Response:
    response = Response(body, 200, content_type=JSON)
    response.headers["Cache-Control"] = "no-store"
    return response
