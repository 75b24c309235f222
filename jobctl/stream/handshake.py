"""The WebSocket handshake of an upgrade request that the door has already parsed (RFC 6455 section 4.2)."""

import base64
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from wsproto.utilities import generate_accept_token

Headers = Sequence[tuple[bytes, bytes]]


class Refused(NamedTuple):
    """An HTTP answer instead of a WebSocket."""

    status: int
    reason: str
    header: tuple[str, str] | None = None

    def encode(self) -> bytes:
        """The answer as bytes; the connection is closed after it."""
        lines = [f"HTTP/1.1 {self.status} {self.reason}", "Content-Length: 0", "Connection: close"]
        if self.header is not None:
            lines.append(": ".join(self.header))
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


BAD_HANDSHAKE: Final = Refused(400, "Bad Request")
WRONG_VERSION: Final = Refused(426, "Upgrade Required", ("Sec-WebSocket-Version", "13"))
WRONG_ORIGIN: Final = Refused(403, "Forbidden")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
STOPPING: Final = Refused(503, "Service Unavailable", ("Retry-After", "1"))


def answer(headers: Headers) -> bytes | Refused:
    """The 101 answer, without any extension or subprotocol; or why not.

    wsproto's handshake would say the same (a test compares them), but writes the request anew and parses it a second
    time, which is a good part of what a new connection costs.

    Args:
        headers: Of a GET request of HTTP/1.1, names in lower case.
    """
    version = _one(headers, b"sec-websocket-version")
    if version is not None and version.strip() != b"13":
        return WRONG_VERSION
    key = _one(headers, b"sec-websocket-key")
    if version is None or key is None or not _is_key(key):
        return BAD_HANDSHAKE
    # The door has read both of these as the lists that they are, in however many lines.
    if b"upgrade" not in _listed(headers, b"connection") or b"websocket" not in _listed(headers, b"upgrade"):
        return BAD_HANDSHAKE
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + generate_accept_token(key) + b"\r\n\r\n"
    )


def origin_allowed(headers: Headers, *, scheme: str, allowed: Collection[str]) -> bool:
    """Whether a page of this origin may connect: the same origin, or one of ``allowed``; programs send none.

    ``scheme``: http or https, as the client sees it.
    """
    origin = _one(headers, b"origin")
    if origin is None:
        return True
    host = _one(headers, b"host") or b""
    text = origin.decode("latin-1").strip().lower()
    own = f"{scheme}://{host.decode('latin-1').strip().lower()}"
    port = _DEFAULT_PORTS.get(scheme, "")
    same = text.removesuffix(port) == own.removesuffix(port)
    return same or text in {each.rstrip("/").lower() for each in allowed}


def _is_key(value: bytes) -> bool:
    """Whether it is 16 bytes in base64 (RFC 6455 section 4.2.1)."""
    try:
        return len(base64.b64decode(value, validate=True)) == 16
    except ValueError:
        return False


def _listed(headers: Headers, name: bytes) -> set[bytes]:
    """The tokens of a header that is a list, in lower case."""
    return {token.strip() for key, value in headers if key == name for token in value.lower().split(b",")}


def _one(headers: Headers, name: bytes) -> bytes | None:
    """The header's value; a repeated one is nobody's."""
    found = [value for key, value in headers if key.lower() == name]
    return None if not found else found[0] if len(found) == 1 else b"\x00"
