"""Values on the wire: times, positions, names, sizes."""

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobctl.errors import InvalidInput
from jobctl.model import (
    EnqueueRequest,
    Identity,
    Job,
    Position,
    Progress,
    QueueStats,
    Stats,
    camel,
    clip,
    parse_time,
    wire_time,
)
from jobctl.states import Status

LAST_MS = 253_402_300_799_999


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (999, "1970-01-01T00:00:00.999Z"),
        (1_790_000_000_050, "2026-09-21T14:13:20.050Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (LAST_MS, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_rfc_3339_in_utc_with_milliseconds(ms: int, text: str) -> None:
    assert wire_time(ms) == text
    assert parse_time(text, field="at") == ms


@settings(deadline=None)
@given(st.integers(0, LAST_MS))
def test_every_time_survives_the_wire(ms: int) -> None:
    assert parse_time(wire_time(ms), field="at") == ms


def test_times_on_the_wire_sort_as_they_passed() -> None:
    times = [0, 5, 1000, 59_999, 60_000, 1_790_000_000_000, 1_790_000_000_001, LAST_MS]
    assert sorted(map(wire_time, reversed(times))) == list(map(wire_time, times))


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-01-31T12:00:00Z", 1_769_860_800_000),
        ("2026-01-31t12:00:00z", 1_769_860_800_000),
        ("2026-01-31 12:00:00Z", 1_769_860_800_000),
        ("2026-01-31T13:30:00+01:30", 1_769_860_800_000),
        ("2026-01-31T07:00:00.5-05:00", 1_769_860_800_500),
        ("2026-01-31T12:00:00.123456789Z", 1_769_860_800_123),
    ],
)
def test_every_rfc_3339_time_is_understood(text: str, ms: int) -> None:
    assert parse_time(text, field="at") == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00Z",
        "2026-02-30T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:00:60Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00+25:00",
        "2026-01-31T12:00:00Z\n",
        " 2026-01-31T12:00:00Z",
        "20260131T120000Z",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "\u0662\u0660\u0662\u0666-01-31T12:00:00Z",
        "\ud800",
        "2026-01-31T12:00:00Z" * 1000,
    ],
)
def test_what_is_no_time_is_refused_with_the_fields_name(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_time(text, field="scheduledFor")
    assert caught.value.field == "scheduledFor"
    assert "scheduledFor" in str(caught.value)


# --- positions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epoch", "seq"), [("e", 0), ("0198-ab", 12), ("A" * 64, 10**18 - 1)])
def test_a_position_reads_what_it_wrote(epoch: str, seq: int) -> None:
    position = Position(epoch, seq)
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "e:",
        ":1",
        "e:-1",
        "e:1.0",
        "e:1 ",
        "e:1\n",
        "e:x",
        "e:" + "1" * 19,
        "e e:1",
        "A" * 65 + ":1",
        "e:\u0661",
    ],
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Position.parse(text)
    assert caught.value.field == "since"


def test_a_refusal_does_not_repeat_all_of_a_huge_text() -> None:
    with pytest.raises(InvalidInput) as caught:
        Position.parse("x" * 1_000_000)
    assert len(str(caught.value)) < 200


def test_positions_of_one_epoch_are_in_order() -> None:
    assert sorted([Position("e", 10), Position("e", 9)]) == [Position("e", 9), Position("e", 10)]


# --- what may be asked for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "a.b_c:d-E9"},
        {"name": "a" * 100},
        {"queue": "q" * 100},
        {"priority": -1_000_000},
        {"priority": 1_000_000},
        {"tags": ["x" * 64] * 20},
        {"tags": ["ü '\" % 漢"]},
        {"uniqueKey": "k" * 200},
        {"timeout": 0.1},
        {"maxAttempts": 1000},
        {"delay": 0},
        {"data": {"a": [1, None, {"b": "c"}]}},
    ],
)
def test_what_is_within_the_limits_may_be_asked_for(fields: dict[str, Any]) -> None:
    msgspec.json.decode(msgspec.json.encode({"name": "mail", **fields}), type=EnqueueRequest)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a" * 101},
        {"name": "a b"},
        {"name": "a/b"},
        {"name": "ü"},
        {"name": 1},
        {"name": None},
        {"queue": ""},
        {"queue": "a\tb"},
        {"priority": 1_000_001},
        {"priority": "4"},
        {"priority": 1.5},
        {"priority": True},
        {"tags": ["x"] * 21},
        {"tags": ["x" * 65]},
        {"tags": [""]},
        {"tags": ["a\nb"]},
        {"tags": "x"},
        {"uniqueKey": ""},
        {"uniqueKey": "k" * 201},
        {"uniqueKey": "\x7f"},
        {"timeout": 0},
        {"timeout": 31 * 86400 + 1},
        {"maxAttempts": 0},
        {"maxAttempts": 1001},
        {"delay": -0.1},
        {"delay": 10 * 366 * 86400 + 1},
        {"data": []},
        {"data": "x"},
        {"unknown": 1},
        {"max_attempts": 1},
    ],
)
def test_what_is_beyond_the_limits_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode({"name": "mail", **fields}), type=EnqueueRequest)


