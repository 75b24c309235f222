"""Too much of everything: what one peer takes is bounded, is given back, and is not what the others needed."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from jobctl.model import Identity, JobFilter
from jobctl.stream.filters import key_of
from jobctl.web.ratelimit import MAX_KEYS, RateLimiter
from tests.abuse.target import PING, UPGRADE, Http, Target, Wire, frame
from tests.kit import Running, StartServer, until

pytestmark = pytest.mark.slow

MIB = 1024 * 1024


# --- addresses -----------------------------------------------------------------------------------------------------


def test_a_million_addresses_take_no_more_memory_than_a_hundred_thousand() -> None:
    limiter = RateLimiter(100, 900.0)
    for n in range(1_000_000):
        limiter.hit(f"address {n}", n / 1e6)
    assert len(limiter) == MAX_KEYS
    for n in range(MAX_KEYS):
        limiter.hit("one", 2000.0 + n)
    assert len(limiter) == 1, "and memory goes back when they have left"


def connect(target: Target, forwarded: str = "") -> Wire:
    """A connection that says nothing."""
    head = f"X-Forwarded-For: {forwarded}\r\n" if forwarded else ""
    wire = Wire(target)
    wire.send(UPGRADE.replace(b"Host: x\r\n", f"Host: x\r\n{head}".encode()))
    assert (wire.until(b"\r\n\r\n") or b"").startswith(b"HTTP/1.1 101 ")
    return wire


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server behind a proxy that it trusts, with few places for those who have not signed in."""
    config = 'trusted_proxies = ["127.0.0.0/8"]\n[stream]\nmax_waiting_per_address = 3\nmax_connections = 20\n'
    with Target.started(tmp_path_factory.mktemp("narrow"), config=config) as running:
        yield running


def test_one_address_cannot_take_every_place_without_a_token(narrow: Target) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(narrow, "198.51.100.7")) for _ in range(3)]
        assert [each.heard() for each in silent] == ["auth_required"] * 3
        assert stack.enter_context(connect(narrow, "198.51.100.7")).heard() == 4429
        assert stack.enter_context(connect(narrow, "6.6.6.6, 198.51.100.7")).heard() == 4429, "made up"
        other = stack.enter_context(connect(narrow, "198.51.100.8"))
        assert other.heard() == "auth_required", "others have places of their own"
        silent[0].say(type="auth", token=narrow.token())
        assert silent[0].heard() == "connected"
        again = stack.enter_context(connect(narrow, "198.51.100.7"))
        assert again.heard() == "auth_required", "who signs in makes room"
        assert stack.enter_context(connect(narrow, "198.51.100.7")).heard() == 4429
        silent[1].close()

        deadline = time.monotonic() + 10
        while stack.enter_context(connect(narrow, "198.51.100.7")).heard() != "auth_required":
            assert time.monotonic() < deadline, "who leaves makes room too"


def test_an_ipv6_client_is_one_address_however_many_it_has(narrow: Target) -> None:
    with contextlib.ExitStack() as stack:
        heard = [stack.enter_context(connect(narrow, f"2001:db8::{n}")).heard() for n in range(1, 5)]
        assert heard == ["auth_required"] * 3 + [4429]
        assert stack.enter_context(connect(narrow, "2001:db8:0:1::1")).heard() == "auth_required"


# --- the stream ----------------------------------------------------------------------------------------------------


async def test_a_flood_of_subscriptions_leaves_one_and_holds_up_nobody(server: Running) -> None:
    hub = server.service.hub
    async with server.peer("bob", "user") as flood, server.peer("ann", "user") as other:
        for n in range(1000):
            await flood.say(type="subscribe_jobs", stats=False, filter={"names": [f"n{n}"], "ids": [f"i{n}"] * 20})
        for _ in range(3):
            await other.say(type="ping")
            assert (await other.hear())["type"] == "pong"
        await flood.say(type="ping")
        while (await flood.hear())["type"] != "pong":
            pass
        assert len(hub._groups) == 1
        await flood.say(type="unsubscribe_jobs")
        await flood.hear_until("jobs_unsubscribed")
        assert len(hub._groups) == 0


