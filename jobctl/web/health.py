"""What a process without an API answers over HTTP, where it is asked to: whether it is well, and what it has counted.

``jobctl work`` has it for supervisors and Prometheus. There are no tokens; who may ask is who can reach the port. At an
address of this machine alone that is a program that asks for itself, and not a page in somebody's browser.
"""

import http
from collections.abc import Callable
from typing import Any, Final

import msgspec

from jobctl.web.local import is_local, is_loopback

EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format."""
_JSON, _PROBLEM = "application/json", "application/problem+json"
_encode = msgspec.json.Encoder().encode


class Health:
    """An ASGI app: ``GET /healthz``, ``/readyz`` and ``/metrics``, as a server has them.

    Args:
        ready: The reasons why no work should come; none: ready.
        exposition: Gives the page of ``/metrics``.
    """

    def __init__(self, ready: Callable[[], list[str]], exposition: Callable[[], bytes]) -> None:
        self._ready, self._exposition = ready, exposition

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002 - no body is read
        """Answer one request."""
        if scope["type"] != "http":
            return
        status, kind, body = self._answer(scope)
        headers = [
            (b"content-type", kind.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _answer(self, scope: Any) -> "_Answer":
        answer = {"/healthz": _healthz, "/readyz": self._readyz, "/metrics": self._metrics}.get(scope["path"])
        if answer is None:
            return _problem(404, "not_found", "there is nothing here but /healthz, /readyz and /metrics")
        if scope["method"] not in {"GET", "HEAD"}:
            return _problem(405, "method_not_allowed", "this takes GET")
        return answer(scope)

    def _readyz(self, scope: Any) -> "_Answer":  # noqa: ARG002 - as all
        if reasons := self._ready():
            return _problem(503, "not_ready", "; ".join(reasons), reasons=reasons)
        return 200, _JSON, b'{"status":"ready"}'

    def _metrics(self, scope: Any) -> "_Answer":
        if is_loopback(scope["server"][0]) and not is_local(scope):
            return _problem(403, "forbidden", "metrics are for programs on this machine")
        return 200, EXPOSITION, self._exposition()


_Answer = tuple[int, str, bytes]
"""Status, media type, body."""


def _healthz(scope: Any) -> _Answer:
    return 200, _JSON, b'{"status":"ok"}'


def _problem(status: int, code: str, detail: str, **members: Any) -> _Answer:
    told = {"type": "about:blank", "title": http.HTTPStatus(status).phrase, "status": status, "detail": detail}
    return status, _PROBLEM, _encode({**told, "code": code, **members})
