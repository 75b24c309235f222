"""``POST /api/jobs`` and ``/batch``: what is taken, what is refused and in which words."""
# ruff: noqa: F401, F811  (fixtures are imported by name)

import logging
import math
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import msgspec
import pytest
from rest_kit import ADMIN, Api, Then, api, make_api, user

from jobctl.model import MAX_BATCH, MAX_DATA
from jobctl.web import enqueue
from jobctl.web.request import MAX_BODY, LimitedBody


async def test_a_job_is_answered_with_201_its_place_and_all_of_it(api: Api) -> None:
    answer = await api.post(
        "/api/jobs",
        {"name": "noop", "data": {"a": [1, "é"]}, "queue": "q1", "priority": 5, "tags": ["x", "y"], "uniqueKey": "k"},
    )
    job = answer.data
    assert answer.status == 201
    assert answer.headers["location"] == f"/api/jobs/{job['id']}"
    assert job | {"id": "", "createdAt": ""} == {
        "id": "",
        "name": "noop",
        "queue": "q1",
        "data": {"a": [1, "é"]},
        "status": "pending",
        "priority": 5,
        "attempts": 0,
        "maxAttempts": 3,
        "error": None,
        "result": None,
        "progress": None,
        "createdAt": "",
        "startedAt": None,
        "completedAt": None,
        "scheduledFor": None,
        "processingBy": None,
        "createdBy": ADMIN,
        "uniqueKey": "k",
        "timeout": 3600.0,
        "tags": ["x", "y"],
        "version": 1,
        "cancelRequested": False,
    }
    assert (await api.get(answer.headers["location"])).data == job


async def test_a_handlers_limits_hold_where_the_request_says_nothing(api: Api) -> None:
    job = await api.enqueue(name="resize", data={"path": "a.png"})
    assert (job["timeout"], job["maxAttempts"]) == (12.5, 7)
    job = await api.enqueue(name="resize", data={"path": "a.png"}, timeout=3, maxAttempts=1)
    assert (job["timeout"], job["maxAttempts"]) == (3.0, 1)


async def test_a_delay_counts_from_now_and_the_past_is_fine(api: Api) -> None:
    before = time.time()
    due = datetime.fromisoformat((await api.enqueue(delay=60))["scheduledFor"]).timestamp()
    assert before + 59.9 < due < time.time() + 60.1
    assert (await api.enqueue(delay=0))["scheduledFor"] is None
    job = await api.enqueue(scheduledFor="2001-02-03T04:05:06+01:00")
    assert job["scheduledFor"] == "2001-02-03T03:05:06.000Z"


async def test_an_unknown_name_is_refused_with_the_names_that_there_are(api: Api) -> None:
    told = (await api.post("/api/jobs", {"name": "nope"})).problem(422, "unknown_handler")
    assert told["field"] == "name"
    assert told["known"] == ["noop", "resize"]


async def test_a_field_that_the_handler_lacks_is_named(api: Api) -> None:
    told = (await api.post("/api/jobs", {"name": "resize", "data": {}})).problem(422, "invalid")
    assert told["field"] == "data.path"


