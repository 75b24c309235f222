"""The client for programs: against a scripted peer where the wire is to be wrong, and a real server elsewhere."""

from __future__ import annotations

import gc
import json
import os
import resource
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Pong, Request, TextMessage

from jobctl.client import Client, Resynced, api
from jobctl.client import live as live_module
from jobctl.client.address import Address
from jobctl.client.session import Session
from jobctl.errors import ApiError, InvalidInput, NotFound, SignInFailed, Unreachable, WaitTimeout
from jobctl.model import Position
from jobctl.protocol.messages import JobDeleted, JobStatsUpdate, JobUpdate
from tests.kit import LOOPBACK, Running, StartServer
from tests.unit.test_subscriber import job

EPOCH = "epoch-1"
GREETING = {"type": "auth_required"}
CONNECTED = {"type": "connected", "connectionId": "c", "timestamp": "t", "tokenExpiresAt": "t"}


class Hung(Exception):
    """The client has gone."""


class Socket:
    """The server's end of one scripted stream connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.ws = WSConnection(ConnectionType.SERVER)
        self.heard: list[dict[str, Any]] = []
        self.pongs = 0

    async def say(self, *messages: dict[str, Any]) -> None:
        data = b"".join(self.ws.send(TextMessage(data=json.dumps(message))) for message in messages)
        await self.stream.send_all(data)

    async def hear(self) -> dict[str, Any]:
        while not self.heard:
            data = await self.stream.receive_some()
            if not data:
                raise Hung
            self.ws.receive_data(bytes(data))
            for event in self.ws.events():
                if isinstance(event, TextMessage):
                    self.heard.append(json.loads(event.data))
                elif isinstance(event, Pong):
                    self.pongs += 1
                elif isinstance(event, CloseConnection):
                    raise Hung
        return self.heard.pop(0)

    async def close(self, code: int, *messages: dict[str, Any]) -> None:
        data = b"".join(self.ws.send(TextMessage(data=json.dumps(message))) for message in messages)
        await self.stream.send_all(data + self.ws.send(CloseConnection(code=code)))
        await self.stream.send_eof()

    async def subscribed(self, seq: int = 0, *, head: int | None = None, recovered: bool = True) -> dict[str, Any]:
        """Greet, sign in, subscribe; returns what the client asked for (and with which token)."""
        await self.say(GREETING)
        signed = await self.hear()
        await self.say(CONNECTED)
        asked = await self.hear()
        fields = {"seq": seq, "head": head or seq, "epoch": EPOCH, "recovered": recovered}
        await self.say({"type": "jobs_subscribed", **fields})
        return {**asked, "token": signed["token"]}


Script = Callable[[Socket], Awaitable[None]]
Http = Callable[[str, str, dict[str, str]], tuple[int, dict[str, str], Any]]


class Peer:
    """A server that follows a script a stream connection, and answers HTTP from a function."""

    def __init__(self, port: int) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self.scripts: list[Script] = []
        self.http: Http = lambda *_: (404, {}, {})
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.streams = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            async with stream:
                while await self._request(stream):
                    pass
        except (Hung, trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _request(self, stream: trio.SocketStream) -> bool:
        raw = b""
        while b"\r\n\r\n" not in raw:
            chunk = await stream.receive_some()
            if not chunk:
                return False
            raw += chunk
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        if headers.get("upgrade", "").lower() == "websocket":
            await self._stream(stream, raw)
            return False
        while len(body) < int(headers.get("content-length", 0)):
            body += await stream.receive_some()
        self.requests.append((method, path, headers))
        status, more, data = self.http(method, path, headers)
        if status == 0:  # hang up instead of an answer
            return False
        content = json.dumps(data).encode()
        fields = {"content-length": str(len(content)), **more}
        text = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await stream.send_all(f"HTTP/1.1 {status} X\r\n{text}\r\n".encode() + content)
        return True

    async def _stream(self, stream: trio.SocketStream, raw: bytes) -> None:
        script = self.scripts[min(self.streams, len(self.scripts) - 1)]
        self.streams += 1
        socket = Socket(stream)
        socket.ws.receive_data(raw)
        assert any(isinstance(event, Request) for event in socket.ws.events())
        await stream.send_all(socket.ws.send(AcceptConnection()))
        await script(socket)


@pytest.fixture
async def peer(nursery: trio.Nursery) -> AsyncIterator[Peer]:
    listeners = await trio.open_tcp_listeners(0, host=LOOPBACK)
    made = Peer(listeners[0].socket.getsockname()[1])
    nursery.start_soon(trio.serve_listeners, made.serve, listeners)
    yield made
    nursery.cancel_scope.cancel()


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect at once."""
    monkeypatch.setattr(live_module.random, "random", lambda: 0.0)


