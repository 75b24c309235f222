"""The client's end of the stream, fed by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from jobctl.errors import ApiError, ClientError, SignInFailed, Unreachable
from jobctl.model import JobFilter, Position
from jobctl.protocol.messages import JobUpdate, SubscribeJobs
from jobctl.protocol.subscriber import (
    DEAD_AFTER_S,
    PING_EVERY_S,
    Deliver,
    Live,
    Retry,
    Send,
    SignIn,
    Stale,
    Stalled,
    Stop,
    Subscriber,
)

E1, E2 = "epoch-1", "epoch-2"
CONNECTED = {"connectionId": "c", "timestamp": "t", "tokenExpiresAt": "t"}


def job(job_id: str = "a", version: int = 1, status: str = "pending") -> dict[str, Any]:
    return {
        "id": job_id, "name": "n", "queue": "default", "data": {}, "status": status, "priority": 0, "attempts": 0,
        "maxAttempts": 3, "error": None, "result": None, "progress": None, "createdAt": "2026-01-01T00:00:00.000Z",
        "startedAt": None, "completedAt": None, "scheduledFor": None, "processingBy": None, "createdBy": "root",
        "uniqueKey": None, "timeout": 3600.0, "tags": [], "version": version, "cancelRequested": False,
    }  # fmt: skip


def tell(subscriber: Subscriber, kind: str, now: float = 0.0, **fields: Any) -> list[Any]:
    return list(subscriber.receive(json.dumps({"type": kind, **fields}), now))


def update(subscriber: Subscriber, seq: int, now: float = 0.0) -> list[Any]:
    return tell(subscriber, "job_update", now, job=job(version=seq), seq=seq, timestamp="t")


def subscribed(
    subscriber: Subscriber, seq: int, *, now: float = 0.0, head: int | None = None, epoch: str = E1, ok: bool = True
) -> list[Any]:
    return tell(subscriber, "jobs_subscribed", now, seq=seq, head=head or seq, epoch=epoch, recovered=ok)


def sent(output: Any) -> dict[str, Any]:
    assert isinstance(output, Send)
    found: dict[str, Any] = json.loads(output.text)
    return found


def opened(subscriber: Subscriber, now: float = 0.0) -> dict[str, Any]:
    """Up to the subscription; returns what was asked for."""
    subscriber.opened(now)
    assert tell(subscriber, "auth_required", now) == [SignIn(fresh=False)]
    assert sent(subscriber.sign_in("tok")) == {"type": "auth", "token": "tok"}
    [asked] = tell(subscriber, "connected", now, **CONNECTED)
    return sent(asked)


def live(since: Position | None = None, at: int = 10) -> Subscriber:
    subscriber = Subscriber(since=since)
    opened(subscriber)
    subscribed(subscriber, at if since is None else since.seq)
    return subscriber


def seqs(outputs: list[Any]) -> list[int]:
    return [output.message.seq for output in outputs if isinstance(output, Deliver)]


def test_it_signs_in_subscribes_and_delivers() -> None:
    subscriber = Subscriber(SubscribeJobs(filter=JobFilter(queues=("q",)), stats=False))
    asked = opened(subscriber)
    assert asked["type"] == "subscribe_jobs"
    assert asked["filter"]["queues"] == ["q"]
    assert asked["since"] is None
    assert subscribed(subscriber, 10) == [Live(Position(E1, 10), recovered=True)]
    [found] = update(subscriber, 11)
    assert isinstance(found.message, JobUpdate)
    assert json.loads(found.text)["seq"] == 11
    assert found.position == subscriber.position == Position(E1, 11)


def test_each_update_is_delivered_once_and_the_position_never_goes_back() -> None:
    subscriber = live()
    assert [seqs(update(subscriber, seq)) for seq in (11, 11, 12, 9)] == [[11], [], [12], []]
    assert subscriber.position == Position(E1, 12)


def test_a_new_connection_asks_for_what_comes_after_the_position() -> None:
    subscriber = live()
    update(subscriber, 11)
    assert isinstance(subscriber.closed(None, 1.0, 0.5), Retry)
    asked = opened(subscriber)
    assert (asked["since"], asked["epoch"]) == (11, E1)
    subscribed(subscriber, 11, head=13)
    assert seqs(update(subscriber, 12) + update(subscriber, 13)) == [12, 13]


def test_a_connection_lost_before_the_first_subscription_starts_from_now_again() -> None:
    subscriber = Subscriber()
    opened(subscriber)
    subscriber.closed(None, 0.0, 0.5)
    assert opened(subscriber)["since"] is None


def test_a_subscription_that_was_not_recovered_is_stale_until_it_is_rebased() -> None:
    subscriber = live(Position(E1, 5))
    subscriber.closed(None, 0.0, 0.5)
    opened(subscriber)
    outputs = subscribed(subscriber, 40, epoch=E2, ok=False)
    assert outputs == [Live(Position(E2, 40), recovered=False), Stale(Position(E2, 40))]
    assert update(subscriber, 41) == []  # it is in what will be fetched, or is replayed after it
    assert sent(subscriber.rebase(Position(E2, 41)))["since"] == 41
    assert update(subscriber, 42) == []  # still of the first subscription; replayed by the second
    assert subscribed(subscriber, 41, head=42, epoch=E2) == [Live(Position(E2, 41), recovered=True)]
    assert seqs(update(subscriber, 42)) == [42]


def test_a_position_is_kept_when_the_connection_is_lost_while_stale() -> None:
    subscriber = live(Position(E1, 5))
    tell(subscriber, "resync", seq=90, epoch=E1)
    subscriber.closed(None, 0.0, 0.5)
    assert opened(subscriber)["since"] == 5


def test_resync_makes_a_live_subscription_stale_once() -> None:
    subscriber = live()
    assert tell(subscriber, "resync", seq=90, epoch=E1) == [Stale(Position(E1, 90))]
    assert tell(subscriber, "resync", seq=91, epoch=E1) == []


def test_a_first_subscription_without_a_position_is_never_stale() -> None:
    subscriber = Subscriber()
    opened(subscriber)
    assert subscribed(subscriber, 10, ok=False) == [Live(Position(E1, 10), recovered=True)]


def test_a_pong_moves_the_position_of_a_filtered_subscriber() -> None:
    subscriber = live()
    assert tell(subscriber, "pong", seq=500) == []
    assert subscriber.position == Position(E1, 500)


def test_counts_are_delivered_only_while_live_and_leave_the_position_alone() -> None:
    subscriber = live()
    stats = {"pending": 1, "total": 1, "byQueue": {}}
    [found] = tell(subscriber, "job_stats_update", stats=stats, seq=99, timestamp="t")
    assert found.message.stats.pending == 1
    assert subscriber.position == Position(E1, 10)
    tell(subscriber, "resync", seq=90, epoch=E1)
    assert tell(subscriber, "job_stats_update", stats=stats, seq=99, timestamp="t") == []


def test_an_expiring_token_is_replaced_and_the_subscription_renewed_in_place() -> None:
    subscriber = live()
    assert tell(subscriber, "token_expiring", expiresAt="t") == [SignIn(fresh=True, renewal=True)]
    [again] = tell(subscriber, "connected", **CONNECTED)
    assert sent(again)["since"] == 10


def test_a_refused_token_gets_one_fresh_try() -> None:
    subscriber = live()
    tell(subscriber, "auth_failed", message="no")
    first = subscriber.closed(4401, 1.0, 0.5)
    assert isinstance(first, Retry)
    subscriber.opened(1.0)
    assert tell(subscriber, "auth_required") == [SignIn(fresh=True)]
    verdict = subscriber.closed(4401, 1.0, 0.5)
    assert isinstance(verdict, Stop)
    assert isinstance(verdict.error, SignInFailed)


def test_a_token_that_cannot_be_renewed_is_refused_for_good() -> None:
    subscriber = Subscriber(renewable=False)
    subscriber.opened(0.0)
    verdict = subscriber.closed(4401, 0.0, 0.5)
    assert isinstance(verdict, Stop)
    assert isinstance(verdict.error, SignInFailed)


def test_a_sign_in_that_worked_allows_another_fresh_try_later() -> None:
    subscriber = live()
    for now in (1.0, 2.0):
        assert isinstance(subscriber.closed(4401, now, 0.5), Retry)
        subscriber.opened(now)
        assert tell(subscriber, "auth_required", now) == [SignIn(fresh=True)]
        tell(subscriber, "connected", now, **CONNECTED)


@pytest.mark.parametrize(
    ("code", "returns"),
    [
        (None, True), (1001, True), (1006, True), (1011, True), (4408, True), (4429, True), (4999, True),
        (1000, False), (1002, False), (1009, False), (4400, False), (4403, False),
    ],
)  # fmt: skip
def test_the_close_code_decides_whether_to_come_back(code: int | None, returns: bool) -> None:
    assert isinstance(live().closed(code, 1.0, 0.5), Retry if returns else Stop)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, Retry), (500, Retry), (503, Retry), (404, Unreachable), (403, ApiError), (400, ApiError)],
)
def test_a_refused_handshake_is_tried_again_only_where_it_can_pass(status: int, kind: type) -> None:
    verdict = Subscriber().rejected(status, 0.0, 0.5)
    assert isinstance(verdict.error if isinstance(verdict, Stop) else verdict, kind)


def test_the_backoff_doubles_to_ten_seconds_with_full_jitter_and_starts_anew_after_a_steady_connection() -> None:
    subscriber = Subscriber()

    def delay(now: float, draw: float) -> float:
        verdict = subscriber.closed(None, now, draw)
        assert isinstance(verdict, Retry)
        return verdict.delay

    assert [delay(0.0, 1.0) for _ in range(7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert delay(0.0, 0.0) == 0.0
    opened(subscriber)
    subscribed(subscriber, 1)
    assert delay(4.9, 1.0) == 10.0  # it had stood too short a time to be trusted
    opened(subscriber, 10.0)
    subscribed(subscriber, 1, now=10.0)
    assert delay(15.0, 1.0) == 0.5


def test_it_pings_every_thirty_seconds_whatever_comes() -> None:
    subscriber = live()
    subscriber.heard(29.0)
    assert subscriber.deadline == PING_EVERY_S
    assert subscriber.tick(29.9) == []
    assert [sent(each) for each in subscriber.tick(30.0)] == [{"type": "ping"}]
    assert subscriber.deadline == 2 * PING_EVERY_S


def test_a_peer_that_is_silent_for_75_seconds_is_dead() -> None:
    subscriber = live()
    for now in (30.0, 60.0):
        subscriber.tick(now)
    assert subscriber.deadline == DEAD_AFTER_S
    assert subscriber.tick(74.9) == []
    assert subscriber.tick(75.0) == [Stalled()]


def test_while_a_replay_runs_it_asks_often_how_far_it_is() -> None:
    subscriber = Subscriber(since=Position(E1, 5))
    opened(subscriber)
    subscribed(subscriber, 5, head=90)
    assert [sent(each)["type"] for each in subscriber.tick(0.0)] == ["ping"]
    tell(subscriber, "pong", 1.0, seq=50)
    assert subscriber.deadline == 1.5
    tell(subscriber, "pong", 1.6, seq=90)
    subscriber.tick(1.6)
    assert subscriber.deadline == 1.6 + PING_EVERY_S


def test_a_message_of_a_newer_server_is_ignored() -> None:
    subscriber = live()
    assert tell(subscriber, "fireworks", colour="red") == []
    assert tell(subscriber, "job_deleted", id="a", seq=11, timestamp="t", why="new field") != []


@pytest.mark.parametrize(
    "text", ["", "[", '{"type":"job_update","job":5,"seq":1,"timestamp":"t"}', "[" * 5000, '"\\ud800"']
)
def test_what_cannot_be_understood_stops_it(text: str) -> None:
    [found] = live().receive(text, 0.0)
    assert isinstance(found, Stop)
    assert isinstance(found.error, ClientError)


def test_a_server_that_does_not_ask_for_a_token_first_is_none_of_ours() -> None:
    subscriber = Subscriber()
    subscriber.opened(0.0)
    [found] = tell(subscriber, "connected", **CONNECTED)
    assert isinstance(found, Stop)


def test_a_refused_subscription_stops_it_and_a_later_error_does_not() -> None:
    subscriber = Subscriber()
    opened(subscriber)
    [found] = tell(subscriber, "error", code="invalid", message="bad filter")
    assert isinstance(found, Stop)
    assert str(found.error) == "bad filter"
    assert tell(live(), "error", code="invalid", message="x") == []


def test_it_imports_neither_trio_nor_anything_that_does_io() -> None:
    code = "import jobctl.protocol.subscriber, sys; print({'trio', 'socket', 'ssl', 'asyncio'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
