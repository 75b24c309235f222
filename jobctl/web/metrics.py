"""``GET /metrics``, for Prometheus: open to programs on this machine, else for admins."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from quart import Quart, Response
from quart_schema import document_response, operation_id, tag

from jobctl.errors import Forbidden, NotFound
from jobctl.web.identity import Gate
from jobctl.web.openapi import PlainText, fails
from jobctl.web.request import ApiRequest, current
from jobctl.web.wiring import Web

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
"""What proxies add: a peer on this machine that sends one asks for somebody else."""


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
        if not is_local(request):
            request.identity = await self._gate.recognise(request)
            if not request.who.is_admin:
                raise Forbidden("metrics are for admins")
        if self._text is None:
            raise NotFound("there are no metrics here")
        response = Response(self._text(), 200, content_type=CONTENT_TYPE)
        response.headers["Cache-Control"] = "no-store"
        return response


def is_local(request: ApiRequest) -> bool:
    """Whether a program on this machine asks for itself.

    Not one that passes on what others ask, nor a browser for a page from elsewhere: it says so by ``Origin`` or
    ``Sec-Fetch-Site``, and where that page's name was made to point here (DNS rebinding), by ``Host``.
    """
    peer = request.scope.get("client")
    if peer is None or not _is_loopback(str(peer[0])) or "Origin" in request.headers:
        return False
    if not {*request.headers.getlist("Sec-Fetch-Site")} <= {"none", "same-origin"}:
        return False
    if any(name in request.headers for name in _FORWARDED):
        return False
    try:
        host = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    except ValueError:
        return False
    return host == "localhost" or _is_loopback(host)


def _is_loopback(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