NESTED = b'{"name":"noop","data":{"x":' + b"[" * 150 + b"]" * 150 + b"}}"
BAD_BODIES: dict[str, tuple[bytes, int, str, str | None]] = {
    "nothing": (b"", 400, "malformed_json", None),
    "cut short": (b'{"name":', 400, "malformed_json", None),
    "not JSON": (b"name=noop", 400, "malformed_json", None),
    "more than one value": (b'{"name":"noop"} {}', 400, "malformed_json", None),
    "a byte order mark": (b'\xef\xbb\xbf{"name":"noop"}', 400, "malformed_json", None),
    "NaN": (b'{"name":"noop","data":{"x":NaN}}', 400, "malformed_json", None),
    "Infinity": (b'{"name":"noop","data":{"x":-Infinity}}', 400, "malformed_json", None),
    "a raw NUL": (b'{"name":"noop","data":{"x":"\x00"}}', 400, "malformed_json", None),
    "not UTF-8 in data": (b'{"name":"noop","data":{"x":"\xff"}}', 400, "malformed_json", None),
    "not UTF-8 in a key": (b'{"name":"noop","\xff":1}', 400, "malformed_json", None),
    "a raw surrogate": (b'{"name":"noop","data":{"x":"\xed\xa0\x80"}}', 400, "malformed_json", None),
    "a lone high surrogate": (b'{"name":"noop","data":{"x":"\\ud800"}}', 400, "malformed_json", None),
    "a lone low surrogate": (b'{"name":"noop","data":{"x":"\\udc00"}}', 400, "malformed_json", None),
    "100,000 brackets": (b'{"name":"noop","data":{"x":' + b"[" * 100_000, 400, "malformed_json", None),
    "deep and cut short": (b'{"name":"noop","data":{"x":' + b"[" * 99 + b"]" * 98, 400, "malformed_json", None),
    "150 levels": (NESTED, 422, "invalid", "data"),
    "an escaped NUL": (b'{"name":"noop","data":{"x":"a\\u0000b"}}', 422, "invalid", "data"),
    "an escaped NUL in a key": (b'{"name":"noop","data":{"\\u0000":1}}', 422, "invalid", "data"),
    "a number of 5,000 digits": (b'{"name":"noop","data":{"x":' + b"9" * 5000 + b"}}", 422, "invalid", "data"),
    "a number beyond a double": (b'{"name":"noop","data":{"x":1e999}}', 422, "invalid", "data"),
    "priority of 5,000 digits": (b'{"name":"noop","priority":' + b"9" * 5000 + b"}", 422, "invalid", "priority"),
    "an array": (b"[]", 422, "invalid", None),
    "a string": (b'"noop"', 422, "invalid", None),
    "null": (b"null", 422, "invalid", None),
    "no name": (b"{}", 422, "invalid", "name"),
    "a field that there is not": (b'{"name":"noop","prio":1}', 422, "invalid", "prio"),
    "a snake_case field": (b'{"name":"noop","max_attempts":1}', 422, "invalid", "max_attempts"),
    "an empty name": (b'{"name":""}', 422, "invalid", "name"),
    "a name with a blank": (b'{"name":"a b"}', 422, "invalid", "name"),
    "a name with a newline": (b'{"name":"noop\\n"}', 422, "invalid", "name"),
    "a long name": (b'{"name":"' + b"a" * 101 + b'"}', 422, "invalid", "name"),
    "a queue with a newline": (b'{"name":"noop","queue":"q\\n"}', 422, "invalid", "queue"),
    "a queue that is null": (b'{"name":"noop","queue":null}', 422, "invalid", "queue"),
    "data that is a list": (b'{"name":"noop","data":[1]}', 422, "invalid", "data"),
    "priority as text": (b'{"name":"noop","priority":"4"}', 422, "invalid", "priority"),
    "priority with a fraction": (b'{"name":"noop","priority":4.0}', 422, "invalid", "priority"),
    "priority as a boolean": (b'{"name":"noop","priority":true}', 422, "invalid", "priority"),
    "priority out of bounds": (b'{"name":"noop","priority":1000001}', 422, "invalid", "priority"),
    "no attempts": (b'{"name":"noop","maxAttempts":0}', 422, "invalid", "maxAttempts"),
    "no time": (b'{"name":"noop","timeout":0}', 422, "invalid", "timeout"),
    "a negative delay": (b'{"name":"noop","delay":-1}', 422, "invalid", "delay"),
    "a delay and a time": (b'{"name":"noop","delay":0,"scheduledFor":"2030-01-01T00:00:00Z"}', 422, "invalid", "delay"),
    "a time without a zone": (b'{"name":"noop","scheduledFor":"2030-01-01T00:00:00"}', 422, "invalid", "scheduledFor"),
    "a day that is none": (b'{"name":"noop","scheduledFor":"2030-02-30T00:00:00Z"}', 422, "invalid", "scheduledFor"),
    "an empty key": (b'{"name":"noop","uniqueKey":""}', 422, "invalid", "uniqueKey"),
    "a key with a newline": (b'{"name":"noop","uniqueKey":"k\\n"}', 422, "invalid", "uniqueKey"),
    "a tag of another type": (b'{"name":"noop","tags":["a","b","c",4]}', 422, "invalid", "tags[3]"),
    "a tag with a newline": (b'{"name":"noop","tags":["a","b\\n"]}', 422, "invalid", "tags[1]"),
    "21 tags": (msgspec.json.encode({"name": "noop", "tags": ["t"] * 21}), 422, "invalid", "tags"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
async def test_a_bad_body_gets_one_clear_problem_and_makes_no_job(api: Api, case: str) -> None:
    body, status, code, field = BAD_BODIES[case]
    told = (await api.post("/api/jobs", body)).problem(status, code)
    assert told.get("field") == field
    assert "`" not in told["detail"]
    assert len(told["detail"]) < 300
    assert (await api.get("/api/jobs/stats")).data["total"] == 0


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"name":"noop","priority":"4"}', "priority: expected integer, got string"),
        (b'{"name":"noop","timeout":"4"}', "timeout: expected number or null, got string"),
        (b'{"name":"a b"}', "name: expected 1 to 100 of A-Z a-z 0-9 . _ : -"),
        (b'{"name":"noop","tags":[1]}', "tags[0]: expected string, got integer"),
        (b'{"nam":"noop"}', "there is no field 'nam'"),
        (b"{}", "name is required"),
        (b'{"name":"noop","priority":1000001}', "priority: expected integer at most 1000000"),
        (b'{"name":"noop","timeout":0}', "timeout: expected number above 0.0"),
        (b"{", "the body is not JSON: it ends too early"),
    ],
)
async def test_problems_speak_of_wire_names_and_json_types(api: Api, body: bytes, detail: str) -> None:
    assert msgspec.json.decode((await api.post("/api/jobs", body)).body)["detail"] == detail


