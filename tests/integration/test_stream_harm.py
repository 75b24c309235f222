"""What goes wrong beside the stream, or in one of its connections, is not the others' affair; and it works over TLS."""


from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio
import trio_websocket
import trustme
from stream_kit import numbers

from jobctl.stream import hub
from tests.kit import LOOPBACK, Peer, Running, StartServer


async def test_the_queue_goes_on_when_the_stream_fails(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("the stream is broken")

    caplog.set_level("DEBUG", logger="jobctl.stream")
    monkeypatch.setattr(server.service.hub, "flush", broken)
    ids = await server.enqueue(3)
    await server.hold()
    assert (await server.store.job(ids[0], owner=None)).value.status == "pending"
    assert {record.levelname for record in caplog.records if "stream failed" in record.message} == {"ERROR"}


async def test_a_reader_misses_nothing_of_a_flush_that_failed(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server.peer() as peer:
        await peer.say(type="subscribe_jobs")
        await peer.hear_until("job_stats_update")
        await server.enqueue(2)
        assert await numbers(peer, 2) == [1, 2]
        with monkeypatch.context() as patch:
            patch.setattr(hub, "Entry", lambda _: 1 / 0)
            await server.enqueue(2)
        await server.enqueue(2)
        assert await numbers(peer, 6) == [3, 4, 5, 6]
        while (await peer.hear_until("job_stats_update"))["stats"]["pending"] != 6:
            pass


async def test_one_connection_that_fails_does_not_cut_the_others_off(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server.peer() as first, server.peer() as second:
        for peer in (first, second):
            await peer.say(type="subscribe_jobs", stats=False)
            await peer.hear()
        victim = next(iter(server.service.endpoint.connections))

        def broken(_: bytes) -> int:
            raise BrokenPipeError

        monkeypatch.setattr(type(victim.transport), "try_send", lambda self, data: (
            broken(data) if self is victim.transport else self._raw.send(data)
        ))
        await server.enqueue(1)
        assert (await second.hear())["seq"] == 1


async def test_the_stream_works_over_tls_also_for_a_reader_that_stalls(
    start_server: StartServer, tmp_path: Path
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    server = await start_server(certfile=tmp_path / "cert.pem", keyfile=tmp_path / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    tcp = await trio.open_tcp_stream(LOOPBACK, server.port)
    async with tcp, trio.open_nursery() as nursery:
        tls = trio.SSLStream(tcp, context, server_hostname="localhost")
        socket = await trio_websocket.wrap_client_stream(
            nursery, tls, f"localhost:{server.port}", "/api/notifications/ws"
        )
        peer = Peer(socket)
        await peer.hear()
        await peer.say(type="auth", token=server.token())
        await peer.say(type="subscribe_jobs", stats=False)
        await peer.hear_until("jobs_subscribed")
        for _ in range(30):
            await server.enqueue(200, data=b'{"filler":"%s"}' % (b"x" * 2000))
        (connection,) = server.service.endpoint.connections
        assert connection.outbox.pending
        assert await numbers(peer, 6000) == list(range(1, 6001))
        nursery.cancel_scope.cancel()