def an_update(seq: int, status: str = "pending", job_id: str = "a") -> dict[str, Any]:
    return {"type": "job_update", "job": job(job_id, seq, status), "seq": seq, "timestamp": "t"}


async def seqs(updates: Any, count: int) -> list[int]:
    found = []
    with trio.fail_after(5):
        while len(found) < count:
            found.append((await anext(updates)).seq)
    return found


# --- the wire goes wrong ---------------------------------------------------------------------------------------


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
        with trio.fail_after(5), pytest.raises(SignInFailed):
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
        with trio.fail_after(5):
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
        with trio.fail_after(5):
            assert [getattr(await anext(updates), "seq", None) for _ in range(3)] == [51, None, 91]


async def test_a_stalled_server_is_noticed_by_pings_that_nobody_answers(
    peer: Peer, no_jitter: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jobctl.protocol.subscriber as subscriber_module

    monkeypatch.setattr(subscriber_module, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(subscriber_module, "DEAD_AFTER_S", 0.15)
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
        with trio.move_on_after(0.4):
            await anext(updates)
        assert updates.position == Position(EPOCH, 40)
    assert peer.streams == 2


async def test_a_ping_of_the_server_is_answered(peer: Peer) -> None:
    sockets = []

    async def script(socket: Socket) -> None:
        sockets.append(socket)
        await socket.subscribed(1)
        await socket.stream.send_all(socket.ws.send(Ping(payload=b"x")))
        await socket.hear()

    peer.scripts = [script]
    async with Client(peer.url, "tok") as client, client.watch() as updates:
        with trio.move_on_after(0.3):
            await anext(updates)
    assert sockets[0].pongs == 1


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
        with trio.fail_after(5):
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


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


# --- requests --------------------------------------------------------------------------------------------------


def flaky(times: int, then: Any) -> Http:
    """Hangs up so many times, then answers."""
    left = [times]

    def http(method: str, path: str, headers: dict[str, str]) -> Any:
        if left[0]:
            left[0] -= 1
            return 0, {}, None
        return 200, {}, {"data": then}

    return http


async def test_an_enqueue_whose_connection_fails_is_sent_again_with_the_same_key(peer: Peer) -> None:
    peer.http = flaky(2, job("a"))
    async with Client(peer.url, "tok") as client:
        assert (await client.enqueue("n", {"x": 1})).id == "a"
    keys = {headers["idempotency-key"] for _, _, headers in peer.requests}
    assert len(peer.requests) == 3
    assert len(keys) == 1


@pytest.mark.parametrize("status", [502, 504])
async def test_a_proxy_whose_server_is_away_counts_as_no_answer(peer: Peer, status: int) -> None:
    answers = [(status, {}, "<html>"), (200, {}, {"data": job("a")})]
    peer.http = lambda *_: answers.pop(0)
    async with Client(peer.url, "tok") as client:
        assert (await client.enqueue("n")).id == "a"
        answers = [(status, {}, "<html>")]
        with pytest.raises(Unreachable, match=f"a proxy before the server answers {status}"):
            await client.cancel("a")


async def test_what_may_not_be_repeated_is_sent_once(peer: Peer) -> None:
    peer.http = flaky(1, job("a"))
    async with Client(peer.url, "tok") as client:
        with pytest.raises(Unreachable):
            await client.cancel("a")
    assert len(peer.requests) == 1


async def test_a_busy_server_is_asked_again_when_it_says(peer: Peer) -> None:
    answers = [(429, {"retry-after": "0"}, {"code": "rate_limited"}), (503, {}, {}), (200, {}, {"data": job("a")})]
    peer.http = lambda *_: answers.pop(0)
    async with Client(peer.url, "tok") as client:
        assert (await client.retry("a")).id == "a"


async def test_a_retry_after_beyond_patience_is_reported_at_once(peer: Peer) -> None:
    peer.http = lambda *_: (429, {"retry-after": "600"}, {"code": "rate_limited", "detail": "slow down"})
    async with Client(peer.url, "tok", patience=10_000) as client:
        with trio.fail_after(2), pytest.raises(ApiError, match="slow down"):
            await client.stats()


@pytest.mark.parametrize("sync", [False, True])
async def test_a_refused_token_is_asked_for_once_more(peer: Peer, sync: bool) -> None:
    tokens = iter(["old", "new"])

    def http(method: str, path: str, headers: dict[str, str]) -> Any:
        ok = headers["authorization"] == "Bearer new"
        return (200, {}, {"data": {"total": 3}}) if ok else (401, {}, {"code": "unauthorized"})

    peer.http = http
    if sync:
        with Session(Address.parse(peer.url), lambda: next(tokens)) as session:
            assert (await trio.to_thread.run_sync(session.get, api.stats())).total == 3
        return
    async with Client(peer.url, lambda: next(tokens)) as client:
        assert (await client.stats()).total == 3


async def test_the_blocking_session_retries_alike_and_keeps_its_connection(peer: Peer) -> None:
    peer.http = lambda *_: (200, {}, {"data": job("a")})
    slept: list[float] = []
    with Session(Address.parse(peer.url), lambda: "tok", sleep=slept.append) as session:
        for _ in range(2):
            await trio.to_thread.run_sync(session.get, api.get_job("a"))
        peer.http = flaky(2, job("a"))
        await trio.to_thread.run_sync(session.get, api.enqueue(api.job_fields("n")))
        peer.http = flaky(1, job("a"))
        with pytest.raises(Unreachable):
            await trio.to_thread.run_sync(session.get, api.cancel("a"))
    assert len(slept) == 2


async def test_the_blocking_session_works_in_a_program_with_many_open_files(peer: Peer) -> None:
    room, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if room < 1100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1100, most))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1030)]
    peer.http = lambda *_: (200, {}, {"data": job("a")})
    try:
        with Session(Address.parse(peer.url), lambda: "tok") as session:
            for _ in range(2):  # the second time on the connection that was kept
                await trio.to_thread.run_sync(session.get, api.get_job("a"))
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (room, most))


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, "<html>", "not one of a jobctl server"),
        (200, {"x": 1}, "not one of a jobctl server"),
        (200, {"data": {"id": 5}}, "another shape"),
        (302, {}, "redirects"),
        (500, "oops", "HTTP 500"),
    ],
)
async def test_an_answer_of_something_else_is_said_so(peer: Peer, status: int, body: Any, said: str) -> None:
    peer.http = lambda *_: (status, {}, body)
    async with Client(peer.url, "tok") as client:
        with pytest.raises(Exception, match=said):
            await client.get("a")


