"""The app: Quart's routing between one way in and one way out.

All that every request needs (the gate, the headers, the log, the shape of errors) happens in ``handle_request``, the
one method through which Quart passes requests in all its versions; a stack of before- and after-hooks costs more
and sees neither what fails before routing nor what a hook before it has answered. Of Quart's own handling (contexts,
signals, sessions, hooks) nothing is used, and it costs as much as all the rest: a route is looked up and called.
"""

import functools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

from quart import Response
from quart.routing import QuartRule
from quart_trio import QuartTrio
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.routing import BaseConverter

from jobctl import logs
from jobctl.metrics import OTHER
from jobctl.model import JOB_ID
from jobctl.web import problems
from jobctl.web.backup import BackupRoutes
from jobctl.web.bulk import BulkRoutes
from jobctl.web.connection import Connection
from jobctl.web.dashboard import NO_PAGE, Answer, Dashboard
from jobctl.web.enqueue import EnqueueRoutes
from jobctl.web.events import EventRoutes
from jobctl.web.identity import PREFIX, Gate, cors_headers, is_preflight
from jobctl.web.jobs import JobRoutes
from jobctl.web.metrics import MetricsRoute
from jobctl.web.ops import OpsRoutes
from jobctl.web.prune import PruneRoutes
from jobctl.web.queues import QueueRoutes
from jobctl.web.request import ApiRequest, answering
from jobctl.web.route import Route
from jobctl.web.schedules import ScheduleRoutes
from jobctl.web.sign_in import SignInRoutes
from jobctl.web.tokens import TokenRoutes
from jobctl.web.wiring import Registry, Web
from jobctl.web.workers import WorkerRoutes

log = logging.getLogger("jobctl.web")

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PARAMETER: Final = re.compile(r"<(?:\w+:)?(\w+)>")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECURITY: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Vary", "Authorization, Origin"),
)
_MOST_FOUND: Final = 256
"""Routes that are remembered: those without parameters, for each way in which clients call this server."""
_LONGEST_HOST: Final = 255
"""Characters of a name in the DNS."""
_SECURITY_BYTES: Final = tuple((name.lower().encode(), value.encode()) for name, value in _SECURITY)


class JobId(BaseConverter):
    """A job's id (UUID); anything else is no path of ours, as if it were not there."""

    regex = JOB_ID
    part_isolating = True


class TokenId(BaseConverter):
    """A token's ``jti``, or its name."""

    regex = "[A-Za-z0-9._:-]{1,100}"
    part_isolating = True


class QueueName(BaseConverter):
    """A queue's name."""

    regex = "[A-Za-z0-9._:-]{1,100}"
    part_isolating = True


