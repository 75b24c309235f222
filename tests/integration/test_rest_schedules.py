"""Schedules and pruning over HTTP."""
# ruff: noqa: F401, F811  (fixtures are imported by name)

import time
from typing import Any

import msgspec
import pytest
from rest_kit import Api, Build, api, make_api, user

from jobctl.schedule import ScheduleSpec
from jobctl.store.base import Completed
from jobctl.store.schedules import Planned

PATH = "/api/jobs/schedules"
SHOWN = {
    "name", "cron", "timezone", "enabled", "nextRun", "lastRun", "runCount", "jobName", "data", "queue", "priority",
    "maxAttempts", "timeout", "tags", "missed", "source", "lastJobId", "error", "createdBy", "createdAt", "updatedAt",
    "version",
}  # fmt: skip


def body(**fields: Any) -> dict[str, Any]:
    return {"name": "nightly", "cron": "30 2 * * *", "jobName": "noop"} | fields


def without_name(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in body(**fields).items() if name != "name"}


async def add(api: Api, **fields: Any) -> dict[str, Any]:
    answer = await api.post(PATH, body(**fields))
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.data
    return made


async def put(api: Api, name: str, asked: Any, **more: Any) -> Any:
    return await api.call("PUT", f"{PATH}/{name}", msgspec.json.encode(asked), **more)


async def configure(api: Api, name: str = "fixed") -> None:
    spec = ScheduleSpec(name=name, cron="@daily", timezone="UTC", job_name="noop")
    await api.store.schedules.sync([Planned(spec, 1)])


# --- what there is -------------------------------------------------------------------------------------------------


async def test_a_new_schedule_takes_the_defaults_and_is_shown_whole(api: Api) -> None:
    answer = await api.post(PATH, body())
    assert (answer.status, answer.headers["location"]) == (201, f"{PATH}/nightly")
    made = answer.data
    assert made.keys() == SHOWN
    assert made | {"nextRun": "", "createdAt": "", "updatedAt": ""} == body() | {
        "timezone": "UTC", "enabled": True, "nextRun": "", "lastRun": None, "runCount": 0, "data": {},
        "queue": "default", "priority": 0, "maxAttempts": None, "timeout": None, "tags": [], "missed": "skip",
        "source": "api", "lastJobId": None, "error": None, "createdBy": "root", "createdAt": "", "updatedAt": "",
        "version": 1,
    }  # fmt: skip
    assert made["nextRun"].endswith("T02:30:00.000Z")
    assert (await api.get(f"{PATH}/nightly")).data == made
    assert (await api.get(PATH)).data == {"schedules": [made]}


async def test_everything_that_is_said_is_kept(api: Api) -> None:
    said = body(
        timezone="Europe/Zurich", data={"a": [1, {"b": "\u00fc"}]}, queue="night", priority=-3, maxAttempts=9,
        timeout=1.5, tags=["x", "y"], missed="once", enabled=False,
    )  # fmt: skip
    made = await add(api, **said)
    assert {name: made[name] for name in said} == said
    assert made["nextRun"] is None


async def test_the_list_carries_position_and_tag_and_knows_what_has_not_changed(api: Api) -> None:
    await api.seed(3)
    await add(api)
    first = await api.get(PATH)
    assert first.headers["x-jobctl-position"] == f"{api.store.epoch}:3"
    again = await api.get(PATH, headers=[("If-None-Match", first.headers["etag"])])
    assert (again.status, again.body) == (304, b"")
    await add(api, name="other")
    assert (await api.get(PATH, headers=[("If-None-Match", first.headers["etag"])])).status == 200
    one = await api.get(f"{PATH}/nightly")
    assert (await api.get(f"{PATH}/nightly", headers=[("If-None-Match", one.headers["etag"])])).status == 304


async def test_large_data_is_left_out_of_the_list_only(api: Api) -> None:
    await add(api, data={"x": "a" * 5000})
    (listed,) = (await api.get(PATH)).data["schedules"]
    assert (listed["data"], listed["omitted"]) == (None, ["data"])
    assert (await api.get(f"{PATH}/nightly")).data["data"] == {"x": "a" * 5000}