def test_an_option_that_does_not_exist_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidInput, match="prioritaet"):
        api.job_fields("n", prioritaet=1)
    with pytest.raises(InvalidInput):
        api.encode({"x": object()})
    with pytest.raises(InvalidInput, match=r"data\.means\[1\] is NaN"):
        api.enqueue(api.job_fields("n", {"means": [1.0, float("nan")]}))


# --- a real server ---------------------------------------------------------------------------------------------


def connect(server: Running, subject: str = "root", role: str = "admin", **options: Any) -> Client:
    return Client(server.service.url, lambda: server.token(subject, role), **options)


@asynccontextmanager
async def both(server: Running) -> AsyncIterator[Client]:
    async with connect(server) as client:
        yield client


async def test_every_operation_reaches_the_server(server: Running) -> None:
    async with both(server) as client:
        made = await client.enqueue("noop", {"x": 1}, queue="q", tags=["t"], priority=3, delay=60, unique_key="u")
        again = await client.enqueue("noop", {"x": 2}, queue="q", unique_key="u")
        assert again.id == made.id
        assert (made.queue, made.tags, made.priority, made.data) == ("q", ("t",), 3, {"x": 1})
        batch = await client.enqueue_batch([{"name": "noop"}, {"name": "noop", "data": {"y": 1}, "max_attempts": 1}])
        assert batch.created == 2
        assert (await client.get(batch.ids[1])).max_attempts == 1
        page = await client.list(queues=["q", "nope"], statuses=["pending"], tags=["t"], limit=1)
        assert [each.id for each in page.jobs] == [made.id]
        assert (await client.stats()).by_queue["q"].pending == 1
        assert {each.name for each in await client.queues()} >= {"default", "q"}
        await client.pause("q")
        assert (await client.stats()).by_queue["q"].paused
        await client.resume("q")
        assert (await client.cancel(made.id)).status == "cancelled"
        assert (await client.retry(made.id)).status == "pending"
        assert await client.logs(made.id) == ()
        assert isinstance(await client.handlers(), dict | list)
        await client.delete(made.id)
        with pytest.raises(ApiError) as caught:
            await client.get(made.id)
        assert (caught.value.status, caught.value.problem_code) == (404, "not_found")


