"""``GET /metrics``, for Prometheus: open to programs on this machine, else for admins."""

from quart import Quart, Response
from quart_schema import document_response, operation_id, tag

from jobctl.errors import Forbidden, NotFound
from jobctl.web.health import EXPOSITION
from jobctl.web.identity import Gate
from jobctl.web.local import is_local
from jobctl.web.openapi import PlainText, fails
from jobctl.web.request import current
from jobctl.web.wiring import Web


class MetricsRoute:
    """The page; who may see it is asked of ``gate``."""

    def __init__(self, web: Web, gate: Gate) -> None:
        self._text = web.exposition
        self._gate = gate

    def register(self, app: Quart) -> None:
        """Add the route."""
        app.add_url_rule("/metrics", "metrics", self.metrics, methods=["GET"])

    @fails()
    @document_response(PlainText)
    @operation_id("metrics")
    @tag(["server"])
    async def metrics(self) -> Response:
        """Show what the server has counted, for Prometheus. A program on the same machine needs no token."""
        request = current()
        if not is_local(request.scope):
            request.identity = await self._gate.recognise(request)
            if not request.who.is_admin:
                raise Forbidden("metrics are for admins")
        if self._text is None:
            raise NotFound("there are no metrics here")
        response = Response(self._text(), 200, content_type=EXPOSITION)
        response.headers["Cache-Control"] = "no-store"
        return response