async def test_schedules_and_stats_are_words_and_no_ids(api: Api) -> None:
    assert (await api.get("/api/jobs/schedules")).data == {"schedules": []}
    assert (await api.get("/api/jobs/stats")).data["total"] == 0
    for method in ("DELETE", "PUT", "PATCH"):
        (await api.call(method, "/api/jobs/schedules")).problem(405, "method_not_allowed")
    await add(api, name="stats")
    assert (await api.get(f"{PATH}/stats")).data["name"] == "stats"


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "code", "field"),
    [
        ({"cron": "0 0 31 2 *"}, 422, "invalid", "cron"),
        ({"cron": "every day"}, 422, "invalid", "cron"),
        ({"cron": "61 * * * *"}, 422, "invalid", "cron"),
        ({"cron": ""}, 422, "invalid", "cron"),
        ({"cron": "*" * 201}, 422, "invalid", "cron"),
        ({"cron": 5}, 422, "invalid", "cron"),
        ({"timezone": "Mars/Base"}, 422, "invalid", "timezone"),
        ({"timezone": "../../etc/passwd"}, 422, "invalid", "timezone"),
        ({"jobName": "nope"}, 422, "unknown_handler", "jobName"),
        ({"jobName": "resize", "data": {}}, 422, "invalid", "data.path"),
        ({"jobName": "resize", "data": {"path": "a", "x": 1}}, 422, "invalid", "data.x"),
        ({"name": "a b"}, 422, "invalid", "name"),
        ({"name": "a\n"}, 422, "invalid", "name"),
        ({"queue": "a\n"}, 422, "invalid", "queue"),
        ({"tags": ["x"] * 21}, 422, "invalid", "tags"),
        ({"priority": "3"}, 422, "invalid", "priority"),
        ({"missed": "all"}, 422, "invalid", "missed"),
        ({"enabled": 1}, 422, "invalid", "enabled"),
        ({"uniqueKey": "k"}, 422, "invalid", "uniqueKey"),
        ({"data": {"x": "a" * 70_000}}, 413, "too_large", "data"),
        ({"data": {"x": "\0"}}, 422, "invalid", "data"),
    ],
)
async def test_what_cannot_be_is_refused_with_the_field(
    api: Api, fields: dict[str, Any], status: int, code: str, field: str
) -> None:
    assert (await api.post(PATH, body(**fields))).problem(status, code)["field"] == field
    await add(api, name="there")
    if "name" not in fields:
        assert (await put(api, "there", without_name(**fields))).problem(status, code)["field"] == field
    assert len((await api.get(PATH)).data["schedules"]) == 1


async def test_an_unknown_handler_is_told_with_those_that_there_are(api: Api) -> None:
    assert (await api.post(PATH, body(jobName="x"))).problem(422, "unknown_handler")["known"] == ["noop", "resize"]


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'"x"', b"[" * 100_000, b'{"name":"\\ud800"}'])
async def test_what_is_no_schedule_is_refused(api: Api, raw: bytes) -> None:
    answer = await api.post(PATH, raw)
    assert answer.status in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_name_that_is_taken_is_a_conflict(api: Api) -> None:
    await add(api)
    assert "nightly already" in (await api.post(PATH, body())).problem(409, "conflict")["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/trigger"), ("POST", "/enable"), ("POST", "/disable")],
)
async def test_one_that_is_not_there_is_not_found(api: Api, method: str, path: str) -> None:
    raw = msgspec.json.encode(without_name()) if method == "PUT" else b""
    (await api.call(method, f"{PATH}/nope{path}", raw)).problem(404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""), ("POST", ""), ("GET", "/nightly"), ("PUT", "/nightly"), ("DELETE", "/nightly"),
        ("POST", "/nightly/trigger"), ("POST", "/nightly/enable"), ("POST", "/nightly/disable"), ("GET", "/nope"),
    ],
)  # fmt: skip
async def test_schedules_are_for_admins(api: Api, method: str, path: str) -> None:
    await add(api)
    (await api.call(method, PATH + path, b"{}" if method in ("PUT", "POST") else b"", bearer=user("ann"))).problem(
        403, "forbidden"
    )
    (await api.call(method, PATH + path, bearer=None)).problem(401, "unauthorized")
    assert (await api.store.stats(owner=None)).value.total == 0