async def test_updates_deletions_and_counts_arrive_as_they_happen(server: Running) -> None:
    async with both(server) as client, client.watch(queues=["q"], stats=True) as updates:
        await updates.start()
        assert updates.live
        made = await client.enqueue("noop", queue="q")
        await client.enqueue("noop", queue="other")
        await client.cancel(made.id)
        await client.delete(made.id)
        found: list[Any] = []
        with trio.fail_after(5):
            while len([each for each in found if not isinstance(each, JobStatsUpdate)]) < 3:
                found.append(await anext(updates))
                assert json.loads(updates.text or "")["type"]
        kinds = [type(each) for each in found if not isinstance(each, JobStatsUpdate)]
        assert kinds == [JobUpdate, JobUpdate, JobDeleted]
        assert any(isinstance(each, JobStatsUpdate) for each in found)


async def test_a_watch_resumes_where_another_left_off(server: Running) -> None:
    async with both(server) as client:
        async with client.watch() as updates:
            await updates.start()
            first = await client.enqueue("noop")
            assert (await anext(updates)).job.id == first.id  # type: ignore[union-attr]
            place = str(updates.position)
        ids = [(await client.enqueue("noop")).id for _ in range(3)]
        async with client.watch(since=place) as updates:
            with trio.fail_after(5):
                assert [(await anext(updates)).job.id for _ in ids] == ids  # type: ignore[union-attr]


async def test_the_server_restarts_and_the_watch_goes_on(
    start_server: StartServer, unused_port: int, no_jitter: None
) -> None:
    server = await start_server(port=unused_port)
    async with both(server) as client, client.watch() as updates:
        await updates.start()
        await client.enqueue("noop")
        assert (await seqs(updates, 1)) == [1]
        server.service.stop()
        with trio.move_on_after(1):
            await anext(updates)
        assert not updates.live
        assert updates.reason
        server = await start_server(port=unused_port)
        await client.enqueue("noop")
        assert (await seqs(updates, 1)) == [2]


async def test_wait_returns_the_final_jobs_in_order_whole(start_server: StartServer) -> None:
    from jobctl.engine.registry import Registry

    registry = Registry(accept_unknown=True)

    @registry.job("work")
    async def work(ctx: Any, n: int) -> str:
        await trio.sleep(0.02 * n)
        if n == 2:
            raise ValueError("two")
        return "x" * 10_000

    server = await start_server(registry)
    async with both(server) as client:
        ids = [(await client.enqueue("work", {"n": n}, max_attempts=1)).id for n in (3, 2, 0)]
        jobs = await client.wait(ids, timeout=10)
        assert [each.id for each in jobs] == ids
        assert [each.status for each in jobs] == ["completed", "failed", "completed"]
        assert jobs[0].result == "x" * 10_000
        assert await client.wait(ids, timeout=10) == jobs  # they have ended already
        assert await client.wait([]) == ()


