"""The stream's messages on the wire."""

from typing import Any, get_args

import msgspec
import pytest

from jobctl.errors import InvalidInput
from jobctl.events import JOB_DELETED, JOB_UPDATE, JOBS_PRUNED, Event
from jobctl.model import Job, JobFilter, LogLine, Stats
from jobctl.protocol import close_codes, messages
from jobctl.states import Status

JOB = Job(
    id="0199",
    name="mail",
    queue="default",
    data={"to": "x"},
    status=Status.PENDING,
    priority=0,
    attempts=0,
    max_attempts=3,
    error=None,
    result=None,
    progress=None,
    created_at="c",
    started_at=None,
    completed_at=None,
    scheduled_for=None,
    processing_by=None,
    created_by="ann",
    unique_key=None,
    timeout=1.0,
    tags=(),
    version=1,
    cancel_requested=False,
)


def event(kind: str, body: bytes) -> Event:
    return Event(7, kind, "0199", 1_790_000_000_000, "ann", "mail", "default", (), None, "pending", body)


# --- from clients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"auth","token":"t"}', messages.Auth(token="t")),
        ('{"type":"ping"}', messages.Ping()),
        ('{"type":"pong"}', messages.ClientPong()),
        ('{"type":"unsubscribe_jobs"}', messages.UnsubscribeJobs()),
        ('{"type":"subscribe_jobs"}', messages.SubscribeJobs()),
        (
            (
                '{"type":"subscribe_jobs","since":5,"epoch":"e","stats":false,"schedules":true,"conflate":true,'
                '"filter":{"ids":["1"],"statuses":["failed"],"mine":true}}'
            ),
            messages.SubscribeJobs(
                filter=JobFilter(ids=("1",), statuses=(Status.FAILED,), mine=True),
                since=5,
                epoch="e",
                stats=False,
                schedules=True,
                conflate=True,
            ),
        ),
        ('{"type":"subscribe_logs","id":"1"}', messages.SubscribeLogs(id="1")),
        ('{"type":"subscribe_logs","id":"1","after":3}', messages.SubscribeLogs(id="1", after=3)),
        ('{"type":"unsubscribe_logs","id":"1"}', messages.UnsubscribeLogs(id="1")),
        ('{"type":"ping","fromTheFuture":1}', messages.Ping()),
        ('  {"token":"t", "type" : "auth"}  ', messages.Auth(token="t")),
    ],
)
def test_what_a_client_says_is_understood(text: str, message: messages.ClientMessage) -> None:
    assert messages.decode_client(text) == message
    assert messages.decode_client(text.encode()) == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "null",
        "1",
        "[]",
        "{}",
        '{"type":null}',
        '{"type":1}',
        '{"type":"Ping"}',
        '{"type":"job_update"}',
        '{"type":"auth"}',
        '{"type":"auth","token":1}',
        '{"type":"subscribe_jobs","since":-1}',
        '{"type":"subscribe_jobs","since":"5"}',
        '{"type":"subscribe_jobs","since":1.5}',
        '{"type":"subscribe_jobs","since":99999999999999999999999}',
        '{"type":"subscribe_jobs","stats":"yes"}',
        '{"type":"subscribe_jobs","filter":[]}',
        '{"type":"subscribe_jobs","filter":{"unknown":1}}',
        '{"type":"subscribe_jobs","filter":{"statuses":["dead"]}}',
        '{"type":"subscribe_jobs","filter":{"ids":' + msgspec.json.encode(["x"] * 1001).decode() + "}}",
        '{"type":"subscribe_logs"}',
        '{"type":"subscribe_logs","id":1}',
        '{"type":"subscribe_logs","id":"1","after":-1}',
        '{"type":"ping"}{"type":"ping"}',
        '{"type":"ping"',
        '{"type":"auth","token":"\\ud800"}',
        '{"a":' * 100_000,
        "[" * 100_000,
    ],
    ids=lambda text: text[:60],
)
def test_what_is_not_a_clients_message_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        messages.decode_client(text)
    assert len(str(caught.value)) <= 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "raw", [b"\xff", b'{"type":"auth","token":"\xff"}', b"\x00", '{"type":"auth","token":"\ud800"}']
)
def test_what_is_no_utf_8_is_refused(raw: bytes | str) -> None:
    with pytest.raises(InvalidInput):
        messages.decode_client(raw)


# --- from the server -----------------------------------------------------------------------------------------------

