"""Failures as RFC 9457 problem documents, and the one table from an error's code to its HTTP status."""

import http
import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from quart import Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from jobctl.errors import InvalidInput, JobctlError, UnknownHandler
from jobctl.model import Wire

log = logging.getLogger("jobctl.web")

STATUS: Final[Mapping[str, int]] = {
    "bad_request": 400,
    "malformed_json": 400,
    "invalid_cursor": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "conflict": 409,
    "illegal_transition": 409,
    "unique_key_live": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "invalid": 422,
    "unknown_handler": 422,
    "idempotency_mismatch": 422,  # draft-ietf-httpapi-idempotency-key-header: 409 is for one that is still under way
    "rate_limited": 429,
    "internal": 500,
    "database_damaged": 500,
    "store_unavailable": 503,
    "not_ready": 503,
}
_CODE_OF: Final = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 408: "request_timeout"} | {
    413: "too_large",
    415: "unsupported_media_type",
}
_TITLES: Final = {413: "Content Too Large", 422: "Unprocessable Content"}
"""Names of RFC 9110, which Python knows from 3.13 on."""
_STORE_RETRY_S: Final = 1


class BadRequest(JobctlError):
    """The request itself is broken: its query string is not UTF-8, its path cannot be read."""

    code = "bad_request"


class MalformedJson(InvalidInput):
    """The body is not JSON, or not UTF-8."""

    code = "malformed_json"


class RequestTimeout(JobctlError):
    """The body did not arrive in time."""

    code = "request_timeout"


class UnsupportedMediaType(JobctlError):
    """The body is of a type that this route does not take."""

    code = "unsupported_media_type"


class NotReady(JobctlError):
    """The server does not take work now; ``reasons`` say why."""

    code = "not_ready"

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


class Problem(Wire, frozen=True, omit_defaults=True):
    """RFC 9457. ``type`` is always ``about:blank``, ``code`` tells problems apart and stays the same.

    ``field`` is the JSON path (or query parameter) at fault, ``known`` what would have been right, ``reasons`` why
    the server is not ready, ``requestId`` what to look for in the server's log.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    known: tuple[str, ...] | None = None
    reasons: tuple[str, ...] | None = None
    request_id: str | None = None


_encode = msgspec.json.Encoder().encode


def answer(error: Exception, request_id: str) -> Response:
    """The response for whatever was raised. What was not raised on purpose goes to the log and is not told."""
    if isinstance(error, JobctlError) and error.code in STATUS:
        return _of_ours(error)
    if isinstance(error, HTTPException) and error.code in _CODE_OF:
        return _of_framework(error)
    log.error("unexpected error in request %s", request_id, exc_info=error, extra={"request_id": request_id})
    detail = "the server failed; its log has the cause under this request id"
    return _respond(_problem("internal", detail, request_id=request_id))


def _of_ours(error: JobctlError) -> Response:
    problem = _problem(
        error.code,
        str(error),
        field=error.field if isinstance(error, InvalidInput) else None,
        known=error.known if isinstance(error, UnknownHandler) else None,
        reasons=error.reasons if isinstance(error, NotReady) else None,
    )
    headers = []
    if problem.status == 401:
        headers.append(("WWW-Authenticate", 'Bearer realm="jobctl"'))
    if error.code == "store_unavailable":
        headers.append(("Retry-After", str(_STORE_RETRY_S)))
    return _respond(problem, headers)


def _of_framework(error: HTTPException) -> Response:
    if isinstance(error, MethodNotAllowed):
        methods = sorted({*(error.valid_methods or ()), "OPTIONS"})
        problem = _problem("method_not_allowed", f"this takes {', '.join(methods)}")
        return _respond(problem, [("Allow", ", ".join(methods))])
    code = _CODE_OF[error.code or 500]
    detail = "there is nothing at this path" if code == "not_found" else error.description or code
    return _respond(_problem(code, detail))


def _problem(code: str, detail: str, **members: Any) -> Problem:
    status = STATUS[code]
    title = _TITLES.get(status) or http.HTTPStatus(status).phrase
    return Problem(type="about:blank", title=title, status=status, detail=detail, code=code, **members)


def _respond(problem: Problem, headers: list[tuple[str, str]] | None = None) -> Response:
    response = Response(_encode(problem), problem.status, content_type="application/problem+json")
    for name, value in headers or ():
        response.headers[name] = value
    return response
