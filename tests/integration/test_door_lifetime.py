"""How the door begins and ends."""
# ruff: noqa: F401, F811  (fixtures are imported by name)

import contextlib
import errno
import os
import socket
from typing import Any

import pytest
import trio
import trio.testing
from door_kit import (
    HELLO,
    PATIENCE_S,
    STREAM,
    UPGRADE,
    App,
    Server,
    Start,
    app,
    never_http2_nor_hypercorns_websockets,
    start,
    with_headers,
)

from jobctl import door, http_connection
from jobctl.door import Door, bind, check_hypercorn, listen
from jobctl.errors import StartupError

# --- the end --------------------------------------------------------------------------------------------------------


async def test_stop_lets_a_response_end_and_closes_the_rest_at_once(app: App) -> None:
    the_door = Door(app, bind("127.0.0.1", 0), stream_path=STREAM, on_upgrade=app.on_upgrade, grace=PATIENCE_S)
    server = Server(the_door, app)
    async with trio.open_nursery() as nursery:
        await nursery.start(the_door.run)
        busy, idle, fresh = [await server.connect() for _ in range(3)]
        await idle.send(HELLO)
        await idle.response()
        await busy.send(with_headers(target=b"/gated"))
        await app.entered.wait()
        the_door.stop()
        the_door.stop()
        assert await idle.rest() == b""
        assert await fresh.rest() == b""
        with pytest.raises(OSError, match=os.strerror(errno.ECONNREFUSED)):
            await server.connect()
        app.gate.set()
        _, headers, body = await busy.response()
        assert (headers[b"connection"], body) == (b"close", b"gated")
    assert app.happened[0] == "lifespan.startup"
    assert app.happened[-1] == "lifespan.shutdown"


async def test_no_stream_begins_after_stop(start: Start, app: App) -> None:
    server = await start(grace=PATIENCE_S)
    first, later = await server.connect(), await server.connect()
    for one in (first, later):
        await one.send(with_headers(target=b"/hello")[:-2])
    await later.send(b"\r\n" + UPGRADE[:-2])
    await later.response()
    await trio.testing.wait_all_tasks_blocked()
    server.door.stop()
    await trio.testing.wait_all_tasks_blocked()
    await later.send(b"\r\n")
    assert (await later.response())[0] == 503
    await first.stream.aclose()


async def test_no_stream_begins_in_the_very_tick_of_stop(start: Start, app: App) -> None:
    """The last bytes of an upgrade and ``stop`` meet in one turn of the event loop, whose tasks run in any order."""
    for _ in range(20):
        server = await start(grace=PATIENCE_S)
        peers = [await server.connect() for _ in range(4)]
        for peer in peers[:2]:
            await peer.send(HELLO)
            await peer.response()
        for peer in peers:
            await peer.send(UPGRADE[:-2])
        await trio.testing.wait_all_tasks_blocked()
        for peer in peers:
            assert isinstance(peer.stream, trio.SocketStream)
            os.write(peer.stream.socket.fileno(), b"\r\n")  # no checkpoint before stop
        server.door.stop()
        for peer in peers:
            assert (await peer.rest()).partition(b"\r\n")[0] in (b"", b"HTTP/1.1 503 ")
    assert app.upgrades == []


@pytest.mark.parametrize("what", ["a response", "a stream", "an app"])
async def test_nobody_holds_up_the_end_for_longer_than_the_grace_time(
    app: App, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "LINGER_TIMEOUT_S", 60.0)

    async def stay(_: Any) -> None:
        app.entered.set()
        await trio.sleep_forever()

    the_door = Door(app, bind("127.0.0.1", 0), stream_path=STREAM, on_upgrade=stay, grace=0.2)
    requests = {
        "a response": with_headers(target=b"/big"),
        "a stream": UPGRADE,
        "an app": with_headers(target=b"/lazy"),
    }
    async with trio.open_nursery() as nursery:
        await nursery.start(the_door.run)
        peer = await Server(the_door, app).connect(buffer=4096)
        await peer.send(requests[what])
        await app.entered.wait()
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        nursery.cancel_scope.deadline = before + 10  # every other limit of a connection is longer
        the_door.stop()
    assert not nursery.cancel_scope.cancelled_caught, "it was waited for"
    assert trio.current_time() - before >= 0.2