@pytest.mark.parametrize(("method", "path"), [("PUT", ""), ("DELETE", ""), ("POST", "/enable"), ("POST", "/disable")])
async def test_the_configurations_own_is_a_conflict_that_says_what_to_do(api: Api, method: str, path: str) -> None:
    await configure(api)
    raw = msgspec.json.encode(without_name()) if method == "PUT" else b""
    told = (await api.call(method, f"{PATH}/fixed{path}", raw)).problem(409, "conflict")
    assert told["detail"].endswith("change [schedules.fixed] there, and send the server SIGHUP or start it again")
    assert (await api.get(f"{PATH}/fixed")).data["version"] == 1
    assert (await api.post(f"{PATH}/fixed/trigger")).status == 201


# --- what may be done ----------------------------------------------------------------------------------------------


async def test_a_change_says_all_anew(api: Api) -> None:
    await add(api, data={"a": 1}, tags=["x"], queue="q")
    answer = await put(api, "nightly", without_name(cron="0 12 * * *", priority=2))
    assert answer.status == 200
    changed = answer.data
    assert (changed["cron"], changed["priority"], changed["data"], changed["tags"]) == ("0 12 * * *", 2, {}, [])
    assert (changed["queue"], changed["version"]) == ("default", 2)
    assert changed["nextRun"].endswith("T12:00:00.000Z")
    assert (await put(api, "nightly", body())).problem(422, "invalid")["field"] == "name"


async def test_one_that_rests_has_no_next_run_until_it_is_enabled(api: Api) -> None:
    made = await add(api)
    rests = (await api.post(f"{PATH}/nightly/disable")).data
    assert (rests["enabled"], rests["nextRun"]) == (False, None)
    awake = (await api.post(f"{PATH}/nightly/enable")).data
    assert (awake["enabled"], awake["nextRun"]) == (True, made["nextRun"])


async def test_triggering_enqueues_its_job_now(api: Api) -> None:
    await add(api, jobName="resize", data={"path": "a"}, enabled=False)
    answer = await api.post(f"{PATH}/nightly/trigger")
    job = answer.data
    assert (answer.status, answer.headers["location"]) == (201, f"/api/jobs/{job['id']}")
    assert (job["name"], job["data"], job["createdBy"]) == ("resize", {"path": "a"}, "schedule:nightly")
    assert (job["timeout"], job["maxAttempts"], job["status"]) == (12.5, 7, "pending")
    shown = (await api.get(f"{PATH}/nightly")).data
    assert (shown["lastJobId"], shown["runCount"], shown["nextRun"]) == (job["id"], 1, None)
    assert abs(time.time() - _seconds(shown["lastRun"])) < 60
    assert [each["id"] for each in (await api.get("/api/jobs?createdBy=schedule:nightly")).data["jobs"]] == [job["id"]]


def _seconds(text: str) -> float:
    from jobctl.model import parse_time

    return parse_time(text, field="lastRun") / 1000


async def test_a_users_list_does_not_show_what_schedules_enqueue(api: Api) -> None:
    await add(api)
    job = (await api.post(f"{PATH}/nightly/trigger")).data
    assert (await api.get("/api/jobs", bearer=user("ann"))).data["jobs"] == []
    (await api.get(f"/api/jobs/{job['id']}", bearer=user("ann"))).problem(404, "not_found")


async def test_a_removed_schedule_is_gone(api: Api) -> None:
    await add(api)
    assert (await api.call("DELETE", f"{PATH}/nightly")).data == {"name": "nightly"}
    (await api.get(f"{PATH}/nightly")).problem(404, "not_found")
    (await api.call("DELETE", f"{PATH}/nightly")).problem(404, "not_found")


# --- pruning -------------------------------------------------------------------------------------------------------


async def ended(api: Api, n: int, owner: str) -> None:
    await api.seed(n, owner=owner)
    for one in (await api.store.claim(n, worker="w", limits={}, busy={})).claims:
        await api.store.finish(one.job.id, one.run, Completed(b"1"))