async def test_data_keeps_numbers_and_text_as_they_came(api: Api) -> None:
    raw = b'{"big":12345678901234567890123,"float":0.1,"text":"\\\\u0000 \xc3\xa9 \\ud83d\\ude00"}'
    answer = await api.post("/api/jobs", b'{"name":"noop","data":' + raw + b"}")
    assert answer.data["data"] == {"big": 12345678901234567890123, "float": 0.1, "text": "\\u0000 é 😀"}


async def test_data_may_have_64_kib_as_compact_json_and_not_one_byte_more(api: Api) -> None:
    room = MAX_DATA - len(b'{"x":""}')
    spaced = b'{"name":"noop","data":{ "x" :\n"%b" }}'
    assert (await api.post("/api/jobs", spaced % (b"a" * room))).status == 201
    told = (await api.post("/api/jobs", spaced % (b"a" * (room + 1)))).problem(413, "too_large")
    assert told["field"] == "data"


async def test_a_body_beyond_its_limit_is_refused_by_its_announced_length(api: Api) -> None:
    announced = [("Content-Length", str(MAX_BODY + 1))]
    answer = await api.call("POST", "/api/jobs", [Then.NOTHING], headers=announced)
    assert str(MAX_BODY) in answer.problem(413, "too_large")["detail"]


@pytest.mark.parametrize(("path", "limit"), [("/api/jobs", MAX_BODY), ("/api/jobs/batch", 16 * 1024 * 1024)])
async def test_an_endless_body_is_refused_as_soon_as_it_exceeds_the_limit(api: Api, path: str, limit: int) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 65536

    (await api.call("POST", path, endless())).problem(413, "too_large")
    assert limit < api.consumed < limit + 20 * 65536


async def test_a_body_that_nobody_reads_is_not_kept(api: Api) -> None:
    body = LimitedBody(None, None)
    for _ in range(100):
        body.append(b" " * 65536)
    assert body._chunks == []
    assert (await api.call("GET", "/api/jobs", [b"x" * 10])).status == 200


async def test_a_body_that_does_not_come_ends_the_request(api: Api, autojump_clock: object) -> None:
    answer = await api.call("POST", "/api/jobs", [b'{"name":', Then.NOTHING], patience_s=math.inf)
    answer.problem(408, "request_timeout")


@pytest.mark.parametrize("target", ["/api/jobs", "/api/jobs/batch"])
async def test_a_client_that_leaves_before_its_body_is_whole_makes_no_job(
    api: Api, caplog: pytest.LogCaptureFixture, target: str
) -> None:
    assert (await api.call("POST", target, [b'{"name":"noop"}', Then.LEAVE])).status == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (await api.get("/api/jobs/stats")).data["total"] == 0


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (None, 201),
        ("application/json", 201),
        ("application/json; charset=utf-8", 201),
        ("Application/JSON;charset=UTF-8", 201),
        ("application/vnd.jobctl+json", 201),
        ("application/json; charset=utf-16", 415),
        ("application/x-ndjson", 415),
        ("text/plain", 415),
        ("text/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("rubbish", 415),
    ],
)
async def test_only_json_is_taken(api: Api, kind: str | None, status: int) -> None:
    headers = [] if kind is None else [("Content-Type", kind)]
    answer = await api.post("/api/jobs", {"name": "noop"}, headers=headers)
    if status == 415:
        answer.problem(415, "unsupported_media_type")
    assert answer.status == status