async def test_cancelling_the_door_closes_everything(app: App) -> None:
    the_door = Door(app, bind("127.0.0.1", 0), stream_path=STREAM, on_upgrade=app.on_upgrade)
    async with trio.open_nursery() as nursery:
        await nursery.start(the_door.run)
        peer = await Server(the_door, app).connect()
        await peer.send(UPGRADE)
        await peer.read(2)
        nursery.cancel_scope.cancel()
    assert await peer.rest() == b""
    with pytest.raises(OSError, match=os.strerror(errno.ECONNREFUSED)):
        await Server(the_door, app).connect()


# --- the beginning --------------------------------------------------------------------------------------------------


async def test_an_app_that_cannot_start_says_so(app: App) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no disk"})

    the_door = Door(broken, bind("127.0.0.1", 0), stream_path=STREAM, on_upgrade=app.on_upgrade)
    with pytest.RaisesGroup(pytest.RaisesExc(Exception, match="no disk")):
        await the_door.run()


async def test_an_app_without_a_lifespan_is_served(app: App) -> None:
    async def simple(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)

    the_door = Door(simple, bind("127.0.0.1", 0), stream_path=STREAM, on_upgrade=app.on_upgrade)
    async with trio.open_nursery() as nursery:
        await nursery.start(the_door.run)
        assert await Server(the_door, app).answers()
        the_door.stop()


def test_a_port_in_use_is_a_clear_error() -> None:
    (taken,) = bind("127.0.0.1", 0)
    with taken, pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already in use") as error:
        bind("127.0.0.1", taken.getsockname()[1])
    assert error.value.errno == errno.EADDRINUSE


def test_an_unknown_host_is_a_clear_error() -> None:
    with pytest.raises(OSError, match=r"cannot listen on no\.such\.host\.invalid:80: "):
        bind("no.such.host.invalid", 80)


def test_an_address_of_another_machine_is_a_clear_error() -> None:
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:80: Cannot assign requested address"):
        bind("192.0.2.1", 80)


@pytest.mark.parametrize(
    ("host", "port", "advice"),
    [
        ("192.0.2.1", 80, "it is no address of this machine, choose another with --host"),
        ("192.0.2.1", 0, "it is no address of this machine, choose another with --host"),
        ("no.such.host.invalid", 80, "choose another with --host"),
        ("127.0.0.1", None, "choose another with --port"),
    ],
)
def test_what_cannot_be_listened_on_comes_with_what_to_change(host: str, port: int | None, advice: str) -> None:
    with contextlib.closing(bind("127.0.0.1", 0)[0]) as taken, pytest.raises(StartupError) as error:
        listen(host, taken.getsockname()[1] if port is None else port)
    assert str(error.value).endswith(f"; {advice}")
    assert ":0:" not in str(error.value)


def test_an_address_that_this_machine_lacks_does_not_spoil_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0] for host in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    (sock,) = bind("some.name", 0)
    with sock:
        assert sock.getsockname()[0] == "127.0.0.1"


def test_all_addresses_of_a_name_share_one_port() -> None:
    with contextlib.ExitStack() as cleanup:
        sockets = [cleanup.enter_context(sock) for sock in bind("localhost", 0)]
        assert len({sock.getsockname()[1] for sock in sockets}) == 1


def test_another_hypercorn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_hypercorn()
    monkeypatch.setattr(door.importlib.metadata, "version", lambda _: "0.19.1")
    with pytest.raises(StartupError, match=r"0\.18 is needed, 0\.19\.1 is installed"):
        check_hypercorn()