# --- shapes --------------------------------------------------------------------------------------------------------

JOB = Job(
    id="0199",
    name="mail",
    queue="default",
    data=msgspec.Raw(b'{"to":"x"}'),
    status=Status.RUNNING,
    priority=0,
    attempts=1,
    max_attempts=3,
    error=None,
    result=None,
    progress=Progress(value=0.5),
    created_at="c",
    started_at="s",
    completed_at=None,
    scheduled_for=None,
    processing_by="host:1",
    created_by="ann",
    unique_key=None,
    timeout=3600.0,
    tags=("a",),
    version=2,
    cancel_requested=False,
)


def test_a_job_on_the_wire_has_the_fields_of_the_design_in_camel_case() -> None:
    wire = msgspec.json.decode(msgspec.json.encode(JOB))
    assert " ".join(wire) == (
        "id name queue data status priority attempts maxAttempts error result progress createdAt startedAt completedAt "
        "scheduledFor processingBy createdBy uniqueKey timeout tags version cancelRequested"
    )
    assert (wire["data"], wire["status"], wire["progress"]) == ({"to": "x"}, "running", {"value": 0.5, "message": None})


def test_what_was_omitted_is_named_only_where_something_was() -> None:
    shortened = msgspec.structs.replace(JOB, data=None, omitted=("data",))
    assert msgspec.json.decode(msgspec.json.encode(shortened))["omitted"] == ["data"]
    assert "omitted" not in msgspec.json.decode(msgspec.json.encode(JOB))


def test_an_old_client_reads_a_newer_servers_job() -> None:
    wire = msgspec.json.decode(msgspec.json.encode(JOB)) | {"somethingNew": 1}
    assert msgspec.json.decode(msgspec.json.encode(wire), type=Job).id == JOB.id


def test_counts_are_told_with_the_queues_by_name() -> None:
    stats = Stats(pending=1, total=1, by_queue={"default": QueueStats(pending=1, total=1, paused=True)})
    zero = {"running": 0, "retrying": 0, "completed": 0, "failed": 0, "cancelled": 0}
    assert msgspec.to_builtins(stats) == {
        "pending": 1,
        **zero,
        "total": 1,
        "byQueue": {"default": {"pending": 1, **zero, "total": 1, "paused": True}},
    }


@pytest.mark.parametrize(("role", "scope"), [("admin", None), ("user", "ann"), ("", "ann"), ("Admin", "ann")])
def test_only_an_admin_sees_beyond_his_own(role: str, scope: str | None) -> None:
    who = Identity("ann", role, time.time(), "jti")
    assert (who.is_admin, who.scope) == (scope is None, scope)


# --- texts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limit", "clipped"),
    [
        ("", 5, ""),
        ("12345", 5, "12345"),
        ("123456", 5, "12…"),
        ("üüüü", 8, "üüüü"),
        ("üüüüü", 8, "üü…"),
        ("🎉🎉🎉", 8, "🎉…"),
        ("a\ud800b", 10, "a?b"),
    ],
)
def test_a_text_is_cut_to_bytes_but_never_inside_a_character(text: str, limit: int, clipped: str) -> None:
    assert clip(text, limit) == clipped


@settings(deadline=None)
@given(st.text(), st.integers(3, 50))
def test_a_cut_text_fits_and_can_be_encoded(text: str, limit: int) -> None:
    assert len(clip(text, limit).encode()) <= limit


def test_names_in_camel_case() -> None:
    assert camel(["id", "max_attempts", "a_b_c"]) == ["id", "maxAttempts", "aBC"]
