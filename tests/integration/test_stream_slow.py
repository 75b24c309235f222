"""Readers that are slow, stalled, half gone or gone: they cost little, miss nothing, and harm nobody."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
import trio
import wsproto
from wsproto import events as ws

from jobctl.model import NewJob
from jobctl.protocol import messages
from jobctl.stream import frames
from tests.kit import ClosedError, RawPeer, Running, StartServer, until

BIG = b'{"filler":"%s"}' % (b"x" * 3000)


async def raw_peer(server: Running, *, buffer: int = 4096, ttl: float = 900) -> RawPeer:
    return await RawPeer.open(server.port, server.token(ttl=ttl), buffer=buffer)


async def flood(server: Running, n: int, batch: int = 100) -> None:
    for _ in range(n // batch):
        await server.store.enqueue([NewJob(name="noop", data=BIG) for _ in range(batch)], owner="root")


async def test_a_reader_that_stalls_past_its_outbox_gets_every_number_once_on_the_same_connection(
    server: Running,
) -> None:
    peer = await raw_peer(server)
    async with peer.stream:
        await peer.say(messages.SubscribeJobs(stats=False))
        assert (await peer.hear())["type"] == "jobs_subscribed"
        await flood(server, 6000)  # some 20 MB: beyond the kernel's buffers, the outbox and the ring
        (connection,) = server.service.endpoint.connections
        assert connection.subscription is not None
        assert not connection.subscription.live
        assert connection.outbox.pending <= connection.outbox.limit
        seen = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood, server, 500)  # more comes while it catches up
            while not seen or seen[-1] < 6500:
                seen.append((await peer.hear())["seq"])
        assert seen == list(range(1, 6501))
        await until(lambda: connection.subscription is not None and connection.subscription.live)
        await server.enqueue(1)
        assert (await peer.hear())["seq"] == 6501


async def test_a_stalled_reader_does_not_hold_up_the_others_or_the_queue(server: Running) -> None:
    stalled = await raw_peer(server)
    quick = await raw_peer(server, buffer=1 << 20)
    async with stalled.stream, quick.stream:
        for peer in (stalled, quick):
            await peer.say(messages.SubscribeJobs(stats=False))
            await peer.hear()
        seen: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood, server, 1000)
            while len(seen) < 1000:
                seen.append((await quick.hear())["seq"])
        assert seen == list(range(1, 1001))
        assert (await server.store.stats(owner=None)).value.pending == 1000


async def test_a_filtered_reader_that_stalls_gets_exactly_what_matches(server: Running) -> None:
    from jobctl.model import JobFilter

    peer = await raw_peer(server)
    async with peer.stream:
        await peer.say(messages.SubscribeJobs(stats=False, filter=JobFilter(queues=("odd",))))
        await peer.hear()
        jobs = [NewJob(name="noop", data=BIG, queue="odd" if n % 2 else "even") for n in range(1, 101)]
        for _ in range(60):
            await server.store.enqueue(jobs, owner="root")
        seen = [(await peer.hear())["seq"] for _ in range(3000)]
        assert seen == list(range(1, 6001, 2))
        await peer.say(messages.Ping())
        assert await peer.hear() == {"type": "pong", "seq": 6000}


async def test_with_conflate_a_slow_reader_gets_the_latest_state_and_every_terminal_one(server: Running) -> None:
    (job_id,) = await server.hold()
    async with trio.open_nursery() as nursery:  # together, so that they share commits
        for n in range(3000):
            nursery.start_soon(server.store.progress, job_id, 1, n / 3000, "x" * 100)
    await server.store.cancel(job_id, owner=None)
    others = await server.enqueue(200)
    for change in (server.store.cancel, server.store.retry):  # the end in between must still be told
        async with trio.open_nursery() as nursery:
            for other in others:
                nursery.start_soon(partial(change, other, owner=None))
    head = (await server.store.events(0, limit=1)).head
    assert head >= 3000 + 3 * len(others)
    peer = await raw_peer(server)
    async with peer.stream:
        await peer.say(
            messages.SubscribeJobs(stats=False, conflate=True, since=0, epoch=server.store.epoch)
        )
        await peer.hear()
        updates = []
        while not updates or updates[-1]["seq"] < head:
            updates.append(await peer.hear())
    numbers = [update["seq"] for update in updates]
    assert numbers == sorted(set(numbers))
    assert len(updates) < 800
    ended = {update["job"]["id"] for update in updates if update["job"]["status"] == "cancelled"}
    assert ended == set(others)
    assert [u["job"]["cancelRequested"] for u in updates if u["job"]["id"] == job_id][-1] is True


async def test_a_reader_whose_place_in_the_log_was_pruned_is_told_to_resync(server: Running) -> None:
    peer = await raw_peer(server)
    async with peer.stream:
        await peer.say(messages.SubscribeJobs(stats=False))
        await peer.hear()
        await flood(server, 6000)

        def prune(tx: Any) -> None:
            tx.state.connection.execute("DELETE FROM job_event WHERE seq <= 5900")

        await server.store.committer.submit(prune)  # type: ignore[attr-defined]
        seen: list[int] = []
        while (message := await peer.hear())["type"] != "resync":
            seen.append(message["seq"])
        assert seen == list(range(1, len(seen) + 1))
        assert message == {"type": "resync", "seq": 6000, "epoch": server.store.epoch}
        await server.enqueue(1)
        assert (await peer.hear())["seq"] == 6001


async def test_a_position_that_was_pruned_is_not_recovered(server: Running) -> None:
    await flood(server, 6000)

    def prune(tx: Any) -> None:
        tx.state.connection.execute("DELETE FROM job_event WHERE seq <= 100")

    await server.store.committer.submit(prune)  # type: ignore[attr-defined]
    for since, recovered in ((99, False), (100, True)):
        async with server.peer() as peer:
            await peer.say(type="subscribe_jobs", since=since, epoch=server.store.epoch, stats=False)
            assert (await peer.hear())["recovered"] is recovered


async def test_what_waits_is_discarded_when_the_token_ends_and_a_torn_frame_aborts(server: Running) -> None:
    offset = 0.0
    clock = lambda: time.time() + offset
    server.service.endpoint._clock = clock
    peer = await raw_peer(server, ttl=600)
    async with peer.stream:
        await peer.say(messages.SubscribeJobs(stats=False))
        await peer.hear()
        await flood(server, 1000)
        (connection,) = server.service.endpoint.connections
        assert connection.outbox.pending
        assert connection.outbox.torn
        offset = 601.0
        server.service.endpoint.sweep()
        assert connection.transport.closed
        seen = []
        with pytest.raises((ClosedError, trio.BrokenResourceError)):
            while True:
                seen.append((await peer.hear())["seq"])
        assert seen == list(range(1, len(seen) + 1))
        assert len(seen) < 1000


async def test_a_peer_that_neither_sends_nor_takes_is_gone_after_the_dead_time(start_server: StartServer) -> None:
    server = await start_server(stream={"ping_interval": 0.1, "dead_after": 0.6})
    peer = await raw_peer(server)
    async with peer.stream:
        await peer.say(messages.SubscribeJobs(stats=False))
        await peer.hear()
        await flood(server, 500)
        await until(lambda: not server.service.endpoint.connections)


async def test_a_peer_that_reads_slowly_but_steadily_is_kept_and_misses_nothing(start_server: StartServer) -> None:
    server = await start_server(stream={"ping_interval": 0.1, "dead_after": 1.5})
    peer = await raw_peer(server)
    async with peer.stream:
        await peer.say(messages.SubscribeJobs(stats=False))
        await peer.hear()
        await flood(server, 1000)
        seen = []
        began = trio.current_time()
        while not seen or seen[-1] < 1000:
            seen.append((await peer.hear())["seq"])
            if trio.current_time() - began < 4:
                await trio.sleep(0.04)
        assert seen == list(range(1, 1001))


async def test_an_idle_peer_that_answers_pings_is_kept(start_server: StartServer) -> None:
    server = await start_server(stream={"ping_interval": 0.1, "dead_after": 1.2})
    async with server.peer() as peer:
        with trio.move_on_after(2.5):
            await peer.hear()
        await peer.say(type="ping")
        assert (await peer.hear())["type"] == "pong"


async def test_a_peer_that_asks_without_ever_reading_is_closed(server: Running) -> None:
    peer = await raw_peer(server)
    async with peer.stream:
        ping = peer.parser.send(ws.TextMessage('{"type":"ping"}'))
        with trio.move_on_after(20), pytest.raises(trio.BrokenResourceError):
            while True:
                await peer.stream.send_all(ping * 500)
        await until(lambda: not server.service.endpoint.connections)


async def test_a_torn_frame_is_never_followed_by_another(server: Running) -> None:
    """Control answers wait behind what is half written."""
    peer = await raw_peer(server)
    async with peer.stream:
        await peer.say(messages.SubscribeJobs(stats=False))
        await peer.hear()
        await flood(server, 300)
        for _ in range(5):
            await peer.say(messages.Ping())
        seen, pongs = [], 0
        while pongs < 5 or seen[-1] < 300:
            message = await peer.hear()
            if message["type"] == "pong":
                pongs += 1
                assert message["seq"] == (seen[-1] if seen else 0) or message["seq"] <= 300
            else:
                seen.append(message["seq"])
        assert seen == list(range(1, 301))


async def test_a_pong_never_claims_more_than_was_sent_before_it(server: Running) -> None:
    peer = await raw_peer(server)
    async with peer.stream:
        await peer.say(messages.SubscribeJobs(stats=False))
        await peer.hear()
        await flood(server, 2000)
        seen = [0]
        for _ in range(50):
            await peer.say(messages.Ping())
            while (message := await peer.hear())["type"] != "pong":
                seen.append(message["seq"])
            assert message["seq"] <= seen[-1]
        while seen[-1] < 2000:
            if (message := await peer.hear())["type"] == "job_update":
                seen.append(message["seq"])
        assert seen == list(range(2001))


def test_frames_have_the_length_forms_of_rfc_6455() -> None:
    for size in (0, 125, 126, 65535, 65536, 300_000):
        parser = wsproto.connection.Connection(wsproto.ConnectionType.CLIENT)
        parser.receive_data(frames.text(b"a" * size))
        text = "".join(str(event.data) for event in parser.events() if isinstance(event, ws.TextMessage))
        assert text == "a" * size