# --- unique and idempotent -------------------------------------------------------------------------------------------


async def test_a_live_unique_key_of_the_same_owner_gives_that_job_with_200(api: Api) -> None:
    first = await api.enqueue(uniqueKey="nightly")
    again = await api.post("/api/jobs", {"name": "noop", "uniqueKey": "nightly", "priority": 9})
    assert again.status == 200
    assert again.data == first
    assert "location" not in again.headers
    other = await api.post("/api/jobs", {"name": "noop", "uniqueKey": "nightly"}, bearer=user("ann"))
    assert other.status == 201
    assert other.data["id"] != first["id"]


async def test_a_repeated_request_is_answered_as_the_first_and_makes_no_job(api: Api) -> None:
    key = [("Idempotency-Key", "k-1")]
    first = await api.post("/api/jobs", b'{"name":"noop","delay":60,"data":{"a":1,"b":2}}', headers=key)
    again = await api.post("/api/jobs", b'{ "data": {"b":2, "a":1}, "delay": 60, "name": "noop" }', headers=key)
    assert (first.status, again.status) == (201, 201)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.data == first.data
    assert (await api.get("/api/jobs/stats")).data["total"] == 1


async def test_a_replay_of_an_answer_200_is_200_again(api: Api) -> None:
    await api.enqueue(uniqueKey="u")
    for _ in range(2):
        answer = await api.post("/api/jobs", {"name": "noop", "uniqueKey": "u"}, headers=[("Idempotency-Key", "k")])
        assert answer.status == 200
    assert answer.headers["idempotency-replayed"] == "true"


async def test_a_key_used_for_another_request_is_422(api: Api) -> None:
    key = [("Idempotency-Key", "k-1")]
    await api.post("/api/jobs", {"name": "noop"}, headers=key)
    (await api.post("/api/jobs", {"name": "noop", "priority": 1}, headers=key)).problem(422, "idempotency_mismatch")
    (await api.post("/api/jobs/batch", [{"name": "noop"}], headers=key)).problem(422, "idempotency_mismatch")
    assert (await api.post("/api/jobs", {"name": "noop"}, headers=key, bearer=user("ann"))).status == 201


@pytest.mark.parametrize("keys", [[""], ["a" * 201], ["caf\xe9"], ["a\tb"], ["a", "a"]])
async def test_an_idempotency_key_is_1_to_200_printable_ascii_characters(api: Api, keys: list[str]) -> None:
    headers = [("Idempotency-Key", key) for key in keys]
    told = (await api.post("/api/jobs", {"name": "noop"}, headers=headers)).problem(422, "invalid")
    assert told["field"] == "Idempotency-Key"


# --- batches ---------------------------------------------------------------------------------------------------------

NDJSON = [("Content-Type", "application/x-ndjson")]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'[{"name":"noop"},{"name":"noop","uniqueKey":"u"},{"name":"noop","uniqueKey":"u"}]', []),
        (b'{"name":"noop"}\r\n\n{"name":"noop","uniqueKey":"u"}\n{"name":"noop","uniqueKey":"u"}', NDJSON),
    ],
    ids=["array", "lines"],
)
async def test_a_batch_is_an_array_or_one_job_a_line(api: Api, body: bytes, headers: list[tuple[str, str]]) -> None:
    answer = await api.post("/api/jobs/batch", body, headers=headers)
    assert answer.status == 201
    assert (answer.data["created"], answer.data["existing"]) == (2, 1)
    ids = answer.data["ids"]
    assert len(ids) == 3
    assert ids[1] == ids[2]
    assert [job["id"] for job in (await api.get("/api/jobs")).data["jobs"]] == [ids[1], ids[0]]


async def test_a_batch_of_one_and_its_replay_are_batches(api: Api) -> None:
    for _ in range(2):
        answer = await api.post("/api/jobs/batch", [{"name": "noop"}], headers=[("Idempotency-Key", "b")])
        assert answer.status == 201
        assert answer.data["created"] == 1
    assert answer.headers["idempotency-replayed"] == "true"


