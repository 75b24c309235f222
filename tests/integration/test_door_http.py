"""The door's HTTP: bad requests, bad apps, slow peers and too many of them, over real loopback sockets."""
# ruff: noqa: F811  (fixtures are imported by name)

import contextlib
import errno
import gc
import json
import logging
import os
import resource
import socket
import struct

import h11
import pytest
import trio
import trio.testing
from door_kit import (  # noqa: F401
    HELLO,
    PATIENCE_S,
    UPGRADE,
    App,
    Peer,
    Server,
    Start,
    app,
    eventually,
    never_http2_nor_hypercorns_websockets,
    peer,
    server,
    start,
    tasks,
    with_headers,
)

from jobctl import door
from jobctl.hypercorn_h11 import H11Connection

# --- requests that are not as they should be ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\x00\x01\x02\xff\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (with_headers(b"Content-Length: 1", b"Content-Length: 2"), 400),
        (with_headers(b"Transfer-Encoding: gzip", method=b"POST"), 501),
        (with_headers(target=b"http://"), 400),
        (with_headers(target=b"hello"), 400),
        (with_headers(target=b"?"), 400),
        (with_headers(target=b"*"), 400),
        (with_headers(target=b"x:80", method=b"CONNECT"), 501),
        (with_headers(target=b"/hello", method=b"CONNECT"), 501),
        (with_headers(target=b"/hello", method=b"head"), 501),
        (with_headers(b"X: " + b"x" * 90_000), 431),
        (b"GET /" + b"x" * 70_000, 431),
    ],
)
async def test_a_bad_request_is_refused_and_the_connection_closed(peer: Peer, request_: bytes, status: int) -> None:
    await peer.send(request_)
    answered, headers, _ = await peer.response()
    assert answered == status
    assert headers[b"connection"] == b"close"
    assert await peer.rest() == b""


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/%ff%C3", "/\ufffd\ufffd"),
        (b"/%ED%A0%80", "/\ufffd\ufffd\ufffd"),
        (b"/%", "/%"),
        (b"/%zz%00", "/%zz\0"),
        (b"//x/../y", "//x/../y"),
        (b"http://some.where/hello?q", "/hello"),
        (b"http://[bad", "/"),
        (b"HTTPS://x?q", "/"),
    ],
)
async def test_odd_targets_reach_the_app_as_paths(peer: Peer, app: App, target: bytes, path: str) -> None:
    await peer.send(with_headers(b"X-Odd: \xe9\xff", target=target))
    assert (await peer.response())[0] == (200 if path == "/hello" else 404)
    assert app.happened[-1] == f"GET {path}"


# --- the app --------------------------------------------------------------------------------------------------------


async def test_a_request_is_answered_and_its_sender_known(peer: Peer) -> None:
    await peer.send(with_headers(target=b"/scope?q=1"))
    host, port = peer.stream.socket.getsockname()  # type: ignore[attr-defined]
    status, headers, body = await peer.response()
    assert status == 200
    assert json.loads(body) == {"client": [host, port], "scheme": "http", "path": "/scope"}
    assert b"server" not in headers


async def test_pipelined_requests_are_answered_in_order(peer: Peer) -> None:
    post = with_headers(b"Content-Length: 3", method=b"POST", target=b"/count") + b"abc"
    await peer.send(HELLO + post + HELLO)
    assert [(await peer.response())[2] for _ in range(3)] == [b"hello", b"3", b"hello"]


async def test_a_body_waits_for_100_continue(peer: Peer) -> None:
    await peer.send(with_headers(b"Content-Length: 3", b"Expect: 100-continue", method=b"POST", target=b"/count"))
    assert (await peer.read(25)).startswith(b"HTTP/1.1 100 ")
    peer.unread = b""
    await peer.send(b"abc")
    assert (await peer.response())[2] == b"3"


