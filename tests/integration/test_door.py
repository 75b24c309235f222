"""The door's hand-off to the stream, and its refusal of HTTP/2, attacked over real loopback sockets.

Each attack is made with the first request of a connection and with a later one.
"""
# ruff: noqa: F401, F811  (fixtures are imported by name)

import gc
import json
import logging
import shutil
import socket
import struct

import h11
import hpack
import pytest
import trio
import trio.testing
from door_kit import (
    HELLO,
    PATIENCE_S,
    STREAM,
    UPGRADE,
    App,
    Peer,
    Server,
    Start,
    app,
    certificates,
    never_http2_nor_hypercorns_websockets,
    peer,
    server,
    start,
    tasks,
    tls_server,
    with_headers,
)

from jobctl import door, http_connection
from jobctl.door import Upgrade
from jobctl.exchange import Exchange
from jobctl.http_connection import HttpConnection
from jobctl.hypercorn_h11 import H11Protocol

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


# --- the hand-off ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "following",
    [b"", b"x", b"\xff" * 200, b"\x81\xfe\xff\xff", b"\x00", HELLO],
    ids=["nothing", "one byte", "malformed frames", "half a frame", "zero", "a request"],
)
async def test_an_upgrade_is_handed_over_with_what_follows(peer: Peer, app: App, following: bytes) -> None:
    await peer.send(UPGRADE + following)
    assert await peer.read(len(following) + 2) == b"<" + following + b">"
    await peer.send(b"and more")
    assert await peer.read(10) == b"<and more>"
    assert app.upgrades == [{"target": STREAM, "peer": "127.0.0.1", "tls": False}]
    await peer.stream.aclose()


async def test_an_upgrade_that_comes_byte_by_byte_is_handed_over(peer: Peer) -> None:
    for byte in UPGRADE:
        await peer.send(bytes([byte]))
        await trio.testing.wait_all_tasks_blocked()
    assert await peer.read(2) == b"<>"


