"""Reading jobs and acting on them: lists, figures, tags, scopes, logs, history, queues."""
# ruff: noqa: F401, F811  (fixtures are imported by name)

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from rest_kit import ADMIN, MISSING, Answer, Api, api, make_api, user

from jobctl.model import MAX_INLINE
from jobctl.protocol.messages import JobUpdate, decode_server
from jobctl.store.base import Completed


async def names(api: Api, target: str, bearer: str = "") -> list[str]:
    return [job["name"] for job in (await api.get(target, bearer=bearer)).data["jobs"]]


async def test_lists_are_newest_first_in_pages_that_join(api: Api) -> None:
    ids = await api.seed(5)
    seen: list[str] = []
    cursor = ""
    for expected in (2, 2, 1):
        page = (await api.get(f"/api/jobs?limit=2{cursor}")).data
        assert len(page["jobs"]) == expected
        assert page["hasMore"] == (page["cursor"] is not None)
        seen += [job["id"] for job in page["jobs"]]
        cursor = f"&cursor={page['cursor']}"
    assert seen == list(reversed(ids))


@pytest.fixture
async def mixed(api: Api) -> Api:
    """Jobs to filter: names a, b, c in queues qa, qb, qc with tags ta+all, tb+all, tc+all; c runs."""
    for letter, priority in (("a", 0), ("b", 0), ("c", 9)):
        await api.seed(1, name=letter, queue=f"q{letter}", tags=(f"t{letter}", "all"), priority=priority)
    await api.store.set_paused("qa", True)
    await api.store.set_paused("qb", True)
    await api.start()
    return api


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "cba"),
        ("?", "cba"),
        ("status=running", "c"),
        ("status=pending", "ba"),
        ("status=pending&status=running", "cba"),
        ("status=pending,running", "cba"),
        ("status=failed,cancelled", ""),
        ("name=a", "a"),
        ("name=a,c", "ca"),
        ("name=a&name=c", "ca"),
        ("queue=qb", "b"),
        ("tag=ta", "a"),
        ("tag=ta,tb", "ba"),
        ("tag=all&name=b&status=pending", "b"),
        ("q=T%63", "c"),
        ("q=", "cba"),
        ("createdBy=root", "cba"),
        ("createdBy=nobody", ""),
        ("limit=1", "c"),
        ("name=", "cba"),
    ],
)
async def test_filters_narrow_a_list(mixed: Api, query: str, expected: str) -> None:
    assert "".join(await names(mixed, f"/api/jobs?{query}".replace("??", "?"))) == expected


@pytest.mark.parametrize(
    ("target", "status", "code", "field"),
    [
        ("/api/jobs?statsu=failed", 422, "invalid", "statsu"),
        ("/api/jobs?token=x", 422, "invalid", "token"),
        ("/api/jobs?created_by=x", 422, "invalid", "created_by"),
        ("/api/jobs?status=nope", 422, "invalid", "status"),
        ("/api/jobs?status=pending,nope", 422, "invalid", "status"),
        ("/api/jobs?limit=0", 422, "invalid", "limit"),
        ("/api/jobs?limit=201", 422, "invalid", "limit"),
        ("/api/jobs?limit=ten", 422, "invalid", "limit"),
        ("/api/jobs?limit=1.5", 422, "invalid", "limit"),
        ("/api/jobs?limit=" + "9" * 5000, 422, "invalid", "limit"),
        ("/api/jobs?limit=1&limit=2", 422, "invalid", "limit"),
        ("/api/jobs?q=" + "a" * 201, 422, "invalid", "q"),
        ("/api/jobs?name=a%20b", 422, "invalid", "name"),
        ("/api/jobs?name=" + ",".join(["a"] * 101), 422, "invalid", "name"),
        ("/api/jobs?q=%ff", 422, "invalid", None),
        ("/api/jobs?q=%ED%A0%80", 422, "invalid", None),
        ("/api/jobs?q=%00", 422, "invalid", None),
        ("/api/jobs?q=%zz", 422, "invalid", None),
        ("/api/jobs?q=%", 422, "invalid", None),
        ("/api/jobs?q=\xff", 400, "bad_request", None),
        ("/api/jobs?" + "&".join(["q=1"] * 1001), 422, "invalid", None),
        ("/api/jobs?cursor=rubbish", 400, "invalid_cursor", "cursor"),
        ("/api/jobs?cursor=", 400, "invalid_cursor", "cursor"),
        ("/api/jobs/stats?limit=1", 422, "invalid", "limit"),
        (f"/api/jobs/{MISSING}?x=1", 422, "invalid", "x"),
        (f"/api/jobs/{MISSING}/logs?after=-1", 422, "invalid", "after"),
        (f"/api/jobs/{MISSING}/logs?limit=1001", 422, "invalid", "limit"),
        (f"/api/jobs/{MISSING}/events?since=1", 422, "invalid", "since"),
        ("/api/handlers?x=1", 422, "invalid", "x"),
        ("/api/queues?x=1", 422, "invalid", "x"),
    ],
)
async def test_query_strings_are_taken_strictly(api: Api, target: str, status: int, code: str, field: str) -> None:
    told = (await api.get(target)).problem(status, code)
    assert told.get("field") == field


