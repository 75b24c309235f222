"""Successes: ``{"data": ...}`` as bytes, entity tags, positions in the log."""

import hashlib
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from quart import Response

from jobctl.model import Position
from jobctl.web.openapi import POSITION
from jobctl.web.request import ApiRequest

JSON: Final = "application/json"
_TAG: Final = re.compile(r'"([^"]*)"')
"""One entity tag; the ``W/`` before a weak one does not count in this comparison."""
_encode = msgspec.json.Encoder().encode


def data(value: Any, status: int = 200) -> Response:
    """``{"data": value}``; ``value`` is anything that msgspec encodes."""
    return Response(b'{"data":%b}' % _encode(value), status, content_type=JSON)


def positioned(value: Any, position: Position) -> Response:
    """``data`` with the place in the log at which it was true."""
    response = data(value)
    response.headers[POSITION] = str(position)
    return response


def tagged(request: ApiRequest, value: Any, position: Position | None) -> Response:
    """``data`` with a strong entity tag; 304 without a body if the client has just that (RFC 9110 section 13.1.2)."""
    body = b'{"data":%b}' % _encode(value)
    tag = hashlib.blake2b(body, digest_size=16).hexdigest()
    if unchanged(request, tag):
        response = Response(b"", 304)
        del response.headers["Content-Type"], response.headers["Content-Length"]
    else:
        response = Response(body, 200, content_type=JSON)
    response.headers["ETag"] = f'"{tag}"'
    if position is not None:
        response.headers[POSITION] = str(position)
    return response


def unchanged(request: ApiRequest, tag: str) -> bool:
    """Whether the client has just what the entity tag stands for."""
    return matches(request.headers.getlist("If-None-Match"), tag)


def matches(lines: Iterable[str], tag: str) -> bool:
    """Whether ``If-None-Match``, by its lines, names the tag."""
    return any(line.strip() == "*" or tag in _TAG.findall(line) for line in lines)
