"""The answer to an upgrade request, beside what wsproto would have answered."""

from __future__ import annotations

import pytest
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from jobctl.stream.handshake import BAD_HANDSHAKE, WRONG_VERSION, Refused, answer

GOOD = {
    b"host": b"localhost:8000",
    b"upgrade": b"websocket",
    b"connection": b"Upgrade",
    b"sec-websocket-version": b"13",
    b"sec-websocket-key": b"dGhlIHNhbXBsZSBub25jZQ==",  # RFC 6455 section 1.3
}


def of_wsproto(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    shake = H11Handshake(ConnectionType.SERVER)
    try:
        shake.initiate_upgrade_connection(headers, b"/api/notifications/ws")
        return shake.send(AcceptConnection())
    except RemoteProtocolError:
        return None


def test_the_example_of_the_standard_is_answered_as_it_says() -> None:
    said = answer(list(GOOD.items()))
    assert isinstance(said, bytes)
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n" in said


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, None),
        ({b"connection": b"keep-alive, UPGRADE"}, None),
        ({b"upgrade": b"WebSocket"}, None),
        ({b"sec-websocket-protocol": b"chat", b"sec-websocket-extensions": b"permessage-deflate"}, None),
        ({b"sec-websocket-version": b"12"}, WRONG_VERSION),
        ({b"sec-websocket-version": None}, BAD_HANDSHAKE),
        ({b"sec-websocket-key": None}, BAD_HANDSHAKE),
        ({b"upgrade": None}, BAD_HANDSHAKE),
        ({b"connection": b"keep-alive"}, BAD_HANDSHAKE),
        ({b"connection": None}, BAD_HANDSHAKE),
    ],
)
def test_wsproto_would_say_the_same(changed: dict[bytes, bytes | None], expected: Refused | None) -> None:
    headers = [(name, value) for name, value in (GOOD | changed).items() if value is not None]
    said, theirs = answer(headers), of_wsproto(headers)
    assert said == (theirs if expected is None else expected)
    assert (theirs is None) is (expected is not None)


def test_a_repeated_version_is_nobodys() -> None:
    assert answer([*GOOD.items(), (b"sec-websocket-version", b"13")]) == WRONG_VERSION


def test_options_are_lists_which_wsproto_does_not_know() -> None:
    for name, value in ((b"upgrade", b"websocket, h2c"), (b"upgrade", b"h2c"), (b"connection", b"keep-alive")):
        assert isinstance(answer([*GOOD.items(), (name, value)]), bytes)