class App(QuartTrio):
    """The Quart app of the REST API."""

    request_class = ApiRequest
    asgi_http_class = Connection
    url_rule_class = Route  # type: ignore[assignment]  # as of Quart's own rule

    def __init__(self, web: Web) -> None:
        super().__init__("jobctl", static_folder=None)
        self.config.update(
            MAX_CONTENT_LENGTH=None,  # LimitedBody knows the limit of each route
            PROVIDE_AUTOMATIC_OPTIONS=False,  # handled with 405, which knows the methods as well
        )
        self.url_map.converters |= {"job_id": JobId, "queue_name": QueueName, "token_id": TokenId}
        self.url_map.merge_slashes = False  # /api//jobs is not found, rather than redirected
        self.gate = Gate(web)
        self.access = web.settings.log.access
        self._metrics = web.metrics
        self._found: dict[tuple[str, str, str, str], QuartRule] = {}
        for routes in (EnqueueRoutes, JobRoutes, BulkRoutes, EventRoutes, QueueRoutes, OpsRoutes, BackupRoutes):
            routes(web).register(self)
        ScheduleRoutes(web).register(self)
        PruneRoutes(web).register(self)
        WorkerRoutes(web).register(self)
        TokenRoutes(web).register(self)
        SignInRoutes(web, self.gate).register(self)
        MetricsRoute(web, self.gate).register(self)
        self.dashboard = Dashboard()
        self.dashboard.register(self)

    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection's request; a target without a path (``GET ?x``) breaks Quart's reading of it."""
        if scope["type"] == "http":
            started = time.perf_counter()
            file = self.dashboard.answer(scope["method"], scope["path"], scope["headers"])
            if file is not None:
                await self._send_file(file, scope, send, started)
                return
        await super().asgi_app(scope if scope.get("path", "/") else scope | {"path": "/"}, receive, send)

    async def handle_request(self, request: Any) -> Any:
        """Answer one request, whatever happens."""
        started = time.perf_counter()
        request.request_id = _request_id(request.headers.get("X-Request-Id", ""))
        before = logs.request.set(request.request_id)
        answering.set(request)
        try:
            response = await self._admit(request) or await self._route(request)
        except Exception as error:  # noqa: BLE001 - the last one who can answer; it is logged there
            response = _failed(error, request)
        self._finish(request, response)
        seconds = time.perf_counter() - started
        rule = request.url_rule
        route = _template(rule.rule) if rule is not None else "-"  # refused at the gate, or nothing is there
        self._count(route, request.method, response.status_code, seconds)
        if self._logs(request.path):
            self._log(
                request.method,
                request.path,
                response.status_code,
                seconds,
                request_id=request.request_id,
                subject=request.identity.subject if request.identity else None,
                client=self.gate.address(request),
            )
        logs.request.reset(before)
        return response

    async def _send_file(self, file: Answer, scope: Any, send: Any, started: float) -> None:
        """Past Quart, with what ``handle_request`` does for all others."""
        asked = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
        request_id = _request_id(asked)
        headers = [*file.headers, *_SECURITY_BYTES, (b"x-request-id", request_id.encode())]
        await send({"type": "http.response.start", "status": file.status, "headers": headers})
        await send({"type": "http.response.body", "body": file.body, "more_body": False})
        seconds = time.perf_counter() - started
        self._count(file.route, scope["method"], file.status, seconds)
        if self._logs(scope["path"]):
            told = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
            client = self.gate.address_of(str((scope.get("client") or ("local", None))[0]), told)
            self._log(scope["method"], scope["path"], file.status, seconds, request_id=request_id, client=client)

    async def _admit(self, request: ApiRequest) -> Response | None:
        _check_readable(request)
        if request.path.startswith(PREFIX):
            await self.gate.admit(request)
            if is_preflight(request):
                return _empty(204)
        return None

    async def _route(self, request: ApiRequest) -> Response:
        host = request.headers.get("Host", "")
        asked = (request.method, request.path, request.scheme, host)
        arguments: Mapping[str, Any] = {}
        rule = self._found.get(asked)
        if rule is None:
            adapter = self.create_url_adapter(request)
            assert adapter is not None  # noqa: S101 - for a request there is one
            found, arguments = adapter.match(return_rule=True)
            rule = cast("QuartRule", found)
            if not arguments and len(host) <= _LONGEST_HOST and len(self._found) < _MOST_FOUND:
                self._found[asked] = rule
        request.url_rule = rule
        view = cast("Callable[..., Awaitable[Response]]", self.view_functions[rule.endpoint])
        return await view(**arguments)

    def _finish(self, request: ApiRequest, response: Response) -> None:
        headers = response.headers
        headers.extend(_SECURITY)
        headers.setdefault("Content-Security-Policy", NO_PAGE)
        headers["X-Request-Id"] = request.request_id
        if "Cache-Control" not in headers:
            headers["Cache-Control"] = "private, no-cache" if response.status_code < 400 else "no-store"
        if request.verdict is not None:
            headers.extend(request.verdict.headers())
        headers.extend(cors_headers(request))
        if request.method == "HEAD":
            response.response = response.data_body_class(b"")  # Content-Length stays

    def _count(self, route: str, method: str, status: int, seconds: float) -> None:
        self._metrics.requests.add(route, method if method in _METHODS else OTHER, str(status))
        self._metrics.request_seconds.observe(route, seconds)

    def _level(self, path: str) -> int:
        return logging.INFO if self.access == "info" and path.startswith(PREFIX) else logging.DEBUG

    def _logs(self, path: str) -> bool:
        return self.access != "off" and log.isEnabledFor(self._level(path))

    def _log(self, method: str, path: str, status: int, seconds: float, **more: str | None) -> None:
        shown = (path if path.isprintable() else ascii(path))[:500]
        told = {"method": method, "path": shown, "status": status, "duration_ms": round(seconds * 1000, 2)}
        log.log(self._level(path), "%s %s %d", method, shown, status, extra=told | {"subject": None} | more)


def _request_id(asked: str) -> str:
    """What the client calls this request, where that is a name; else one of ours."""
    return asked if _REQUEST_ID.fullmatch(asked) else secrets.token_hex(8)


@functools.cache
def _template(rule: str) -> str:
    """``/api/jobs/<job_id:id>`` as the OpenAPI document writes it: ``/api/jobs/{id}``."""
    return _PARAMETER.sub(r"{\1}", rule)


def _check_readable(request: ApiRequest) -> None:
    """Refuse what Quart cannot route without failing: it decodes the query string before any handler can."""
    try:
        request.query_string.decode("utf-8")
        request.path.encode("utf-8")
    except UnicodeError:
        raise problems.BadRequest("the path or the query string is not UTF-8") from None


def _failed(error: Exception, request: ApiRequest) -> Response:
    if isinstance(error, MethodNotAllowed) and request.method == "OPTIONS":
        response = _empty(204)
        response.headers["Allow"] = ", ".join(sorted({*(error.valid_methods or ()), "OPTIONS"}))
        return response
    return problems.answer(error, request.request_id)


def _empty(status: int) -> Response:
    response = Response(b"", status)
    del response.headers["Content-Type"], response.headers["Content-Length"]
    return response


def create_app(web: Web) -> App:
    """The REST API over ``web``. Listens to the store's commits from now on.

    Raises:
        ConfigError: ``trusted_proxies`` has something that is no address.
    """
    return App(web)


__all__ = ["App", "Registry", "Web", "create_app"]