async def test_a_cursor_of_another_list_is_refused(api: Api) -> None:
    await api.seed(3)
    cursor = (await api.get("/api/jobs?limit=1")).data["cursor"]
    (await api.get(f"/api/jobs?limit=1&status=pending&cursor={cursor}")).problem(400, "invalid_cursor")
    (await api.get(f"/api/jobs?limit=1&cursor={cursor}", bearer=user("ann"))).problem(400, "invalid_cursor")


async def test_large_data_is_whole_only_when_one_job_is_asked_for(api: Api) -> None:
    job = await api.enqueue(data={"x": "a" * MAX_INLINE})
    listed = (await api.get("/api/jobs")).data["jobs"][0]
    assert listed["data"] is None
    assert listed["omitted"] == ["data"]
    assert (await api.get(f"/api/jobs/{job['id']}")).data["data"] == {"x": "a" * MAX_INLINE}


async def test_every_read_carries_the_position_at_which_it_was_true(api: Api) -> None:
    (job_id,) = await api.seed(1)
    await api.seed(2)
    paths = ("", "/stats", f"/{job_id}", f"/{job_id}/logs", f"/{job_id}/events")
    for target in (*(f"/api/jobs{path}" for path in paths), "/api/queues", "/api/events"):
        assert (await api.get(target)).headers["x-jobctl-position"] == f"{api.store.epoch}:3", target


TAGGED = ["/api/jobs", "/api/jobs/stats", "/api/queues", "/api/handlers", "JOB", "JOB/logs", "JOB/events"]


@pytest.mark.parametrize("target", TAGGED)
async def test_what_has_not_changed_is_304_until_it_does(api: Api, target: str) -> None:
    (job_id,) = await api.seed(1)
    target = target.replace("JOB", f"/api/jobs/{job_id}")
    first = await api.get(target)
    tag = first.headers["etag"]
    assert tag.startswith('"')
    assert first.headers["cache-control"] == "private, no-cache"
    for sent in (tag, f"W/{tag}", f'"other", {tag}', "*", f' W/"x" ,W/{tag}'):
        again = await api.get(target, headers=[("If-None-Match", sent)])
        assert (again.status, again.body) == (304, b""), sent
        assert again.headers["etag"] == tag
        assert "content-type" not in again.headers
        assert again.headers["cache-control"] == "private, no-cache"
        assert again.headers.get("x-jobctl-position") == first.headers.get("x-jobctl-position")
    for sent in ('"other"', tag.strip('"'), "", f"{tag[:-2]}"):
        assert (await api.get(target, headers=[("If-None-Match", sent)])).status == 200, sent
    if "handlers" not in target:
        await api.start()
        await api.log(job_id, "a line")
        assert (await api.get(target, headers=[("If-None-Match", tag)])).status == 200


async def test_one_job_can_be_cancelled_retried_and_deleted(api: Api) -> None:
    (job_id,) = await api.seed(1)
    path = f"/api/jobs/{job_id}"
    (await api.post(f"{path}/retry")).problem(409, "illegal_transition")
    assert (await api.post(f"{path}/cancel")).data["status"] == "cancelled"
    (await api.post(f"{path}/cancel")).problem(409, "illegal_transition")
    assert (await api.post(f"{path}/retry")).data["status"] == "pending"
    await api.start()
    told = (await api.call("DELETE", path)).problem(409, "illegal_transition")
    assert told["detail"] == "cannot delete a job that is running"
    cancelled = (await api.post(f"{path}/cancel")).data
    assert (cancelled["status"], cancelled["cancelRequested"]) == ("running", True)
    await api.store.finish(job_id, 1, Completed())
    assert (await api.call("DELETE", path)).data == {"id": job_id}
    (await api.get(path)).problem(404, "not_found")


async def test_a_retry_is_refused_while_the_unique_key_is_live_elsewhere(api: Api) -> None:
    first = await api.enqueue(uniqueKey="u")
    await api.post(f"/api/jobs/{first['id']}/cancel")
    await api.enqueue(uniqueKey="u")
    (await api.post(f"/api/jobs/{first['id']}/retry")).problem(409, "unique_key_live")