async def test_logs_that_one_connection_follows_are_bounded(server: Running) -> None:
    ids = await server.enqueue(150, owner="bob")
    async with server.peer("bob", "user") as peer:
        for job_id in ids:
            await peer.say(type="subscribe_logs", id=job_id)
        refused = [await peer.hear() for _ in range(50)]
        assert {each["code"] for each in refused} == {"too_many"}
        assert len(server.service.hub._logs) == 100
    await until(lambda: not server.service.hub._logs)


async def test_filters_of_many_connections_are_given_back(server: Running) -> None:
    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(server.peer("bob", "user")) for _ in range(100)]
        for n, peer in enumerate(peers):
            await peer.say(type="subscribe_jobs", stats=False, filter={"names": [f"n{n}"]})
            await peer.hear_until("jobs_subscribed")
        assert len(server.service.hub._groups) == 100
        await server.enqueue(1, owner="bob", name="n7")
        assert (await peers[7].hear())["job"]["name"] == "n7"
        for peer in (peers[6], peers[8]):
            await peer.say(type="ping")
            assert (await peer.hear())["type"] == "pong"
    await until(lambda: not server.service.hub._groups)


class Member:
    """A live connection of which only what it is given counts."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def deliver(self, chunk: bytes, before: int) -> bool:
        self.got.append(chunk)
        return True


async def test_of_ten_thousand_distinct_filters_each_gets_its_own(server: Running) -> None:
    """More than one subject may have connections: at the hub, where they meet."""
    hub = server.service.hub
    who = Identity("bob", "user", 1e12, "t")
    keys = [key_of(JobFilter(names=(f"n{n}",), queues=("default",)), who) for n in range(10_000)]
    members = [Member() for _ in keys]
    groups = [hub.join(hub.group(key), member) for key, member in zip(keys, members, strict=True)]  # type: ignore[arg-type]
    chosen = (0, 1, 4711, 9999)
    for n in chosen:
        await server.enqueue(1, owner="bob", name=f"n{n}")
        await server.enqueue(1, owner="ann", name=f"n{n}")
    await until(lambda: hub.head == 2 * len(chosen))
    assert [n for n, member in enumerate(members) if member.got] == list(chosen)
    assert all(len(members[n].got) == 1 for n in chosen)
    for group, member in zip(groups, members, strict=True):
        hub.leave(group, member)  # type: ignore[arg-type]
    assert not hub._groups


# --- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip", "GZIP", "x-gzip"])
@pytest.mark.parametrize("path", ["/api/jobs", "/api/jobs/batch"])
def test_a_compressed_body_is_never_inflated(unharmed: Target, path: str, coding: str) -> None:
    """10 KiB that would be 10 MiB of JSON."""
    bomb = gzip.compress(b'{"name":"noop","data":{"x":"' + b"0" * 10 * MIB + b'"}}')
    before = unharmed.memory()
    with Http(unharmed) as http:
        coded = {"Content_Encoding": coding, "Content_Type": "application/json"}
        answer = http.ask("POST", path, unharmed.token(), bomb, **coded)
    assert answer.status in (400, 415)
    assert unharmed.memory() - before < 4 * MIB


def test_a_body_larger_than_its_route_takes_is_refused_before_it_has_come(unharmed: Target) -> None:
    for path, most in (("/api/jobs", 4 * 64 * 1024), ("/api/jobs/batch", 16 * MIB), ("/api/tokens", 4 * 64 * 1024)):
        before = unharmed.memory()
        with Http(unharmed) as http:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {unharmed.token()}\r\n"
            http.send(f"{head}Content-Length: {most + 1}\r\n\r\n".encode())
            assert http.answer().status == 413, path
        assert unharmed.memory() - before < 2 * MIB


def test_a_chunked_body_without_end_is_refused_when_it_is_too_much(unharmed: Target) -> None:
    before = unharmed.memory()
    with Http(unharmed) as http:
        http.send(
            b"POST /api/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer "
            + unharmed.token().encode() + b"\r\n\r\n"
        )  # fmt: skip
        piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
        for _ in range(64):
            http.send(piece)
        assert http.answer().status == 413
    assert unharmed.memory() - before < 4 * MIB


# --- one beside the other ------------------------------------------------------------------------------------------


async def test_whoever_has_used_up_his_rate_takes_nothing_from_others(start_server: StartServer) -> None:
    server = await start_server(rate_limit="50/1h")

    async def ask(http: trio.SocketStream, who: str) -> int:
        body = b'{"name":"noop"}'
        head = f"POST /api/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token(who, 'user')}\r\n"
        await http.send_all(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        said = b""
        while b"\r\n\r\n" not in said:
            said += await http.receive_some()
        head_, _, rest = said.partition(b"\r\n\r\n")
        size = int(head_.lower().partition(b"content-length:")[2].split()[0])
        while len(rest) < size:
            rest += await http.receive_some()
        return int(said.split()[1])

    async with await trio.open_tcp_stream("127.0.0.1", server.port) as http:
        flood = [await ask(http, "bob") for _ in range(80)]
        assert (flood.count(201), flood.count(429)) == (50, 30)
        assert [await ask(http, "ann") for _ in range(10)] == [201] * 10
    async with server.peer("bob", "user") as peer:
        await peer.say(type="ping")
        assert (await peer.hear())["type"] == "pong", "the stream does not count"


async def test_a_crowd_on_the_stream_does_not_keep_another_from_his_jobs(start_server: StartServer) -> None:
    """200 connections of bob's with a filter each, while ann enqueues and watches."""
    server = await start_server(stream={"max_per_subject": 200})
    async with contextlib.AsyncExitStack() as stack:
        for n in range(200):
            peer = await stack.enter_async_context(server.peer("bob", "user"))
            await peer.say(type="subscribe_jobs", filter={"names": [f"n{n}"]})
        async with server.connect() as late:
            await late.hear()
            await late.say(type="auth", token=server.token("bob", "user"))
            assert await late.closed() == (4429, "too_many")
        async with server.peer("ann", "user") as ann:
            await ann.say(type="subscribe_jobs", stats=False)
            await ann.hear_until("jobs_subscribed")
            await server.enqueue(20, owner="ann")
            heard = [(await ann.hear())["seq"] for _ in range(20)]
            assert heard == sorted(heard)


