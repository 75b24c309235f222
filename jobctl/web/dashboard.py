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
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from quart import Quart, Response
from quart_schema import hide
from werkzeug.exceptions import NotFound

from jobctl.web.answers import matches

INDEX: Final = "index.html"
POLICY: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
NO_PAGE: Final = "default-src 'none'"
"""The policy of answers that are no page."""
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


class Answer(NamedTuple):
    """What is said of a file, but for the headers that every answer has."""

    route: str
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def read_files() -> dict[str, File]:
    """Every file of ``static/`` that is of a known type, by name."""
    found = {}
    for entry in files("jobctl.web").joinpath("static").iterdir():
        media_type = TYPES.get("." + entry.name.rpartition(".")[2])
        if media_type is not None:
            body = entry.read_bytes()
            found[entry.name] = File(body, media_type, hashlib.blake2b(body, digest_size=16).hexdigest())
    return found


class Dashboard:
    """Serves the page and what it is made of. Anybody may have them: they know nothing before they are signed in.

    Forty of them make the page, so they are answered before Quart's routing, which takes as long as all the rest.
    """

    def __init__(self) -> None:
        found = read_files()
        self._files = {f"/static/{name}": file for name, file in found.items()} | {"/": found[INDEX]}
        self._index = found[INDEX]

    def register(self, app: Quart) -> None:
        """Tell Quart's routing of them, for whatever is not there, or asked for by another method."""
        app.add_url_rule("/", "dashboard", self.absent, methods=["GET"])
        app.add_url_rule("/static/<name>", "static_file", self.absent, methods=["GET"])

    @hide
    async def absent(self, **_: str) -> Response:
        """No file of ours."""
        raise NotFound

    def answer(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Answer | None:
        """What to say to a GET or HEAD of a file; ``None``: it is none.

        Args:
            method: Of the request.
            path: Decoded; nothing else of the target matters.
            headers: Of the request, names in lower case.
        """
        file = self._files.get(path)
        if file is None or method not in {"GET", "HEAD"}:
            return None
        accepted = b",".join(value for name, value in headers if name == b"accept-encoding").decode("latin-1")
        known = [value.decode("latin-1") for name, value in headers if name == b"if-none-match"]
        tag, whole, same = _answers(file, page=file is self._index, packed=_GZIP.search(accepted) is not None)
        if matches(known, tag):
            return same
        return whole if method == "GET" else whole._replace(body=b"")


@cache
def _answers(file: File, *, page: bool, packed: bool) -> tuple[str, Answer, Answer]:
    """Its tag, all of it, and that it is the same; made when first asked for: a start has better things to do."""
    tag = file.tag + "-gzip" * packed
    common = (
        (b"etag", f'"{tag}"'.encode()),
        (b"vary", b"Accept-Encoding"),
        (b"cache-control", b"no-cache"),
        (b"content-security-policy", (POLICY if page else NO_PAGE).encode()),
    )
    body = gzip.compress(file.body, 9, mtime=0) if packed else file.body
    kind = ((b"content-type", file.media_type.encode()), (b"content-length", str(len(body)).encode()))
    coding = ((b"content-encoding", b"gzip"),) if packed else ()
    route = "/" if page else "/static/{name}"
    return tag, Answer(route, 200, (*kind, *coding, *common), body), Answer(route, 304, common, b"")
