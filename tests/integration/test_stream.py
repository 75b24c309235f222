"""The stream's contract (design section 6), against a real server."""


from __future__ import annotations

import math
import time
from typing import Any

import pytest
import trio
import trio_websocket
import wsproto
from stream_kit import numbers
from wsproto.events import Request

from jobctl import auth
from jobctl.protocol.session import MAX_BAD_MESSAGES
from tests.kit import LOOPBACK, Running, StartServer, until


async def test_the_server_speaks_first_and_asks_for_a_token(server: Running) -> None:
    async with server.connect() as peer:
        assert await peer.hear() == {"type": "auth_required"}
        await peer.say(type="auth", token=server.token())
        connected = await peer.hear()
        assert connected["type"] == "connected"
        assert connected["message"] == "WebSocket connection established"
        assert connected["connectionId"]
        assert connected["tokenExpiresAt"].endswith("Z")


@pytest.mark.parametrize(
    "first", ['{"type":"ping"}', "nonsense", "[]", '{"type":"auth"}', '{"type":"auth","token":"x"}']
)
async def test_whoever_says_anything_but_a_valid_auth_first_is_closed_with_4401(server: Running, first: str) -> None:
    async with server.connect() as peer:
        await peer.hear()
        await peer.socket.send_message(first)
        assert await peer.hear() == {"type": "auth_failed", "message": "Invalid or expired token"}
        assert await peer.closed() == (4401, "unauthorized")


async def test_whoever_says_nothing_is_closed_after_the_auth_timeout(start_server: StartServer) -> None:
    server = await start_server(stream={"auth_timeout": 0.05})
    async with server.connect() as peer:
        assert await peer.closed() == (4401, "unauthorized")


async def test_who_waits_for_their_turn_in_a_crowd_does_not_run_out_of_time(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(stream={"auth_timeout": 10.0})
    endpoint = server.service.endpoint
    crowd = trio.Event()
    async with server.connect() as peer:
        assert (await peer.hear())["type"] == "auth_required"
        monkeypatch.setattr(endpoint._pace, "turn", crowd.wait)
        await peer.say(type="auth", token=server.token())
        (connection,) = endpoint.connections
        await until(lambda: math.isinf(endpoint.connections[connection]))
        with monkeypatch.context() as later:
            later.setattr(trio, "current_time", lambda now=trio.current_time: now() + 3600)
            endpoint.sweep()
        assert not connection.closing
        crowd.set()
        assert (await peer.hear())["type"] == "connected"


async def test_an_update_is_pushed_with_its_number_and_the_counts_follow(server: Running) -> None:
    async with server.peer() as peer:
        await peer.say(type="subscribe_jobs")
        subscribed = await peer.hear()
        assert subscribed | {"epoch": ""} == {
            "type": "jobs_subscribed",
            "message": "Subscribed to job updates",
            "seq": 0,
            "head": 0,
            "epoch": "",
            "recovered": False,
        }
        assert (await peer.hear())["type"] == "job_stats_update"
        (job_id,) = await server.enqueue()
        update = await peer.hear()
        assert (update["type"], update["job"]["id"], update["job"]["status"]) == ("job_update", job_id, "pending")
        assert update["seq"] == 1
        stats = await peer.hear_until("job_stats_update")
        assert stats["stats"]["pending"] == stats["stats"]["byQueue"]["default"]["pending"] == 1
        assert stats["seq"] == 1
        await server.store.delete(job_id, owner=None)
        deleted = await peer.hear_until("job_deleted")
        assert (deleted["id"], deleted["seq"]) == (job_id, 2)


async def test_a_resumed_subscriber_gets_what_it_missed_and_then_goes_on_live(server: Running) -> None:
    async with server.peer() as peer:
        await peer.say(type="subscribe_jobs")
        epoch = (await peer.hear())["epoch"]
    await server.enqueue(50)
    async with server.peer() as peer:
        await peer.say(type="subscribe_jobs", since=10, epoch=epoch, stats=False)
        subscribed = await peer.hear()
        assert (subscribed["recovered"], subscribed["seq"], subscribed["head"]) == (True, 10, 50)
        assert await numbers(peer, 50) == list(range(11, 51))
        await server.enqueue(3)
        assert await numbers(peer, 53) == [51, 52, 53]


async def test_a_replay_longer_than_the_ring_comes_from_the_log_without_a_gap(server: Running) -> None:
    for _ in range(6):
        await server.enqueue(1000)
    async with server.peer() as peer:
        await peer.say(type="subscribe_jobs", since=0, epoch=server.store.epoch, stats=False)
        assert (await peer.hear())["recovered"] is True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.enqueue, 500)  # while it catches up
            assert await numbers(peer, 6500) == list(range(1, 6501))