def test_peers_that_open_and_close_leave_nothing_behind(unharmed: Target) -> None:
    """Half of them in the middle of a handshake, of a head, or of a frame."""
    unharmed.assert_well()
    before = unharmed.descriptors()
    for n in range(300):
        with Wire(unharmed) as wire:
            wire.send((UPGRADE[: n % len(UPGRADE)], b"GET / HT", UPGRADE + frame(PING, b"x")[:3])[n % 3])
    deadline = time.monotonic() + 20
    while unharmed.descriptors() > before:
        assert time.monotonic() < deadline, unharmed.descriptors()
        time.sleep(0.02)


def test_the_log_of_an_attack_is_short(tmp_path: Path) -> None:
    """Who is attacked must not fill his disk with what the attacker says."""
    with Target.started(tmp_path) as target:
        before = len(target.log())
        for _ in range(60):
            with Http(target) as http:
                http.send(b"\x16\x03\x01" + b"x" * 500)
                http.rest()
            with Wire.opened(target) as wire:
                wire.send(b"\xff" * 500)
                wire.rest()
        assert len(target.log()) - before < 2000, target.log()[-2000:]
        with Http(target) as http:
            path = "/api/" + "x" * 30_000
            http.ask("GET", path, target.token())
        assert len(target.log()) - before < 4000
        json.loads(target.log().splitlines()[-1])