async def test_logs_come_in_pages_after_a_line(api: Api) -> None:
    (job_id,) = await api.seed(1)
    await api.start()
    await api.log(job_id, "one", "two", "three")
    page = (await api.get(f"/api/jobs/{job_id}/logs?limit=2")).data
    assert [(line["n"], line["stream"], line["text"]) for line in page["lines"]] == [
        (1, "stdout", "one"),
        (2, "stdout", "two"),
    ]
    assert page["hasMore"] is True
    page = (await api.get(f"/api/jobs/{job_id}/logs?after=2")).data
    assert ([line["text"] for line in page["lines"]], page["hasMore"]) == (["three"], False)


async def test_a_jobs_history_is_its_stream_messages(api: Api) -> None:
    await api.seed(1)
    (job_id,) = await api.seed(1, priority=1)
    await api.start()
    events = (await api.get(f"/api/jobs/{job_id}/events")).data["events"]
    messages: list[Any] = [decode_server(msgspec.json.encode(event)) for event in events]
    assert all(isinstance(message, JobUpdate) for message in messages)
    assert [(m.seq, m.job.id, m.job.status) for m in messages] == [(2, job_id, "pending"), (3, job_id, "running")]


# --- who may see what ------------------------------------------------------------------------------------------------


async def test_a_user_sees_only_what_it_created(api: Api) -> None:
    await api.seed(2)
    await api.seed(1, owner="ben", queue="bens")
    mine = await api.enqueue(bearer=user("ann"))
    assert mine["createdBy"] == "ann"
    assert [job["id"] for job in (await api.get("/api/jobs", bearer=user("ann"))).data["jobs"]] == [mine["id"]]
    stats = (await api.get("/api/jobs/stats", bearer=user("ann"))).data
    assert (stats["total"], stats["pending"], list(stats["byQueue"])) == (1, 1, ["default"])
    assert (await api.get("/api/jobs/stats")).data["total"] == 4
    assert await names(api, "/api/jobs?createdBy=ben", user("ann")) == []
    assert await names(api, "/api/jobs?createdBy=ann", user("ann")) == ["noop"]
    assert await names(api, "/api/jobs?createdBy=ben") == ["noop"]


@pytest.mark.parametrize(
    ("method", "suffix"),
    [("GET", ""), ("DELETE", ""), ("POST", "/retry"), ("POST", "/cancel"), ("GET", "/logs"), ("GET", "/events")],
)
async def test_somebody_elses_job_is_answered_as_one_that_is_not_there(api: Api, method: str, suffix: str) -> None:
    (theirs,) = await api.seed(1, owner="ben")
    ids = [("request-id", "r")]
    found = await api.call(method, f"/api/jobs/{theirs}{suffix}", bearer=user("ann"), headers=ids)
    absent = await api.call(method, f"/api/jobs/{MISSING}{suffix}", bearer=user("ann"), headers=ids)
    found.problem(404, "not_found")
    assert found.body == absent.body
    changing = {"x-request-id", "x-ratelimit-remaining", "x-ratelimit-reset"}
    assert {*found.headers.items()} ^ {*absent.headers.items()} <= {
        (name, value) for answer in (found, absent) for name, value in answer.headers.items() if name in changing
    }
    assert (await api.get(f"/api/jobs/{theirs}")).data["status"] == "pending"


async def test_queues_are_for_admins(api: Api) -> None:
    for method, target in (("GET", "/api/queues"), ("POST", "/api/queues/default/pause")):
        (await api.call(method, target, bearer=user("ann"))).problem(403, "forbidden")
        (await api.call("POST", "/api/queues/absent/resume", bearer=user("ann"))).problem(403, "forbidden")
    assert (await api.get("/api/queues")).data["queues"][0]["paused"] is False


async def test_queues_are_listed_paused_and_resumed(api: Api) -> None:
    await api.seed(2, queue="slow")
    queues = {queue["name"]: queue for queue in (await api.get("/api/queues")).data["queues"]}
    assert (queues["default"]["concurrency"], queues["slow"]["concurrency"]) == (None, 2)
    assert (queues["slow"]["counts"]["pending"], queues["slow"]["counts"]["total"]) == (2, 2)
    paused = (await api.post("/api/queues/slow/pause")).data
    assert (paused["name"], paused["paused"], paused["concurrency"]) == ("slow", True, 2)
    assert (await api.get("/api/jobs/stats")).data["byQueue"]["slow"]["paused"] is True
    assert (await api.post("/api/queues/slow/resume")).data["paused"] is False
    (await api.post("/api/queues/absent/pause")).problem(404, "not_found")


async def test_handlers_are_shown_with_their_fields(api: Api) -> None:
    shown = (await api.get("/api/handlers", bearer=user("ann"))).data["handlers"]
    resize = next(each for each in shown if each["name"] == "resize")
    assert resize["kind"] == "thread"
    assert [(each["name"], each["required"]) for each in resize["fields"]] == [("path", True), ("width", False)]
    assert (resize["timeout"], resize["maxAttempts"]) == (12.5, 7)
