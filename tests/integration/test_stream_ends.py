"""How streams end: in time, told why, and without harm to anybody else."""

from __future__ import annotations

import contextlib
import socket as sockets
import ssl
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
import trustme
import wsproto
from wsproto import events as ws
from wsproto.connection import Connection as Parser

from jobctl.schedule import ScheduleSpec
from jobctl.stream import endpoint as endpoints
from jobctl.stream.incoming import Incoming
from tests.kit import LOOPBACK, Peer, Running, StartServer, until

# --- nothing is written after the token's end ------------------------------------------------------------------------


class Clock:
    """The stream's clock; ``leap`` brings every token of the test to its end."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def leap(self) -> None:
        self.ahead = 601.0


@pytest.fixture
def clock(server: Running) -> Clock:
    clock = Clock()
    server.service.endpoint._clock = clock
    return clock


def leaping(clock: Clock, read: Any) -> Any:
    """``read``, during which the token ends."""

    async def late(*arguments: Any, **options: Any) -> Any:
        clock.leap()
        return await read(*arguments, **options)

    return late


async def test_a_subscription_is_not_answered_once_the_token_has_ended(
    server: Running, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.enqueue(1)
    server.service.hub._ring.clear()  # so that the log is read
    async with server.peer(ttl=600) as peer:
        monkeypatch.setattr(server.store, "events", leaping(clock, server.store.events))
        await peer.say(type="subscribe_jobs", since=0, epoch=server.store.epoch)
        assert (await peer.hear())["type"] == "auth_failed"
        assert await peer.closed() == (4401, "unauthorized")


async def test_a_log_is_not_told_once_the_token_has_ended(
    server: Running, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server.peer(ttl=600) as peer:
        monkeypatch.setattr(server.store, "logs", leaping(clock, server.store.logs))
        await peer.say(type="subscribe_logs", id="01a20679-da96-7102-bc18-91759e4d80c1")
        assert (await peer.hear())["type"] == "auth_failed"


async def test_schedules_are_not_told_once_the_token_has_ended(
    server: Running, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server.peer(ttl=600) as peer:
        await peer.say(type="subscribe_jobs", stats=False, schedules=True)
        await peer.hear_until("schedules_update")
        monkeypatch.setattr(server.store.schedules, "all", leaping(clock, server.store.schedules.all))
        spec = ScheduleSpec(name="nightly", cron="@daily", timezone="UTC", job_name="noop")
        await server.store.schedules.add(spec, created_by="root", next_run=4_000_000_000_000)
        assert (await peer.hear())["type"] == "auth_failed"


async def test_renewing_a_token_over_and_over_takes_no_memory(server: Running) -> None:
    async with server.peer() as peer:
        for n in range(50):
            await peer.say(type="auth", token=server.token(ttl=800 + n))
            await peer.hear()
        server.service.endpoint.sweep()
        assert len(server.service.endpoint._deadlines) == 1


# --- the others go on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [BrokenPipeError, RuntimeError])
async def test_one_connection_that_fails_takes_nobody_along(
    server: Running, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    async with server.peer() as first, server.peer() as second:
        for peer in (first, second):
            await peer.say(type="subscribe_jobs", schedules=True)
            await peer.hear_until("schedules_update")
        victim = next(iter(server.service.endpoint.connections))
        offer = type(victim.outbox).offer

        def broken(outbox: Any, data: bytes) -> bool:
            if outbox is victim.outbox:
                raise error
            return offer(outbox, data)

        monkeypatch.setattr(type(victim.outbox), "offer", broken)
        await server.enqueue(1)
        assert (await second.hear_until("job_update"))["seq"] == 1
        await second.hear_until("job_stats_update")
        await until(lambda: victim not in server.service.endpoint.connections)


async def test_a_filter_that_fails_ends_whoever_has_it_and_they_resume_without_a_gap(server: Running) -> None:
    async with server.peer() as broken, server.peer() as whole:
        for peer, wanted in ((broken, {"names": ["noop"]}), (whole, {})):
            await peer.say(type="subscribe_jobs", stats=False, filter=wanted)
            await peer.hear_until("jobs_subscribed")
        (group,) = (each for key, each in server.service.hub._groups.items() if key.names)

        def fails(_: object) -> bool:
            raise RuntimeError("a filter is broken")

        group.matches = fails
        await server.enqueue(1)
        assert (await whole.hear())["seq"] == 1
        assert await broken.closed() == (1011, "internal")
    async with server.peer() as again:
        await again.say(type="subscribe_jobs", stats=False, since=0, epoch=server.store.epoch)
        assert (await again.hear_until("job_update"))["seq"] == 1


class Flood(threading.Thread):
    """A peer that sends the same frame over and over, signed in or not, for a few seconds or until it is stopped."""

    def __init__(self, port: int, first: bytes, frame: bytes) -> None:
        super().__init__(daemon=True)
        self.port, self.first, self.frame = port, first, frame
        self.sent, self.stop = 0, threading.Event()

    def run(self) -> None:
        until = time.monotonic() + 6
        parser = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        with contextlib.suppress(OSError), sockets.create_connection((LOOPBACK, self.port)) as sock:
            sock.sendall(parser.send(ws.Request(host=LOOPBACK, target="/api/notifications/ws")))
            sock.recv(4096)
            sock.sendall(self.first)
            while time.monotonic() < until and not self.stop.is_set():
                self.sent += sock.send(self.frame * 5000)


@pytest.mark.parametrize(
    ("first", "frame"),
    [(b"", b"\x8a\x80\1\2\3\4"), (b"\x01\x80\1\2\3\4", b"\x00\x80\1\2\3\4")],
    ids=["pongs", "empty pieces"],
)
async def test_a_peer_that_floods_does_not_hold_up_the_others(server: Running, first: bytes, frame: bytes) -> None:
    """Pongs and empty pieces of a message: nothing that is ever answered, so nothing that it would have to read."""
    async with server.peer() as other:
        flood = Flood(server.port, first, frame)
        flood.start()
        await until(lambda: flood.sent > 500_000)
        for _ in range(3):
            await other.say(type="ping")
            assert (await other.hear())["type"] == "pong"
        assert flood.is_alive()
        flood.stop.set()


def test_a_message_in_pieces_takes_no_more_memory_than_its_text() -> None:
    client, incoming = Parser(wsproto.ConnectionType.CLIENT), Incoming()
    words = ['{"type":"ping","x":"', *["€"] * 4000, *[""] * 1000]
    pieces = [client.send(ws.TextMessage(word, message_finished=False)) for word in words]
    last = client.send(ws.TextMessage('"}'))
    tracemalloc.start()
    try:
        for piece in pieces:
            assert list(incoming.events(piece)) == []
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < 64 * 1024, "an object a piece would be 330 KiB"
    assert list(incoming.events(last)) == [("".join(words) + '"}').encode()]


async def test_a_stream_that_is_agreed_on_while_the_server_stops_is_told_so(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = endpoints._send

    async def slowly(transport: Any, data: bytes) -> None:
        await send(transport, data)
        await server.service.endpoint.stop()

    monkeypatch.setattr(endpoints, "_send", slowly)
    async with server.connect() as peer:
        assert await peer.closed() == (1001, "going_away")


# --- over TLS, where only a task can write ---------------------------------------------------------------------------


@pytest.fixture
async def secure(start_server: StartServer, tmp_path: Path) -> tuple[Running, ssl.SSLContext]:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    server = await start_server(
        certfile=tmp_path / "cert.pem", keyfile=tmp_path / "key.pem", stream={"max_connections": 1}
    )
    return server, context


@contextlib.asynccontextmanager
async def tls_peer(server: Running, context: ssl.SSLContext) -> AsyncIterator[Peer]:
    tcp = await trio.open_tcp_stream(LOOPBACK, server.port)
    async with tcp, trio.open_nursery() as nursery:
        tls = trio.SSLStream(tcp, context, server_hostname="localhost")
        socket = await trio_websocket.wrap_client_stream(
            nursery, tls, f"localhost:{server.port}", "/api/notifications/ws"
        )
        yield Peer(socket)
        nursery.cancel_scope.cancel()


async def test_one_connection_too_many_is_told_so_over_tls(secure: tuple[Running, ssl.SSLContext]) -> None:
    async with tls_peer(*secure) as first:
        await first.hear()
        async with tls_peer(*secure) as second:
            assert await second.closed() == (4429, "too_many")


async def test_a_message_too_big_is_told_so_over_tls(secure: tuple[Running, ssl.SSLContext]) -> None:
    async with tls_peer(*secure) as peer:
        await peer.hear()
        await peer.say(type="auth", token="x" * 70_000)
        assert await peer.closed() == (1009, "too_big")


async def test_a_peer_that_does_not_take_its_close_is_dropped_all_the_same(
    secure: tuple[Running, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "CLOSE_TIMEOUT_S", 0.2)
    server, context = secure
    async with tls_peer(server, context) as peer:
        await peer.hear()
        (connection,) = server.service.endpoint.connections

        async def never(*_: object) -> int:
            await trio.sleep_forever()
            return 0

        monkeypatch.setattr(type(connection.transport), "send_some", never)
        await peer.say(type="auth", token="x" * 70_000)
        await until(lambda: not server.service.endpoint.connections)