@pytest.mark.parametrize("path", [b"/raise", b"/lie", b"/raise-late"])
async def test_an_error_in_the_app_ends_that_connection_only(
    peer: Peer, path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await peer.send(with_headers(target=path))
    if path == b"/raise":
        assert (await peer.response())[0] == 500
    else:
        with pytest.raises(EOFError):
            await peer.response()
    assert await peer.rest() == b""
    await eventually(lambda: any(record.levelno == logging.ERROR for record in caplog.records))


async def test_an_early_answer_reaches_a_peer_that_is_still_sending(server: Server) -> None:
    peer = await server.connect()
    await peer.send(with_headers(b"Content-Length: 10000000", method=b"POST", target=b"/deaf"))
    for _ in range(20):
        await peer.send(bytes(65536))
    status, headers, body = await peer.response()
    assert (status, headers[b"connection"], body) == (413, b"close", b"too much")


async def test_a_body_that_the_app_does_not_read_is_held_back(server: Server, app: App) -> None:
    peer = await server.connect()
    size = 64 * 1024 * 1024  # Loopback sockets hold a few MB.
    await peer.send(with_headers(b"Content-Length: %d" % size, method=b"POST", target=b"/lazy"))
    sent = 0
    while True:
        with trio.move_on_after(0.2) as waiting:
            sent += await peer.stream.socket.send(bytes(65536))  # type: ignore[attr-defined]
        if waiting.cancelled_caught:
            break
        assert sent < size, "all of it was taken"
    app.gate.set()
    assert (await peer.response())[0] == 500
    await peer.rest()


async def test_an_app_hears_that_its_peer_has_left(server: Server, app: App) -> None:
    before = tasks()
    peer = await server.connect()
    await peer.send(with_headers(target=b"/listen"))
    await app.entered.wait()
    await peer.stream.aclose()
    with trio.fail_after(PATIENCE_S):
        await app.disconnected.wait()
    await eventually(lambda: tasks() == before)


async def test_a_short_body_that_the_app_ignores_does_not_cost_the_connection(peer: Peer) -> None:
    request = with_headers(b"Content-Length: 3", method=b"POST", target=b"/hello") + b"abc"
    await peer.send(request + request)
    for _ in range(2):
        status, headers, _ = await peer.response()
        assert status == 200
        assert b"connection" not in headers


async def test_bytes_after_the_last_request_leave_no_task_behind(server: Server) -> None:
    before = tasks()
    peer = await server.connect()
    await peer.send(with_headers(b"Connection: close", target=b"/hello") + HELLO)
    assert (await peer.response())[2] == b"hello"
    assert await peer.rest() == b""
    await eventually(lambda: tasks() == before)


async def test_bytes_after_the_last_request_are_not_kept(server: Server, app: App) -> None:
    peer = await server.connect()
    await peer.send(with_headers(b"Connection: close", target=b"/gated"))
    await app.entered.wait()
    await peer.send(bytes(1_000_000))
    await trio.testing.wait_all_tasks_blocked()
    parsers = [thing for thing in gc.get_objects() if isinstance(thing, H11Connection)]
    assert [parser.trailing_data[0] for parser in parsers if parser.their_state is h11.MUST_CLOSE] == [b""]
    app.gate.set()
    assert (await peer.response())[2] == b"gated"


@pytest.mark.parametrize("request_", [HELLO, UPGRADE, UPGRADE + b"x", b"GET", with_headers(target=b"/big")])
async def test_a_peer_that_resets_its_connection_is_not_our_error(
    server: Server, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    before = tasks()
    for pause in (0, 1, 5):
        peer = await server.connect()
        await peer.send(request_)
        for _ in range(pause):
            await trio.lowlevel.checkpoint()
        sock = peer.stream.socket  # type: ignore[attr-defined]
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    await eventually(lambda: tasks() == before)
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


# --- too many -------------------------------------------------------------------------------------------------------


async def test_when_full_the_oldest_idle_connection_makes_room(start: Start, app: App) -> None:
    server = await start(max_connections=3)
    peers = [await server.connect() for _ in range(3)]
    for one in peers:
        await one.send(HELLO)
        await one.response()
    await trio.testing.wait_all_tasks_blocked()
    assert await server.answers()
    assert await peers[0].rest() == b""
    await peers[2].send(HELLO)
    assert (await peers[2].response())[0] == 200


async def test_when_full_of_half_heads_whoever_has_something_to_ask_is_served(start: Start, app: App) -> None:
    """Without waiting for their time limit: it would be everybody's, again and again."""
    server = await start(max_connections=3)
    slow = []
    for head in (b"", b"GET /hello HTTP/1.1\r\nX: ", b"GET /hello HTTP/1.1\r\nX: "):
        slow.append(await server.connect())
        await slow[-1].send(head)
        await trio.testing.wait_all_tasks_blocked(0.01)
    for one in slow[:2]:
        assert await server.answers()
        assert await one.rest() == b"", "it has been longest about it"
        await (await server.connect()).send(b"GET")
        await trio.testing.wait_all_tasks_blocked(0.01)
    await slow[2].send(b"y\r\nHost: x\r\n\r\n")
    assert (await slow[2].response())[2] == b"hello"


async def test_when_full_of_half_bodies_the_one_that_stands_still_longest_makes_room(start: Start, app: App) -> None:
    server = await start(max_connections=2)
    slow = []
    for _ in range(2):
        slow.append(await server.connect())
        await slow[-1].send(with_headers(b"Content-Length: 10", method=b"POST", target=b"/count") + b"abc")
        await trio.testing.wait_all_tasks_blocked(0.01)
    await slow[0].send(b"def")
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert await server.answers()
    assert await slow[1].rest() == b""
    await slow[0].send(b"ghij")
    assert (await slow[0].response())[2] == b"10"


async def test_a_request_under_way_does_not_make_room(start: Start, app: App) -> None:
    server = await start(max_connections=1)
    busy = await server.connect()
    await busy.send(with_headers(target=b"/gated"))
    await app.entered.wait()
    other = await server.connect()
    await other.send(HELLO)
    await trio.testing.wait_all_tasks_blocked()
    app.gate.set()
    assert (await busy.response())[2] == b"gated"
    await busy.stream.aclose()
    assert (await other.response())[2] == b"hello"


async def test_when_full_of_work_others_wait_for_the_first_that_ends(start: Start, app: App) -> None:
    server = await start(max_connections=2)
    peers = [await server.connect() for _ in range(3)]
    for one in peers:
        await one.send(with_headers(target=b"/gated"))
    await eventually(lambda: app.happened.count("GET /gated") == 2)
    await trio.testing.wait_all_tasks_blocked()
    assert app.happened.count("GET /gated") == 2
    app.gate.set()
    for one in peers:
        assert (await one.response())[2] == b"gated"


async def test_streams_are_not_counted_as_http(start: Start) -> None:
    server = await start(max_connections=1)
    for _ in range(3):
        peer = await server.connect()
        await peer.send(UPGRADE)
        await peer.read(2)
    assert await server.answers()


async def test_running_out_of_file_descriptors_is_waited_out(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "ACCEPT_PAUSE_S", 0.01)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as cleanup:
        waiting = trio.socket.socket()
        cleanup.callback(waiting.close)
        highest = os.dup(0)
        cleanup.callback(os.close, highest)
        cleanup.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            while True:
                cleanup.callback(os.close, os.dup(0))
        await waiting.connect(server.door.addresses[0])
        await eventually(lambda: "cannot accept" in caplog.text)
        await trio.sleep(0.05)
    assert await server.answers()
    assert len(caplog.records) == 1
