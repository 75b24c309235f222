"""The client's stream, against a scripted peer where the wire is to be wrong."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
import trio
import trio.testing
from client_kit import (  # noqa: F401
    CONNECTED,
    EPOCH,
    GREETING,
    Hung,
    Peer,
    Socket,
    an_update,
    no_jitter,
    peer,
    reading,
    seqs,
    unused_port,
)
from wsproto.events import AcceptConnection, Ping, TextMessage

from jobctl.client import Client, Resynced
from jobctl.errors import SignInFailed, Unreachable
from jobctl.model import Position
from jobctl.protocol.messages import JobUpdate
from tests.kit import LOOPBACK, until
from tests.unit.test_subscriber import job


async def test_messages_that_come_with_the_handshake_are_not_lost(peer: Peer) -> None:
    async def eager(stream: trio.SocketStream, raw: bytes) -> None:
        socket = Socket(stream)
        socket.ws.receive_data(raw)
        list(socket.ws.events())
        together = socket.ws.send(AcceptConnection()) + socket.ws.send(TextMessage(data=json.dumps(GREETING)))
        await stream.send_all(together)
        await socket.hear()
        await socket.say(CONNECTED)
        await socket.hear()
        subscribed = {"type": "jobs_subscribed", "seq": 7, "head": 7, "epoch": EPOCH, "recovered": True}
        await socket.say(subscribed, an_update(8))
        await trio.sleep_forever()

    peer._stream = eager  # type: ignore[method-assign]
    async with Client(peer.url, "tok") as client, client.watch() as updates:
        assert await seqs(updates, 1) == [8]
        assert str(updates.position) == f"{EPOCH}:8"


async def test_a_lost_connection_is_resumed_without_a_gap_or_a_repetition(peer: Peer, no_jitter: None) -> None:
    asked = []

    async def first(socket: Socket) -> None:
        asked.append(await socket.subscribed(10))
        await socket.say(an_update(11), an_update(12))

    async def second(socket: Socket) -> None:
        asked.append(await socket.subscribed(12, head=13))
        await socket.say(an_update(12), an_update(13))
        await socket.close(1001)

    async def third(socket: Socket) -> None:
        asked.append(await socket.subscribed(13))
        await socket.say(an_update(14))
        await trio.sleep_forever()

    peer.scripts = [first, second, third]
    async with Client(peer.url, "tok") as client, client.watch(queues=["q"]) as updates:
        assert await seqs(updates, 4) == [11, 12, 13, 14]
    assert [each["since"] for each in asked] == [None, 12, 13]
    assert asked[2]["filter"]["queues"] == ["q"]
    assert client.connections == 3


async def test_what_came_before_a_close_message_is_delivered(peer: Peer) -> None:
    async def script(socket: Socket) -> None:
        await socket.subscribed(10)
        await socket.close(4403, an_update(11))

    peer.scripts = [script]
    async with Client(peer.url, "tok") as client, client.watch() as updates:
        assert await seqs(updates, 1) == [11]
        with pytest.raises(Exception, match="forbidden"):
            await anext(updates)


async def test_the_token_function_is_called_again_when_the_token_expires_and_when_it_is_refused(
    peer: Peer, no_jitter: None
) -> None:
    renewed = []

    async def first(socket: Socket) -> None:
        assert (await socket.subscribed(1))["token"] == "token-1"
        await socket.say({"type": "token_expiring", "expiresAt": "t"})
        renewed.append((await socket.hear())["token"])
        await socket.close(4401, {"type": "auth_failed", "message": "no"})

    async def second(socket: Socket) -> None:
        renewed.append((await socket.subscribed(1))["token"])
        await socket.say(an_update(2))
        await trio.sleep_forever()

    peer.scripts = [first, second]
    count = 0

    async def token() -> str:
        nonlocal count
        count += 1
        return f"token-{count}"

    async with Client(peer.url, token) as client, client.watch() as updates:
        assert await seqs(updates, 1) == [2]
    assert renewed == ["token-2", "token-3"]


@pytest.mark.parametrize("renewable", [True, False])
async def test_a_token_that_stays_refused_ends_it(peer: Peer, no_jitter: None, renewable: bool) -> None:
    tokens = []

    async def script(socket: Socket) -> None:
        await socket.say(GREETING)
        tokens.append((await socket.hear())["token"])
        await socket.close(4401, {"type": "auth_failed", "message": "no"})

    peer.scripts = [script]
    async with Client(peer.url, (lambda: "fresh") if renewable else "tok") as client:
        with trio.fail_after(20), pytest.raises(SignInFailed):
            await anext(client.watch())
    assert len(tokens) == (2 if renewable else 1)


async def test_lost_updates_are_announced_with_the_present_state_and_the_stream_goes_on_from_it(peer: Peer) -> None:
    asked = []

    async def script(socket: Socket) -> None:
        await socket.subscribed(50, recovered=False)
        await socket.say(an_update(51))  # before the fetch: part of what is fetched
        asked.append(await socket.hear())
        await socket.say({"type": "jobs_subscribed", "seq": 51, "head": 53, "epoch": EPOCH, "recovered": True})
        await socket.say(an_update(52, "running"), an_update(53, "completed"))
        await trio.sleep_forever()

    def http(method: str, path: str, headers: dict[str, str]) -> Any:
        page = {"jobs": [job("a", 52, "running")], "cursor": None, "hasMore": False}
        return 200, {"x-jobctl-position": f"{EPOCH}:51"}, {"data": page}

    peer.scripts, peer.http = [script], http
    async with Client(peer.url, "tok") as client, client.watch(queues=["q"], since="old-epoch:5") as updates:
        with trio.fail_after(20):
            state = await anext(updates)
            assert isinstance(state, Resynced)
            assert [each.status for each in state.jobs] == ["running"]
            assert state.position == updates.position == Position(EPOCH, 51)
            assert updates.text is None
            update = await anext(updates)  # 52 is in the state already: its version says so
        assert isinstance(update, JobUpdate)
        assert update.seq == 53
    assert asked[0]["since"] == 51
    assert "queue=q" in peer.requests[0][1]
    assert "status=pending" in peer.requests[0][1]


@pytest.mark.parametrize(
    "answer",
    [(0, {}, {}), (502, {}, {}), (503, {}, {}), (429, {"retry-after": "900"}, {})],
    ids=["it goes away again", "a proxy says so", "it is not ready", "too many requests"],
)
async def test_a_stream_that_has_stood_is_tried_again_also_while_updates_are_lost(
    peer: Peer, no_jitter: None, answer: Any
) -> None:
    fetches = 0

    async def first(socket: Socket) -> None:
        await socket.subscribed(50)
        await socket.say(an_update(51))
        raise Hung

    async def lost(socket: Socket) -> None:
        await socket.subscribed(90, recovered=False)
        await trio.sleep_forever()

    async def again(socket: Socket) -> None:
        await socket.subscribed(90, recovered=False)
        await socket.hear()
        await socket.say({"type": "jobs_subscribed", "seq": 90, "head": 90, "epoch": EPOCH, "recovered": True})
        await socket.say(an_update(91))
        await trio.sleep_forever()

    def http(*_: Any) -> Any:
        nonlocal fetches
        fetches += 1
        if fetches == 1:
            return answer
        return 200, {"x-jobctl-position": f"{EPOCH}:90"}, {"data": {"jobs": [], "cursor": None, "hasMore": False}}

    peer.scripts, peer.http = [first, lost, again], http
    async with Client(peer.url, "tok", patience=0) as client, client.watch() as updates:
        with trio.fail_after(20):
            assert [getattr(await anext(updates), "seq", None) for _ in range(3)] == [51, None, 91]


async def test_a_stalled_server_is_noticed_by_pings_that_nobody_answers(
    peer: Peer, no_jitter: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jobctl.protocol.subscriber as subscriber_module

    monkeypatch.setattr(subscriber_module, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(subscriber_module, "DEAD_AFTER_S", 1.0)  # of the machine, a stall of a second is rare
    pings = []

    async def stalled(socket: Socket) -> None:
        await socket.subscribed(1)
        while True:
            pings.append((await socket.hear())["type"])

    async def well(socket: Socket) -> None:
        await socket.subscribed(1)
        await socket.say(an_update(2))
        while True:
            await socket.hear()
            await socket.say({"type": "pong", "seq": 40})

    peer.scripts = [stalled, well]
    async with Client(peer.url, "tok") as client, client.watch() as updates:
        assert await seqs(updates, 1) == [2]
        assert pings[:2] == ["ping", "ping"]
        async with reading(updates):
            await until(lambda: updates.position == Position(EPOCH, 40))
    assert peer.streams == 2


async def test_a_ping_of_the_server_is_answered(peer: Peer) -> None:
    sockets = []

    async def script(socket: Socket) -> None:
        sockets.append(socket)
        await socket.subscribed(1)
        await socket.stream.send_all(socket.ws.send(Ping(payload=b"x")))
        await socket.hear()

    peer.scripts = [script]
    async with Client(peer.url, "tok") as client, client.watch() as updates, reading(updates):
        await until(lambda: sockets and sockets[0].pongs == 1)


async def test_a_reader_that_is_cancelled_may_go_on_and_misses_nothing(peer: Peer) -> None:
    async def script(socket: Socket) -> None:
        await socket.subscribed(0)
        for seq in range(1, 200):
            await socket.say(an_update(seq))
            await trio.sleep(0.001)
        await trio.sleep_forever()

    peer.scripts = [script]
    found: list[int] = []
    async with Client(peer.url, "tok") as client, client.watch() as updates:
        with trio.fail_after(20):
            await updates.start()
            while len(found) < 199:
                with trio.move_on_after(0.003):
                    found.append((await anext(updates)).seq)  # type: ignore[union-attr]
    assert found == list(range(1, 200))
    assert peer.streams == 1


async def test_an_error_inside_the_client_comes_out_as_itself_and_nothing_is_left_open(peer: Peer) -> None:
    async def script(socket: Socket) -> None:
        await socket.subscribed(0)
        await socket.say(an_update(1))
        await trio.sleep_forever()

    peer.scripts = [script]
    with pytest.raises(ZeroDivisionError):
        async with Client(peer.url, "tok") as client:
            async for _ in client.watch():
                raise ZeroDivisionError
    gc.collect()  # an unclosed socket is a ResourceWarning, and that an error here


async def test_a_loop_that_is_left_closes_its_connection_at_once(peer: Peer) -> None:
    left = trio.Event()

    async def script(socket: Socket) -> None:
        await socket.subscribed(0)
        await socket.say(an_update(1))
        try:
            await socket.hear()
        except (Hung, trio.BrokenResourceError):
            left.set()

    peer.scripts = [script]
    async with Client(peer.url, "tok") as client:
        async for _ in client.watch():
            break
        with trio.fail_after(20):
            await left.wait()
        assert not client._connections, "nothing is kept of what is closed"


async def test_a_loop_that_is_left_amid_many_updates_leaves_no_task_behind(peer: Peer) -> None:
    async def script(socket: Socket) -> None:
        await socket.subscribed(0)
        await socket.say(*(an_update(seq) for seq in range(1, 301)))  # more than are read ahead
        await trio.sleep_forever()

    peer.scripts = [script]
    async with Client(peer.url, "tok") as client:
        async for _ in client.watch():
            await trio.testing.wait_all_tasks_blocked(0.01)
            break
        with trio.fail_after(2):
            while client.nursery.child_tasks:
                await trio.sleep(0.01)


async def test_a_first_connection_that_fails_is_given_up_after_the_patience(unused_port: int) -> None:
    async with Client(f"http://{LOOPBACK}:{unused_port}", "tok", patience=0) as client:
        with pytest.raises(Unreachable, match="connection refused"):
            await anext(client.watch())
        with pytest.raises(Unreachable, match="connection refused"):
            await client.stats()