SERVER: list[tuple[messages.Message, dict[str, Any]]] = [
    (messages.AuthRequired(), {"type": "auth_required"}),
    (
        messages.Connected(connection_id="c", timestamp="t", token_expires_at="x"),
        {
            "type": "connected",
            "connectionId": "c",
            "timestamp": "t",
            "tokenExpiresAt": "x",
            "message": "WebSocket connection established",
        },
    ),
    (messages.AuthFailed(), {"type": "auth_failed", "message": "Invalid or expired token"}),
    (
        messages.JobsSubscribed(seq=1, head=2, epoch="e", recovered=True),
        {
            "type": "jobs_subscribed",
            "seq": 1,
            "head": 2,
            "epoch": "e",
            "recovered": True,
            "message": "Subscribed to job updates",
        },
    ),
    (messages.JobsUnsubscribed(), {"type": "jobs_unsubscribed"}),
    (messages.JobDeleted(id="1", seq=2, timestamp="t"), {"type": "job_deleted", "id": "1", "seq": 2, "timestamp": "t"}),
    (
        messages.JobsPruned(statuses=("failed",), finished_before="f", count=3, seq=4, timestamp="t"),
        {
            "type": "jobs_pruned",
            "statuses": ["failed"],
            "finishedBefore": "f",
            "count": 3,
            "seq": 4,
            "timestamp": "t",
        },
    ),
    (
        messages.SchedulesUpdate(schedules=(), timestamp="t"),
        {"type": "schedules_update", "schedules": [], "timestamp": "t"},
    ),
    (
        messages.WorkersUpdate(workers=(), timestamp="t"),
        {"type": "workers_update", "workers": [], "timestamp": "t"},
    ),
    (
        messages.JobStatsUpdate(stats=Stats(), seq=1, timestamp="t"),
        {
            "type": "job_stats_update",
            "stats": {
                "pending": 0,
                "running": 0,
                "retrying": 0,
                "completed": 0,
                "failed": 0,
                "cancelled": 0,
                "total": 0,
                "byQueue": {},
            },
            "seq": 1,
            "timestamp": "t",
        },
    ),
    (
        messages.JobLog(id="1", lines=(LogLine(n=1, at="t", stream="stdout", text="x"),)),
        {"type": "job_log", "id": "1", "lines": [{"n": 1, "at": "t", "stream": "stdout", "text": "x"}]},
    ),
    (messages.Pong(seq=5), {"type": "pong", "seq": 5}),
    (messages.TokenExpiring(expires_at="x"), {"type": "token_expiring", "expiresAt": "x"}),
    (messages.Resync(seq=5, epoch="e"), {"type": "resync", "seq": 5, "epoch": "e"}),
    (messages.Error(code="c", message="m"), {"type": "error", "code": "c", "message": "m"}),
]


@pytest.mark.parametrize(("message", "wire"), SERVER, ids=[wire["type"] for _, wire in SERVER])
def test_a_servers_message_is_on_the_wire_as_designed(message: messages.Message, wire: dict[str, Any]) -> None:
    assert msgspec.json.decode(messages.encode(message)) == wire
    assert messages.decode_server(messages.encode(message)) == message


def test_every_message_of_the_server_is_in_the_table() -> None:
    tested = {type(message) for message, _ in SERVER} | {messages.JobUpdate}
    assert tested == set(get_args(messages.ServerMessage)) >= tested


def test_a_client_ignores_what_a_newer_server_says() -> None:
    assert messages.decode_server('{"type":"from_the_future","x":[1]}') is None


@pytest.mark.parametrize("text", ['{"type":"pong"}', '{"type":"pong","seq":"x"}', "{}", "x", "[]"])
def test_a_client_does_not_ignore_what_is_broken(text: str) -> None:
    with pytest.raises(msgspec.MsgspecError):
        messages.decode_server(text)


# --- events --------------------------------------------------------------------------------------------------------


def test_an_update_is_put_together_from_the_logs_bytes() -> None:
    text = messages.event_text(event(JOB_UPDATE, msgspec.json.encode(JOB)))
    told = messages.decode_server(text)
    assert told == messages.JobUpdate(job=JOB, seq=7, timestamp="2026-09-21T14:13:20.000Z")
    assert msgspec.json.decode(text) == msgspec.json.decode(messages.encode(told))  # type: ignore[arg-type]


def test_a_deletion_is_put_together_from_the_logs_bytes() -> None:
    told = messages.decode_server(messages.event_text(event(JOB_DELETED, b'{"id":"0199"}')))
    assert told == messages.JobDeleted(id="0199", seq=7, timestamp="2026-09-21T14:13:20.000Z")


@pytest.mark.parametrize(
    ("owner", "statuses", "count"),
    [
        (None, ("completed", "failed"), 10),
        ("ann", ("completed", "failed"), 6),
        ("ben", ("completed",), 4),
        ("eve", (), 0),
    ],
)
def test_a_pruning_tells_each_reader_only_of_its_own_jobs(
    owner: str | None, statuses: tuple[str, ...], count: int
) -> None:
    body = (
        b'{"finishedBefore":"f","counts":{"ann":{"default":{"failed":3,"completed":1},"x":{"completed":2}},'
        b'"ben":{"x":{"completed":4}}}}'
    )
    told = messages.decode_server(messages.event_text(event(JOBS_PRUNED, body), owner))
    assert told == messages.JobsPruned(
        statuses=statuses, finished_before="f", count=count, seq=7, timestamp="2026-09-21T14:13:20.000Z"
    )


# --- close codes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "reconnect"),
    [
        (1000, "normal", False),
        (1001, "going_away", True),
        (1002, "protocol_error", False),
        (1007, "invalid_payload", False),
        (1009, "too_big", False),
        (1011, "internal", True),
        (4400, "bad_request", False),
        (4401, "unauthorized", False),
        (4403, "forbidden", False),
        (4408, "slow_consumer", True),
        (4429, "too_many", True),
    ],
)
def test_a_close_code_says_why_and_whether_to_come_back(code: int, reason: str, reconnect: bool) -> None:
    assert close_codes.TABLE[code] == (code, reason, reconnect)
    assert close_codes.should_reconnect(code) == reconnect


def test_the_table_of_close_codes_is_whole() -> None:
    assert len(close_codes.TABLE) == 11
    assert close_codes.should_reconnect(1006)
    assert close_codes.should_reconnect(4999)
