"""Peers that the network has cut off: found by the server itself, and nobody else notices."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio_websocket
import trustme

from jobctl import http_connection
from jobctl.model import NewJob
from jobctl.protocol import messages
from tests.faults.network import DROPS_PACKETS, Relay, deafen
from tests.kit import LOOPBACK, Peer, RawPeer, Running, StartServer, until

pytestmark = [pytest.mark.faults, pytest.mark.skipif(not DROPS_PACKETS, reason="packets are dropped on Linux only")]

TIMES = {"ping_interval": 0.4, "dead_after": 1.0}
"""30 and 75 s, in short. What happens within which second is shown with a clock that is moved, in tests/unit."""
PATIENCE_S = 30.0
"""The kernel sends again and again for a quarter of an hour; that is longer than this."""


async def subscribed(server: Running, port: int | None = None) -> RawPeer:
    peer = await RawPeer.open(port or server.port, server.token(), buffer=65536)
    await peer.say(messages.SubscribeJobs(stats=False))
    assert (await peer.hear())["type"] == "jobs_subscribed"
    return peer


async def keep_enqueueing(server: Running) -> None:
    while True:
        await server.store.enqueue([NewJob(name="noop", data=b'{"x":"%s"}' % (b"x" * 3000))] * 10, owner="root")
        await trio.sleep(0.02)


def deafen_the_peer(server: Running, peer: RawPeer) -> None:
    deafen(peer.stream.socket)


def deafen_the_server(server: Running, peer: RawPeer) -> None:
    (connection,) = server.service.endpoint.connections
    deafen(connection.transport._sock)


@pytest.mark.parametrize("busy", [False, True], ids=["nothing to tell", "much to tell"])
@pytest.mark.parametrize("lose", [deafen_the_peer, deafen_the_server], ids=["to the peer", "from the peer"])
async def test_a_peer_whose_packets_are_dropped_is_found(
    start_server: StartServer, lose: Callable[[Running, RawPeer], None], busy: bool
) -> None:
    """It never says goodbye: neither FIN nor RST comes."""
    server = await start_server(stream=TIMES)
    peer = await subscribed(server)
    async with peer.stream, trio.open_nursery() as nursery:
        if busy:
            nursery.start_soon(keep_enqueueing, server)
            while (await peer.hear())["seq"] < 50:
                pass
        (connection,) = server.service.endpoint.connections
        lose(server, peer)
        await until(lambda: not server.service.endpoint.connections, PATIENCE_S)
        assert connection.transport.closed
        nursery.cancel_scope.cancel()
    other = await subscribed(server)
    async with other.stream:
        (job_id,) = await server.enqueue()
        assert (await other.hear())["job"]["id"] == job_id


async def test_over_tls_such_a_peer_is_found_too(start_server: StartServer, tmp_path: Path) -> None:
    """There a task waits in the middle of a write, which closing has to end."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    server = await start_server(certfile=tmp_path / "cert.pem", keyfile=tmp_path / "key.pem", stream=TIMES)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    tasks = trio.lowlevel.current_statistics().tasks_living
    tcp = await trio.open_tcp_stream(LOOPBACK, server.port)
    async with tcp, trio.open_nursery() as nursery:
        tls = trio.SSLStream(tcp, context, server_hostname="localhost")
        web = await trio_websocket.wrap_client_stream(nursery, tls, "localhost", "/api/notifications/ws")
        peer = Peer(web)
        assert (await peer.hear())["type"] == "auth_required"
        await peer.say(type="auth", token=server.token())
        await peer.say(type="subscribe_jobs", stats=False)
        await peer.hear_until("jobs_subscribed")
        nursery.start_soon(keep_enqueueing, server)
        await peer.hear_until("job_update")
        deafen(tcp.socket)
        await until(lambda: not server.service.endpoint.connections, PATIENCE_S)
        nursery.cancel_scope.cancel()
    await until(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)


async def test_others_miss_nothing_while_many_are_cut_off(start_server: StartServer) -> None:
    server = await start_server(stream={"ping_interval": 0.5, "dead_after": 3.0})
    lost = [await subscribed(server) for _ in range(20)]
    kept = await subscribed(server)
    seen: list[int] = []

    async def read() -> None:
        while True:
            seen.append((await kept.hear())["seq"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(keep_enqueueing, server)
        for peer in lost:
            deafen(peer.stream.socket)
        await until(lambda: len(server.service.endpoint.connections) == 1, PATIENCE_S)
        seen_by_then = len(seen)
        await until(lambda: len(seen) > seen_by_then + 50)
        nursery.cancel_scope.cancel()
    assert seen == list(range(1, len(seen) + 1))
    for peer in (*lost, kept):
        await peer.stream.aclose()


async def test_a_way_that_passes_nothing_on_is_found_once_it_takes_nothing(start_server: StartServer) -> None:
    """A proxy whose own peer is gone. It confirms what it buffers, so only what it leaves untaken tells."""
    server = await start_server(stream=TIMES)
    relay = Relay(server.port)
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        peer = await subscribed(server, relay.port)
        async with peer.stream:
            nursery.start_soon(keep_enqueueing, server)
            while (await peer.hear())["seq"] < 50:
                pass
            relay.stopped = True
            await until(lambda: not server.service.endpoint.connections, PATIENCE_S)
        nursery.cancel_scope.cancel()


async def test_an_answer_that_nobody_takes_gives_its_place_back(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ``STALL_TIMEOUT_S``: what waits to be written gives up then, and so does the kernel with what it has."""
    monkeypatch.setattr(http_connection, "STALL_TIMEOUT_S", 1.0)
    server = await start_server()
    free = server.service.door._slots.value
    await server.store.enqueue([NewJob(name="noop", data=b'{"x":"%s"}' % (b"x" * 3500))] * 200, owner="root")
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with sock:
        await sock.connect((LOOPBACK, server.port))
        await sock.send(
            f"GET /api/jobs?limit=200 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\n\r\n".encode()
        )
        assert await sock.recv(100)
        assert server.service.door._slots.value == free - 1
        deafen(sock)
        await until(lambda: server.service.door._slots.value == free, PATIENCE_S)
