"""The door and time: slow peers."""
# ruff: noqa: F811  (fixtures are imported by name)

import contextlib

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

from jobctl import door, http_connection


async def trickle(peer: Peer) -> None:
    """Send a byte now and then until the other side has closed."""
    with trio.fail_after(PATIENCE_S), contextlib.suppress(trio.BrokenResourceError):
        while True:
            await peer.send(b"x")
            await trio.sleep(0.01)


@pytest.mark.parametrize("later", [False, True])
async def test_a_head_that_does_not_end_closes(start: Start, monkeypatch: pytest.MonkeyPatch, later: bool) -> None:
    monkeypatch.setattr(http_connection, "HEAD_TIMEOUT_S", 0.1)
    server = await start()
    peer = await server.connect()
    if later:
        await peer.send(HELLO)
        await peer.response()
    await peer.send(b"GET /hello HTTP/1.1\r\nX: ")
    await trickle(peer)
    assert await server.answers()


async def test_a_peer_that_says_nothing_is_closed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "HEAD_TIMEOUT_S", 0.05)
    assert await (await server.connect()).rest() == b""


async def test_a_body_that_stops_coming_closes(server: Server, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "BODY_TIMEOUT_S", 0.05)
    peer = await server.connect()
    await peer.send(with_headers(b"Content-Length: 10", method=b"POST", target=b"/listen") + b"abc")
    assert await peer.rest() == b""
    with trio.fail_after(PATIENCE_S):
        await app.disconnected.wait()


async def test_an_idle_connection_is_closed_after_its_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = await server.connect()
    await peer.send(HELLO)
    await peer.response()
    monkeypatch.setattr(http_connection, "HEAD_TIMEOUT_S", 0.05)  # not this one: nothing of a head has come
    monkeypatch.setattr(http_connection, "KEEP_ALIVE_TIMEOUT_S", 0.2)
    before = trio.current_time()
    await peer.send(HELLO)
    await peer.response()
    assert await peer.rest() == b""
    assert trio.current_time() - before >= 0.2


async def test_a_response_in_progress_has_no_time_limit(
    server: Server, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("HEAD_TIMEOUT_S", "KEEP_ALIVE_TIMEOUT_S", "BODY_TIMEOUT_S"):
        monkeypatch.setattr(http_connection, limit, 0.05)
    peer = await server.connect()
    await peer.send(with_headers(target=b"/gated"))
    await app.entered.wait()
    await trio.sleep(0.1)
    app.gate.set()
    assert (await peer.response())[2] == b"gated"


async def test_a_peer_that_does_not_read_is_closed(server: Server, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "STALL_TIMEOUT_S", 0.1)
    # The kernel would do the same, later.
    monkeypatch.setattr(door, "_set_user_timeout", lambda *_: None)
    before = tasks()
    peer = await server.connect(buffer=4096)
    await peer.send(with_headers(target=b"/big"))
    await app.entered.wait()
    await eventually(lambda: tasks() == before)
    with pytest.raises(EOFError):
        await peer.response()


async def test_half_a_response_is_not_followed_by_another(server: Server, app: App) -> None:
    peer = await server.connect(buffer=4096)
    await peer.send(with_headers(target=b"/impatient"))
    await app.entered.wait()
    with pytest.raises(EOFError):
        await peer.response()
