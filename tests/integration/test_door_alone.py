"""Requests that are answered in their connection's own task, because they have come whole and wait for nobody."""
# ruff: noqa: F401, F811  (fixtures are imported by name)

import logging

import pytest
import trio
import trio.testing
from door_kit import (
    HELLO,
    App,
    Peer,
    Server,
    Start,
    app,
    eventually,
    never_http2_nor_hypercorns_websockets,
    start,
    tasks,
    with_headers,
)

ALONE = {("POST", "/count"), ("POST", "/gated"), ("POST", "/raise")}


@pytest.fixture
async def server(start: Start) -> Server:
    return await start(alone=ALONE)


def post(path: bytes, *headers: bytes) -> bytes:
    return with_headers(b"Content-Length: 3", *headers, method=b"POST", target=path)


@pytest.mark.parametrize(("pieces", "more"), [([post(b"/gated") + b"abc"], 1), ([post(b"/gated"), b"abc"], 2)])
async def test_a_request_that_has_come_whole_has_no_task_but_its_connections(
    server: Server, app: App, pieces: list[bytes], more: int
) -> None:
    before = tasks()
    peer = await server.connect()
    for piece in pieces:
        await peer.send(piece)
        await trio.testing.wait_all_tasks_blocked(0.01)
    await app.entered.wait()
    assert tasks() == before + more
    app.gate.set()
    assert (await peer.response())[2] == b"gated"


@pytest.mark.parametrize("cut", [0, 1, 10, -3, -1])
async def test_however_it_comes_it_is_answered_alike(server: Server, cut: int) -> None:
    peer = await server.connect()
    request = post(b"/count") + b"abc"
    for _ in range(2):
        for piece in (request[:cut], request[cut:]) if cut else (request,):
            await peer.send(piece)
            await trio.testing.wait_all_tasks_blocked(0.01)
        status, headers, body = await peer.response()
        assert (status, body) == (200, b"3")
        assert b"connection" not in headers


async def test_those_that_follow_one_another_unasked_are_answered_in_order(server: Server) -> None:
    peer = await server.connect()
    await peer.send(post(b"/count") + b"abc" + HELLO + post(b"/count") + b"def" + HELLO)
    assert [(await peer.response())[2] for _ in range(4)] == [b"3", b"hello", b"3", b"hello"]


async def test_a_body_in_chunks_is_taken_too(server: Server) -> None:
    peer = await server.connect()
    chunked = with_headers(b"Transfer-Encoding: chunked", method=b"POST", target=b"/count")
    await peer.send(chunked + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert (await peer.response())[2] == b"5"


async def test_an_error_in_it_ends_that_connection_only(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    peer = await server.connect()
    await peer.send(post(b"/raise") + b"abc")
    assert (await peer.response())[0] == 500
    assert await peer.rest() == b""
    assert any(record.levelno == logging.ERROR for record in caplog.records)
    assert await server.answers()


async def test_a_peer_that_has_left_meanwhile_leaves_nothing_behind(server: Server, app: App) -> None:
    before = tasks()
    peer = await server.connect()
    await peer.send(post(b"/gated") + b"abc")
    await app.entered.wait()
    await peer.stream.aclose()
    app.gate.set()
    await eventually(lambda: tasks() == before)
    assert await server.answers()


async def test_the_last_answer_of_a_door_that_closes_says_so(server: Server, app: App) -> None:
    peer = await server.connect()
    await peer.send(post(b"/gated") + b"abc")
    await app.entered.wait()
    server.door.stop()
    app.gate.set()
    status, headers, body = await peer.response()
    assert (status, headers[b"connection"], body) == (200, b"close", b"gated")
    assert await peer.rest() == b""