@pytest.mark.parametrize(
    ("since", "epoch"), [(0, "00000000-0000-4000-8000-000000000000"), (99, None), (3, ""), (10**15, None)]
)
async def test_a_position_that_the_log_does_not_have_is_not_recovered(
    server: Running, since: int, epoch: str | None
) -> None:
    await server.enqueue(5)
    async with server.peer() as peer:
        await peer.say(type="subscribe_jobs", since=since, epoch=server.store.epoch if epoch is None else epoch)
        subscribed = await peer.hear()
        assert (subscribed["recovered"], subscribed["seq"], subscribed["head"]) == (False, 5, 5)
        await server.enqueue(1)
        assert (await peer.hear_until("job_update"))["seq"] == 6


async def test_a_second_subscription_replaces_the_first_and_unsubscribing_ends_it(server: Running) -> None:
    async with server.peer() as peer:
        await peer.say(type="subscribe_jobs", stats=False)
        await peer.hear()
        await peer.say(type="subscribe_jobs", stats=False, filter={"queues": ["other"]})
        await peer.hear()
        await server.enqueue(2)
        await server.enqueue(1, queue="other")
        update = await peer.hear()
        assert (update["job"]["queue"], update["seq"]) == ("other", 3)
        await peer.say(type="unsubscribe_jobs")
        assert await peer.hear() == {"type": "jobs_unsubscribed"}
        await server.enqueue(1, queue="other")
        await peer.say(type="ping")
        assert await peer.hear() == {"type": "pong", "seq": 4}


async def test_pong_carries_the_position_of_a_filtered_subscriber(server: Running) -> None:
    async with server.peer() as peer:
        await peer.say(type="subscribe_jobs", stats=False, filter={"names": ["never"]})
        await peer.hear()
        await server.enqueue(7)
        await peer.say(type="ping")
        assert await peer.hear() == {"type": "pong", "seq": 7}


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        ({"names": ["noop"]}, [1, 3]),
        ({"queues": ["q2"]}, [2]),
        ({"tags": ["red", "blue"]}, [3]),
        ({"statuses": ["cancelled"]}, [4]),
        ({"statuses": ["pending"]}, [1, 2, 3, 4]),
        ({"names": ["noop"], "tags": ["red"]}, [3]),
        ({"names": []}, []),
        ({"mine": True}, [1, 2, 4]),
    ],
)
async def test_a_filter_lets_through_what_matches_before_or_after_the_change(
    server: Running, wanted: dict[str, Any], seen: list[int]
) -> None:
    async with server.peer() as peer:
        await peer.say(type="subscribe_jobs", stats=False, filter=wanted)
        await peer.hear()
        await server.enqueue(1)
        (second,) = await server.enqueue(1, name="other", queue="q2")
        await server.enqueue(1, owner="alice", tags=("red",))
        await server.store.cancel(second, owner=None)
        await peer.say(type="ping")
        got = []
        while (message := await peer.hear())["type"] != "pong":
            got.append(message["seq"])
        assert got == [seq for seq in seen if seq != 4 or "queues" not in wanted] or (
            "queues" in wanted and got == [2, 4]
        )