@pytest.mark.parametrize(
    "request_",
    [
        with_headers(b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket"),
        with_headers(b"Connection: keep-alive", b"Connection: UPGRADE", b"Upgrade: websocket"),
        with_headers(b"Connection: Upgrade", b"Connection: keep-alive", b"Upgrade: websocket"),
        with_headers(b"Upgrade: foo, websocket", b"Connection:upgrade,x"),
        with_headers(b"Connection: upgrade", b"Upgrade: websocket", b"Upgrade: foo"),
        with_headers(b"Connection: upgrade", b"Upgrade: foo", b"Upgrade: websocket"),
        with_headers(b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 0"),
        with_headers(b"Connection: upgrade", b"Upgrade: websocket", target=STREAM.encode() + b"?a=/b?c"),
        with_headers(b"Connection: upgrade", b"Upgrade: websocket", target=b"http://any.where:8000" + STREAM.encode()),
    ],
)
async def test_an_upgrade_is_known_in_all_its_spellings(peer: Peer, request_: bytes) -> None:
    await peer.send(request_ + b"x")
    assert await peer.read(3) == b"<x>"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (with_headers(b"Connection: upgrade", b"Upgrade: websocket", target=b"/"), 404),
        (with_headers(b"Connection: upgrade", b"Upgrade: websocket", target=b"/hello"), 200),
        (with_headers(b"Connection: upgrade", b"Upgrade: websocket", target=b"/hello?" + STREAM.encode()), 200),
        (with_headers(b"Connection: upgrade", b"Upgrade: websocket", target=STREAM.encode() + b"/"), 404),
        (with_headers(b"Connection: upgrade", b"Upgrade: foo"), 404),
        (with_headers(b"Connection: upgrade"), 404),
        (with_headers(b"Connection: keep-alive", b"Upgrade: websocket"), 404),
        (with_headers(b"Connection: upgrade", b"Upgrade: websocket", method=b"POST"), 404),
        (with_headers(b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 1") + b"x", 404),
        (
            with_headers(b"Connection: upgrade", b"Upgrade: websocket", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
            404,
        ),
        (with_headers(b"Connection: upgrade, keep-alive", b"Upgrade: websocket", version=b"1.0"), 404),
    ],
)
async def test_any_other_upgrade_is_a_plain_request(peer: Peer, app: App, request_: bytes, status: int) -> None:
    await peer.send(request_ + HELLO)
    assert (await peer.response())[0] == status
    if b"HTTP/1.0" not in request_:
        assert (await peer.response())[2] == b"hello", "the connection goes on"
    assert app.upgrades == []


async def test_a_pipelined_upgrade_waits_for_the_response_before_it(peer: Peer, app: App) -> None:
    await peer.send(b"GET /gated HTTP/1.1\r\nHost: x\r\n\r\n" + UPGRADE + b"x")
    await app.entered.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert app.upgrades == []
    app.gate.set()
    assert (await peer.response())[2] == b"gated"
    assert await peer.read(3) == b"<x>"


async def test_an_app_may_end_its_work_before_the_next_request_is_handed_over(peer: Peer, app: App) -> None:
    await peer.send(b"GET /linger HTTP/1.1\r\nHost: x\r\n\r\n" + UPGRADE)
    assert (await peer.response())[2] == b"linger"
    await trio.testing.wait_all_tasks_blocked()
    assert app.upgrades == []
    app.gate.set()
    assert await peer.read(2) == b"<>"
    assert app.happened[-1] == "lingered"


async def test_an_app_that_does_not_end_cannot_hold_up_the_hand_over(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "AFTER_RESPONSE_S", 0.05)
    await peer.send(b"GET /linger HTTP/1.1\r\nHost: x\r\n\r\n" + UPGRADE)
    assert (await peer.response())[2] == b"linger"
    assert await peer.read(2) == b"<>"


async def test_who_asks_for_the_stream_waits_for_the_turn_and_nobody_else_does(start: Start, app: App) -> None:
    turn = trio.Event()
    server = await start(before_upgrade=turn.wait)
    stream = await server.connect()
    await stream.send(UPGRADE)
    await trio.testing.wait_all_tasks_blocked()
    assert app.upgrades == []
    assert await server.answers()
    turn.set()
    assert await stream.read(2) == b"<>"
    await stream.stream.aclose()


@pytest.mark.parametrize("asked", [UPGRADE, UPGRADE.replace(b"Host: x\r\n", b""), UPGRADE[:-2]])
async def test_who_leaves_before_the_turn_comes_is_no_error(
    start: Start, asked: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Also with a request that is refused: the refusal cannot be sent any more."""
    turn = trio.Event()
    server = await start(before_upgrade=turn.wait)
    peer = await server.connect()
    await peer.send(asked)
    await trio.testing.wait_all_tasks_blocked()
    server.app.peers[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await peer.stream.aclose()
    turn.set()
    assert await server.answers()
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_the_socket_is_closed_when_the_stream_ends(start: Start) -> None:
    async def leave(_: Upgrade) -> None:
        pass

    peer = await (await start(on_upgrade=leave)).connect()
    await peer.send(UPGRADE)
    assert await peer.rest() == b""


async def test_an_error_in_the_stream_ends_that_connection_only(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    await peer.send(UPGRADE.replace(b"/ws", b"/ws?raise"))
    assert await peer.rest() == b""
    assert "of the stream" in caplog.text


@pytest.mark.parametrize("later", [False, True])
async def test_nothing_of_http_is_left_behind_a_stream(server: Server, later: bool) -> None:
    def left() -> list[object]:
        kinds = (HttpConnection, H11Protocol, Exchange, trio.CancelScope, trio.Nursery)
        things = [thing for thing in gc.get_objects() if isinstance(thing, kinds)]
        parsers = [thing for thing in gc.get_objects() if isinstance(thing, h11.Connection)]
        return things + [parser for parser in parsers if parser.our_role is h11.SERVER]

    peer = await server.connect()
    await trio.testing.wait_all_tasks_blocked()
    gc.collect()
    gc.disable()  # It has to go by itself, at once: the collector may come minutes later.
    try:
        before, tasks_before = len(left()), tasks()
        if later:
            await peer.send(HELLO)
            await peer.response()
            assert len(left()) > before
        await peer.send(UPGRADE)
        await peer.read(2)
        await trio.testing.wait_all_tasks_blocked()
        assert len(left()) <= before
        assert tasks() == tasks_before
    finally:
        gc.enable()


async def test_the_kernels_write_limit_is_for_http_only(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    option = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    original = door._set_user_timeout

    def spy(sock: trio.socket.SocketType, seconds: float) -> None:
        original(sock, seconds)
        seen.append(sock.getsockopt(*option))
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    monkeypatch.setattr(door, "_set_user_timeout", spy)
    server = await start()
    peer = await server.connect()
    await peer.send(HELLO)
    await peer.response()
    assert seen == [30_000]
    await peer.send(UPGRADE)
    await peer.read(2)
    assert seen == [30_000, 0]


# --- HTTP/2 ---------------------------------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _headers_frame(path: bytes) -> bytes:
    block = hpack.Encoder().encode(
        [(b":method", b"GET"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x")]
    )
    return frame(1, 5, 1, block)


@pytest.mark.parametrize(
    "following",
    [
        b"",
        frame(4, 0, 0, b""),
        frame(4, 0, 0, b"") + _headers_frame("/\u00e9\u20ac".encode()),
        frame(4, 0, 0, b"") + b"".join(frame(2, 0, n, struct.pack(">IB", 0, 1)) for n in range(3, 4003, 2)),
        b"\xff" * 1000,
    ],
    ids=["nothing", "settings", "a path that is not ASCII", "a flood of priorities", "rubbish"],
)
async def test_http2_is_refused(peer: Peer, following: bytes) -> None:
    await peer.send(PREFACE + following)
    status, headers, _ = await peer.response()
    assert (status, headers[b"connection"]) == (505, b"close")
    assert await peer.rest() == b""


async def test_a_version_that_there_is_not_is_refused(peer: Peer) -> None:
    await peer.send(with_headers(target=b"/hello", version=b"3.0"))
    assert (await peer.response())[0] == 505


@pytest.mark.parametrize("settings", [[], [b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"], [b"HTTP2-Settings: \xe9"]])
@pytest.mark.parametrize("connection", [b"Connection: Upgrade, HTTP2-Settings", b"Connection: Upgrade"])
async def test_an_h2c_upgrade_is_answered_in_http1(peer: Peer, settings: list[bytes], connection: bytes) -> None:
    await peer.send(with_headers(connection, b"Upgrade: h2c", *settings, target=b"/hello"))
    status, headers, body = await peer.response()
    assert (status, body) == (200, b"hello")
    assert b"upgrade" not in headers
    body_headers = (connection, b"Upgrade: h2c", *settings, b"Content-Length: 3")
    await peer.send(with_headers(*body_headers, method=b"POST", target=b"/count") + b"abc")
    assert (await peer.response())[2] == b"3"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_with_http2_gets_its_answer(server: Server) -> None:
    host, port = server.door.addresses[0]
    url = f"http://{host}:{port}"
    curl = ["curl", "-sS", "--http2", "-w", " %{http_version} %{response_code}\n"]
    done = await trio.run_process([*curl, f"{url}/hello", "-d", "abc", f"{url}/count"], capture_stdout=True)
    assert done.stdout.split() == [b"hello", b"1.1", b"200", b"3", b"1.1", b"200"]


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [False, True])
async def test_an_upgrade_over_tls_is_handed_over(tls_server: Server, app: App, later: bool) -> None:
    peer = await tls_server.connect()
    if later:
        await peer.send(with_headers(target=b"/scope"))
        assert json.loads((await peer.response())[2])["scheme"] == "https"
    await peer.send(UPGRADE + b"x")
    assert await peer.read(3) == b"<x>"
    await peer.send(bytes(100_000))
    await peer.read(100_000)
    assert app.upgrades == [{"target": STREAM, "peer": "127.0.0.1", "tls": True}]


@pytest.mark.parametrize("offer", [["h2"], ["h2", "http/1.1"], ["http/1.1"], None])
async def test_alpn_never_agrees_on_http2(tls_server: Server, offer: list[str] | None) -> None:
    peer = await tls_server.connect(alpn=offer or [])
    assert isinstance(peer.stream, trio.SSLStream)
    assert peer.stream.selected_alpn_protocol() == ("http/1.1" if "http/1.1" in (offer or []) else None)
    await peer.send(PREFACE if offer == ["h2"] else HELLO)
    assert (await peer.response())[0] == (505 if offer == ["h2"] else 200)


async def test_a_large_response_arrives_whole_over_tls(tls_server: Server) -> None:
    peer = await tls_server.connect()
    await peer.send(with_headers(target=b"/big"))
    with trio.fail_after(PATIENCE_S):
        await peer.read(1_000_000)
    await peer.stream.aclose()


async def test_what_is_not_tls_ends_that_connection_only(tls_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    tcp = await Server(tls_server.door, tls_server.app).connect()
    await tcp.send(HELLO)
    await tcp.rest()
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == [], "it was the peer's fault"
