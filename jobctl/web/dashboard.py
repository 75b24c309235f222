"""The dashboard: the files of ``static/``, and nothing that is not among them.

They are read once, at the start: what can be asked for is what stands in that dict, so there is no path to walk out
of. Each has a strong entity tag and is asked for anew each time (304 where it is the same), so that a new server never
runs with a page of an old one. The same file compressed is another representation, with a tag of its own (RFC 9110
section 8.8.3.3).

The policy lets the page load from, and talk to, this server alone. ``require-trusted-types-for`` takes every way to
turn text into markup or code away from it: what comes from outside can only ever be shown as text. ``connect-src`` of
``default-src 'self'`` covers the WebSocket of the same origin (CSP 3, section 6.7.2.8). It is the page's: a browser
goes by it for all that the page loads, so the files of which it is made have the short one of every other answer.
"""

import gzip
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from quart import Quart, Response
from quart_schema import hide
from werkzeug.exceptions import NotFound

from jobctl.web.answers import unchanged
from jobctl.web.request import current

INDEX: Final = "index.html"
POLICY: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


_GZIP: Final = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$)).*?)?\s*(?:,|$)", re.IGNORECASE)
"""``gzip`` in ``Accept-Encoding``, unless with weight 0."""


class File(NamedTuple):
    """One file, as it is sent."""

    body: bytes
    media_type: str
    tag: str


def read_files() -> dict[str, File]:
    """Every file of ``static/`` that is of a known type, by name."""
    found = {}
    for entry in files("jobctl.web").joinpath("static").iterdir():
        media_type = TYPES.get("." + entry.name.rpartition(".")[2])
        if media_type is not None:
            body = entry.read_bytes()
            found[entry.name] = File(body, media_type, hashlib.blake2b(body, digest_size=16).hexdigest())
    return found


class DashboardRoutes:
    """Serves the page and what it is made of. Anybody may have them: they know nothing before they are signed in."""

    def __init__(self) -> None:
        self._files = read_files()

    def register(self, app: Quart) -> None:
        """Add the routes."""
        app.add_url_rule("/", "dashboard", self.page, methods=["GET"])
        app.add_url_rule("/static/<name>", "static_file", self.file, methods=["GET"])

    @hide
    async def page(self) -> Response:
        """The page."""
        return await self.file(INDEX)

    @hide
    async def file(self, name: str) -> Response:
        """One of its files."""
        found = self._files.get(name)
        if found is None:
            raise NotFound
        packed = _GZIP.search(current().headers.get("Accept-Encoding", "")) is not None
        tag = found.tag + "-gzip" * packed
        if unchanged(current(), tag):
            response = Response(b"", 304)
            del response.headers["Content-Type"], response.headers["Content-Length"]
        else:
            body = _compressed(found.body) if packed else found.body
            response = Response(body, 200, content_type=found.media_type)
            if packed:
                response.headers["Content-Encoding"] = "gzip"
        response.headers["ETag"] = f'"{tag}"'
        response.headers["Vary"] = "Accept-Encoding"
        if name == INDEX:
            response.headers["Content-Security-Policy"] = POLICY
        response.headers["Cache-Control"] = "no-cache"
        return response


@cache
def _compressed(body: bytes) -> bytes:
    """At the first request for it: a start has better things to do."""
    return gzip.compress(body, 9, mtime=0)