async def test_a_user_sees_only_what_it_created_and_counts_only_that(server: Running) -> None:
    async with server.peer("alice", "user") as alice:
        await alice.say(type="subscribe_jobs")
        await alice.hear()
        assert (await alice.hear())["stats"]["total"] == 0
        (foreign,) = await server.enqueue(1, owner="bob", queue="secret")
        (own,) = await server.enqueue(1, owner="alice")
        update = await alice.hear()
        assert (update["job"]["id"], update["seq"]) == (own, 2)
        stats = (await alice.hear_until("job_stats_update"))["stats"]
        assert (stats["total"], list(stats["byQueue"])) == (1, ["default"])
        await alice.say(type="subscribe_logs", id=foreign)
        hidden = await alice.hear()
        await alice.say(type="subscribe_logs", id="01a20632-b50d-736d-84d5-307862db52c0")
        assert await alice.hear() == hidden
        assert hidden["type"] == "error"


async def test_ten_messages_that_make_no_sense_close_the_connection(server: Running) -> None:
    async with server.peer() as peer:
        for _ in range(MAX_BAD_MESSAGES):
            await peer.socket.send_message("{")
        for _ in range(MAX_BAD_MESSAGES):
            assert (await peer.hear())["type"] == "error"
        assert await peer.closed() == (4400, "bad_request")


async def test_a_message_above_64_kib_closes_with_1009(server: Running) -> None:
    async with server.peer() as peer:
        await peer.say(type="ping", padding="x" * 60_000)
        assert (await peer.hear())["type"] == "pong"
        await peer.socket.send_message("x" * (64 * 1024 + 1))
        assert (await peer.closed())[0] == 1009


async def test_the_same_subject_may_renew_its_token_and_keeps_its_subscription(server: Running) -> None:
    async with server.peer("alice", "user") as peer:
        await peer.say(type="subscribe_jobs", stats=False)
        await peer.hear()
        await peer.say(type="auth", token=server.token("alice", "user"))
        assert (await peer.hear())["type"] == "connected"
        await server.enqueue(1, owner="alice")
        assert (await peer.hear())["type"] == "job_update"


@pytest.mark.parametrize(("subject", "role"), [("bob", "user"), ("alice", "admin")])
async def test_another_subject_or_role_drops_the_subscriptions(server: Running, subject: str, role: str) -> None:
    async with server.peer("alice", "user") as peer:
        await peer.say(type="subscribe_jobs", stats=False)
        await peer.hear()
        await peer.say(type="auth", token=server.token(subject, role))
        assert (await peer.hear())["type"] == "connected"
        await server.enqueue(1, owner="alice")
        await peer.say(type="ping")
        assert (await peer.hear())["type"] == "pong"


async def test_an_invalid_token_on_an_open_connection_closes_it(server: Running) -> None:
    async with server.peer() as peer:
        await peer.say(type="auth", token="no")
        assert (await peer.hear())["type"] == "auth_failed"
        assert (await peer.closed())[0] == 4401


async def test_nothing_is_written_after_the_token_has_ended(server: Running) -> None:
    """The clock is moved between two commits: the second must not reach the subscriber."""
    offset = 0.0
    server.service.endpoint._clock = lambda: time.time() + offset
    async with server.peer(ttl=600) as peer:
        await peer.say(type="subscribe_jobs", stats=False)
        await peer.hear()
        await server.enqueue(1)
        assert (await peer.hear())["seq"] == 1
        offset = 601.0
        await server.enqueue(1)
        assert await peer.hear() == {"type": "auth_failed", "message": "Invalid or expired token"}
        assert await peer.closed() == (4401, "unauthorized")


async def test_the_end_of_a_token_is_announced_a_minute_ahead_and_then_kept(server: Running) -> None:
    async with server.peer(ttl=59) as peer:
        warning = await peer.hear()
        assert warning["type"] == "token_expiring"
        assert warning["expiresAt"].endswith("Z")
        await peer.say(type="auth", token=server.token())
        assert (await peer.hear())["type"] == "connected"


