"""WebSocket frames as a server sends them: unmasked, unfragmented, no extensions (RFC 6455 section 5)."""

from typing import Final

from jobctl.protocol.close_codes import Close

PING: Final = b"\x89\x00"


def text(payload: bytes) -> bytes:
    """A whole text message of UTF-8 ``payload``."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


def pong(payload: bytes) -> bytes:
    """The answer to a ping with ``payload`` (<= 125 bytes)."""
    return bytes((0x8A, len(payload))) + payload


def close(why: Close) -> bytes:
    """A close frame."""
    body = why.code.to_bytes(2, "big") + why.reason.encode()
    return bytes((0x88, len(body))) + body