GOOD = b'{"name":"noop"}'
BAD_BATCHES: dict[str, tuple[bytes, list[tuple[str, str]], int, str, str | None]] = {
    "empty array": (b"[]", [], 422, "invalid", "jobs"),
    "no lines": (b"\n \n", NDJSON, 422, "invalid", "jobs"),
    "nothing": (b"", [], 400, "malformed_json", "jobs"),
    "an object": (GOOD, [], 422, "invalid", "jobs"),
    "a number in it": (b"[%b,7]" % GOOD, [], 422, "invalid", "jobs[1]"),
    "wrong type": (b'[%b,{"name":"noop","priority":"x"}]' % GOOD, [], 422, "invalid", "jobs[1].priority"),
    "wrong tag": (b'[%b,{"name":"noop","tags":[1]}]' % GOOD, [], 422, "invalid", "jobs[1].tags[0]"),
    "unknown field": (b'[%b,{"name":"noop","prio":1}]' % GOOD, [], 422, "invalid", "jobs[1].prio"),
    "missing field": (b"[%b,{}]" % GOOD, [], 422, "invalid", "jobs[1].name"),
    "unknown handler": (b'[%b,{"name":"nope"}]' % GOOD, [], 422, "unknown_handler", "jobs[1].name"),
    "handler's field": (b'[%b,{"name":"resize"}]' % GOOD, [], 422, "invalid", "jobs[1].data.path"),
    "newline": (b'[%b,{"name":"noop\\n"}]' % GOOD, [], 422, "invalid", "jobs[1].name"),
    "large data": (
        b'[%b,{"name":"noop","data":{"x":"%b"}}]' % (GOOD, b"a" * MAX_DATA), [], 413, "too_large", "jobs[1].data",
    ),
    "line not JSON": (b"%b\n\n{nope}\n" % GOOD, NDJSON, 400, "malformed_json", "jobs[1]"),
    "line wrong": (b'%b\n\n{"name":"noop","priority":1.5}' % GOOD, NDJSON, 422, "invalid", "jobs[1].priority"),
    "line unknown": (b'%b\n{"name":"nope"}' % GOOD, NDJSON, 422, "unknown_handler", "jobs[1].name"),
    "line not UTF-8": (b'%b\n{"name":"\xff"}' % GOOD, NDJSON, 400, "malformed_json", "jobs[1]"),
    "too many": (b"[" + b",".join([GOOD] * (MAX_BATCH + 1)) + b"]", [], 413, "too_large", "jobs"),
    "too many lines": (b"\n".join([GOOD] * (MAX_BATCH + 1)), NDJSON, 413, "too_large", "jobs"),
}


@pytest.mark.parametrize("case", BAD_BATCHES)
async def test_a_bad_job_fails_the_whole_batch_and_is_named_by_its_place(api: Api, case: str) -> None:
    body, headers, status, code, field = BAD_BATCHES[case]
    told = (await api.post("/api/jobs/batch", body, headers=headers)).problem(status, code)
    assert told.get("field") == field
    assert (await api.get("/api/jobs/stats")).data["total"] == 0


async def test_a_line_that_is_wrong_is_told_by_its_number(api: Api) -> None:
    told = await api.post("/api/jobs/batch", b"%b\n\n{nope}" % GOOD, headers=NDJSON)
    assert told.problem(400, "malformed_json")["detail"].startswith("line 3: ")


async def test_ten_thousand_jobs_are_one_batch(make_api: Callable[..., Api]) -> None:
    api = make_api()
    answer = await api.post("/api/jobs/batch", b"\n".join([GOOD] * MAX_BATCH), headers=NDJSON)
    assert answer.data["created"] == MAX_BATCH
    assert (await api.get("/api/jobs/stats")).data["pending"] == MAX_BATCH


async def test_a_million_tiny_jobs_cost_no_more_than_ten_thousand(api: Api) -> None:
    body = b"[" + b",".join([b'{"name":"a"}'] * 1_000_000) + b"]"
    (await api.post("/api/jobs/batch", body)).problem(413, "too_large")
    with pytest.raises(Exception, match="at most"):
        enqueue._decode_array(body)
    assert enqueue._counter.n == MAX_BATCH + 1, "the rest was decoded too"


async def test_a_store_with_too_many_queues_refuses_one_more(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobctl.store.enqueue.MAX_QUEUES", 2)
    await api.enqueue(queue="second")
    told = (await api.post("/api/jobs", {"name": "noop", "queue": "third"})).problem(413, "too_large")
    assert told["field"] == "queue"