async def test_wait_times_out(server: Running) -> None:
    async with both(server) as client:
        made = await client.enqueue("noop")
        with pytest.raises(WaitTimeout):
            await client.wait([made.id], timeout=0.1)


async def test_wait_tells_of_what_does_not_exist_or_goes(server: Running, nursery: trio.Nursery) -> None:
    async with both(server) as client:
        with pytest.raises(NotFound):
            await client.wait(["01890000-0000-7000-8000-000000000000"], timeout=1)
        made = await client.enqueue("noop")

        async def delete() -> None:
            await trio.sleep(0.1)
            await server.store.delete(made.id, owner=None)

        nursery.start_soon(delete)
        with pytest.raises(NotFound, match=made.id):
            await client.wait([made.id], timeout=5)


async def test_lost_updates_of_a_real_server_are_resynced(server: Running) -> None:
    async with both(server) as client:
        made = await client.enqueue("noop", queue="q")
        async with client.watch(queues=["q"], since="another-epoch:1") as updates:
            with trio.fail_after(5):
                state = await anext(updates)
                assert isinstance(state, Resynced)
                assert [each.id for each in state.jobs] == [made.id]
                await client.cancel(made.id)
                assert (await anext(updates)).job.status == "cancelled"  # type: ignore[union-attr]
        async with client.watch(ids=[made.id, "01890000-0000-7000-8000-000000000000"], since="x:1") as updates:
            state = await anext(updates)
            assert isinstance(state, Resynced)
            assert len(state.missing) == 1


async def test_a_user_follows_only_what_it_created(server: Running) -> None:
    async with connect(server, "ann", "user") as ann, both(server) as root, ann.watch(mine=True) as updates:
        await updates.start()
        await root.enqueue("noop")
        made = await ann.enqueue("noop")
        with trio.fail_after(5):
            assert (await anext(updates)).job.id == made.id  # type: ignore[union-attr]
        with pytest.raises(ApiError) as caught:
            await ann.pause("default")
        assert caught.value.status == 403


async def test_a_stream_outlives_its_tokens(start_server: StartServer) -> None:
    server = await start_server()
    given: list[float] = []

    def token() -> str:
        given.append(time.time())
        return server.token(ttl=1.5)  # expiring is told 60 s ahead: at once

    async with Client(server.service.url, token) as client, client.watch() as updates:
        await updates.start()
        with trio.move_on_after(1.7):
            await anext(updates)
        made = await client.enqueue("noop")
        with trio.fail_after(5):
            assert (await anext(updates)).job.id == made.id  # type: ignore[union-attr]
    assert len(given) >= 2


async def test_it_speaks_tls(start_server: StartServer, tmp_path: Any) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    chain, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    certificate.private_key_pem.write_to_path(key)
    server = await start_server(certfile=chain, keyfile=key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    url = f"https://localhost:{server.port}"
    async with Client(url, server.token(), tls=context) as client, client.watch() as updates:
        await updates.start()
        made = await client.enqueue("noop")
        assert (await anext(updates)).job.id == made.id  # type: ignore[union-attr]
    async with Client(url, server.token(), patience=0) as stranger:
        with pytest.raises(Unreachable):
            await stranger.stats()
        with pytest.raises(Unreachable):
            await anext(stranger.watch())


async def test_a_thousand_updates_arrive_in_order_through_reconnects(server: Running, no_jitter: None) -> None:
    async with both(server) as client, client.watch() as updates:
        await updates.start()
        found: list[int] = []
        await server.enqueue(1000)
        with trio.fail_after(20):
            while len(found) < 1000:
                found.append((await anext(updates)).seq)  # type: ignore[union-attr]
                if len(found) % 250 == 0 and updates._connection is not None:
                    updates._connection.abandon()
        assert found == list(range(1, 1001))
        assert client.connections >= 3