async def test_pruning_counts_first_and_then_removes(api: Api) -> None:
    await ended(api, 3, "ann")
    await ended(api, 2, "ben")
    await api.seed(1)
    api.store.clock = lambda: int(time.time() * 1000) + 5000
    asked = {"olderThan": 4, "statuses": ["completed", "failed"]}
    counted = (await api.post("/api/admin/prune", asked | {"dryRun": True})).data
    assert counted | {"finishedBefore": ""} == {
        "count": 5, "byStatus": {"completed": 5, "failed": 0}, "finishedBefore": "", "dryRun": True, "more": False,
    }  # fmt: skip
    assert (await api.store.stats(owner=None)).value.total == 6
    done = (await api.post("/api/admin/prune", asked)).data
    assert (done["count"], done["byStatus"], done["dryRun"]) == (5, {"completed": 5, "failed": 0}, False)
    assert (await api.store.stats(owner=None)).value.total == 1
    assert (await api.post("/api/admin/prune", {"olderThan": 0})).data["byStatus"] == {
        "completed": 0, "failed": 0, "cancelled": 0,
    }  # fmt: skip


async def test_what_is_young_stays(api: Api) -> None:
    await ended(api, 2, "ann")
    assert (await api.post("/api/admin/prune", {"olderThan": 3600})).data["count"] == 0
    assert (await api.store.stats(owner=None)).value.total == 2


async def test_a_pruning_that_takes_long_is_asked_for_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await ended(api, 2, "ann")
    api.store.clock = lambda: int(time.time() * 1000) + 5000
    monkeypatch.setattr("jobctl.engine.maintenance.prune.__kwdefaults__", {"within": 0})
    assert (await api.post("/api/admin/prune", {"olderThan": 0})).data["more"] is True


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "olderThan"),
        ({"olderThan": "30d"}, "olderThan"),
        ({"olderThan": -1}, "olderThan"),
        ({"olderThan": 1e300}, "olderThan"),
        ({"olderThan": 1, "statuses": ["running"]}, "statuses"),
        ({"olderThan": 1, "statuses": "failed"}, "statuses"),
        ({"olderThan": 1, "statuses": []}, "statuses"),
        ({"olderThan": 1, "all": True}, "all"),
    ],
)
async def test_a_pruning_is_asked_for_strictly(api: Api, asked: dict[str, Any], field: str) -> None:
    assert (await api.post("/api/admin/prune", asked)).problem(422, "invalid")["field"].startswith(field)


async def test_pruning_is_for_admins(api: Api) -> None:
    (await api.post("/api/admin/prune", {"olderThan": 0}, bearer=user("ann"))).problem(403, "forbidden")


async def test_the_log_over_http_tells_a_user_of_its_own_pruned_jobs_only(api: Api) -> None:
    await ended(api, 3, "ann")
    await ended(api, 2, "ben")
    api.store.clock = lambda: int(time.time() * 1000) + 5000
    await api.post("/api/admin/prune", {"olderThan": 0})
    since = f"/api/events?limit=1000&since={api.store.epoch}:0"
    for bearer, count in (("", 5), (user("ann"), 3), (user("ben"), 2), (user("eve"), None)):
        told = [e for e in (await api.get(since, bearer=bearer)).data["events"] if e["type"] == "jobs_pruned"]
        assert [e["count"] for e in told] == ([] if count is None else [count])
        assert all(e.keys() == {"type", "statuses", "finishedBefore", "count", "seq", "timestamp"} for e in told)


async def test_whoever_asks_for_events_before_the_logs_start_is_told_so(api: Api) -> None:
    await api.seed(5)
    await api.store.retention.prune_events(keep=2)
    epoch = api.store.epoch
    told = (await api.get(f"/api/events?since={epoch}:2")).data
    assert told == {"events": [], "position": f"{epoch}:5", "recovered": False}
    told = (await api.get(f"/api/events?since={epoch}:3")).data
    assert ([e["seq"] for e in told["events"]], told["recovered"]) == ([4, 5], True)