async def test_more_connections_than_the_limits_allow_are_told_4429(start_server: StartServer) -> None:
    server = await start_server(stream={"max_per_subject": 1, "max_connections": 2})
    async with server.peer("alice"):
        async with server.connect() as second:
            await second.hear()
            await second.say(type="auth", token=server.token("alice"))
            assert await second.closed() == (4429, "too_many")
        async with server.peer("bob"), server.connect() as fourth:
            assert await fourth.closed() == (4429, "too_many")
    await until(lambda: not server.service.endpoint.connections)
    async with server.peer("alice"):
        pass


async def test_a_page_from_elsewhere_is_refused_and_an_allowed_one_is_not(start_server: StartServer) -> None:
    server = await start_server(allowed_origins=["https://board.example"])
    for origin in ("https://evil.example", "null", f"http://{LOOPBACK}:{server.port}.evil.example"):
        with pytest.RaisesGroup(trio_websocket.ConnectionRejected, flatten_subgroups=True) as refused:
            async with server.connect([("Origin", origin)]):
                pass
        (rejection,) = refused.value.exceptions
        assert rejection.status_code == 403
    for origin in ("https://board.example", f"http://{LOOPBACK}:{server.port}"):
        async with server.connect([("Origin", origin)]) as peer:
            assert await peer.hear() == {"type": "auth_required"}


@pytest.mark.parametrize(
    ("proxies", "headers", "allowed"),
    [
        (["127.0.0.0/8"], [("Origin", "https://board.example"), ("X-Forwarded-Proto", "https")], True),
        (["127.0.0.0/8"], [("Origin", "https://board.example:443"), ("X-Forwarded-Proto", "https")], True),
        (["127.0.0.0/8"], [("Origin", "https://board.example"), ("X-Forwarded-Proto", "http, https")], True),
        (["127.0.0.0/8"], [("Origin", "http://board.example"), ("X-Forwarded-Proto", "https")], False),
        (["127.0.0.0/8"], [("Origin", "https://board.example")], False),
        (["127.0.0.0/8"], [("Origin", "https://evil.example"), ("X-Forwarded-Proto", "https")], False),
        ([], [("Origin", "https://board.example"), ("X-Forwarded-Proto", "https")], False),
        ([], [("Origin", "http://board.example")], True),
    ],
)
async def test_the_same_origin_is_the_one_that_the_browser_sees(
    start_server: StartServer, proxies: list[str], headers: list[tuple[str, str]], allowed: bool
) -> None:
    """A proxy that ends TLS, and is trusted, says so."""
    server = await start_server(trusted_proxies=proxies)
    peer = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    sent = [(name.encode(), value.encode()) for name, value in headers]
    stream = await trio.open_tcp_stream(LOOPBACK, server.port)
    async with stream:
        await stream.send_all(
            peer.send(Request(host="board.example", target="/api/notifications/ws", extra_headers=sent))
        )
        answer = bytes(await stream.receive_some())
    assert answer.startswith(b"HTTP/1.1 101" if allowed else b"HTTP/1.1 403")


async def test_a_stop_tells_every_stream_1001(server: Running) -> None:
    async with server.peer() as peer:
        server.service.stop()
        assert await peer.closed() == (1001, "going_away")


async def test_a_token_of_another_secret_is_refused(server: Running) -> None:
    async with server.connect() as peer:
        await peer.hear()
        await peer.say(type="auth", token=auth.mint(b"x" * 40, subject="root", role="admin"))
        assert (await peer.closed())[0] == 4401


async def test_everything_returns_to_where_it_was_when_the_watchers_leave(server: Running) -> None:
    hub, endpoint = server.service.hub, server.service.endpoint
    for _ in range(3):
        async with server.peer() as peer:
            await peer.say(type="subscribe_jobs", filter={"names": ["noop"]})
            await peer.say(type="subscribe_logs", id=(await server.enqueue())[0])
            await peer.hear_until("job_stats_update")
    await until(lambda: not endpoint.connections)
    assert not hub._groups
    assert not hub._stats
    assert not hub._logs
    assert not endpoint._subjects
