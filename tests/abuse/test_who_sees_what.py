"""Two users and an admin at every route: what is one's stays one's, and what is not one's is as if it were not there.

``ROUTES`` has a row for every route, and the table of the stream's messages one for every message: a new one without a
row fails here.
"""


import base64
import itertools
import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from rest_kit import MISSING, Answer, Api, api, make_api, user

from jobctl.store.base import Completed, Failed, LogEntry, Outcome

__all__ = ["api", "make_api"]

ANN, BOB = user("ann"), user("bob")
CANARY = "annsCanary"
JOB, NAME, QUEUE, TOKEN = "<job_id:job_id>", "<queue_name:name>", "<queue_name:name>", "<token_id:jti>"

ROUTES: dict[tuple[str, str], str] = {
    **{("GET", path): "anybody" for path in ("/", "/static/<name>", "/healthz", "/readyz", "/api/openapi.json")},
    **{("POST", f"/api/auth/{step}"): "anybody" for step in ("login", "refresh", "logout")},
    ("GET", "/metrics"): "programs on this machine, and admins",
    ("GET", "/api/server"): "signed in",
    ("GET", "/api/handlers"): "signed in",
    ("POST", "/api/jobs"): "makes one's own",
    ("POST", "/api/jobs/batch"): "makes one's own",
    ("GET", "/api/jobs"): "lists one's own",
    ("GET", "/api/jobs/stats"): "lists one's own",
    ("GET", "/api/events"): "lists one's own",
    ("POST", "/api/jobs/bulk"): "lists one's own",
    **{("GET", f"/api/jobs/{JOB}{part}"): "one's own" for part in ("", "/logs", "/events")},
    **{("POST", f"/api/jobs/{JOB}/{action}"): "one's own" for action in ("retry", "cancel")},
    ("DELETE", f"/api/jobs/{JOB}"): "one's own",
    **{(method, "/api/jobs/schedules"): "admins" for method in ("GET", "POST")},
    **{(method, f"/api/jobs/schedules/{NAME}"): "admins" for method in ("GET", "PUT", "DELETE")},
    **{("POST", f"/api/jobs/schedules/{NAME}/{do}"): "admins" for do in ("trigger", "enable", "disable")},
    ("GET", "/api/queues"): "admins",
    ("GET", "/api/workers"): "admins",
    **{("POST", f"/api/queues/{QUEUE}/{do}"): "admins" for do in ("pause", "resume")},
    **{(method, "/api/tokens"): "admins" for method in ("GET", "POST")},
    ("DELETE", f"/api/tokens/{TOKEN}"): "admins",
    ("POST", "/api/auth/codes"): "admins",
    **{("POST", f"/api/admin/{do}"): "admins" for do in ("prune", "backup")},
}  # fmt: skip


def rows(kind: str) -> list[tuple[str, str]]:
    return [route for route, who in ROUTES.items() if who == kind]


def told(answer: Answer) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All of an answer that could tell something; not what counts requests or names this one."""
    own = {"x-request-id", "x-ratelimit-remaining", "x-ratelimit-reset"}
    return answer.status, answer.body, [pair for pair in answer.pairs if pair[0] not in own]


async def test_every_route_has_a_row(api: Api) -> None:
    found = {
        (method, rule.rule)
        for rule in api.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert found == set(ROUTES)


@pytest.fixture
async def anns(api: Api) -> dict[str, str]:
    """A job of ann's in every status, each full of what nobody else may learn."""
    found = {}
    fields = {
        "name": "noop", "queue": CANARY, "tags": (CANARY, "shared"), "data": json.dumps({CANARY: CANARY}).encode(),
    }  # fmt: skip
    for status in ("running", "completed", "failed", "retrying"):
        (job_id,) = await api.seed(1, owner="ann", priority=1, unique_key=f"{CANARY}-{status}", **fields)
        assert await api.start() == job_id
        assert await api.store.append_logs(job_id, 1, [LogEntry(1, "stdout", CANARY)])
        await api.store.progress(job_id, 1, value=0.5, message=CANARY)
        if status != "running":
            await finish(api, job_id, status)
        found[status] = job_id
    for status in ("cancelled", "pending"):
        (found[status],) = await api.seed(1, owner="ann", unique_key=f"{CANARY}-{status}", **fields)
    await api.store.cancel(found["cancelled"], owner="ann")
    for status, job_id in found.items():
        assert (await api.get(f"/api/jobs/{job_id}")).data["status"] == status
    return found


async def finish(api: Api, job_id: str, status: str) -> None:
    """End the first run."""
    outcomes: dict[str, Outcome] = {
        "completed": Completed(json.dumps({CANARY: CANARY}).encode()),
        "failed": Failed(CANARY, retry=False),
        "retrying": Failed(CANARY, delay=10_000),
    }
    assert await api.store.finish(job_id, 1, outcomes[status])


async def state(api: Api) -> list[Any]:
    """Everything that an admin sees."""
    paths = ("/api/jobs?limit=200", "/api/jobs/stats", "/api/queues", "/api/jobs/schedules", "/api/tokens")
    return [(await api.get(path)).data for path in paths]


# --- one job -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "rule"), rows("one's own"))
async def test_whatever_becomes_of_anns_job_to_bob_it_is_not_there(
    api: Api, anns: dict[str, str], method: str, rule: str
) -> None:
    """In every status, by every way to ask: to the byte what is said of an id that never was."""
    before = await state(api)
    variants: list[tuple[str, str, list[tuple[str, str]]]] = [(method, "", [])]
    if method == "GET":
        variants += [("HEAD", "", []), ("GET", "", [("If-None-Match", "*")]), ("GET", "", [("If-Match", "*")])]
        variants += [("GET", "", [("Range", "bytes=0-1")]), ("OPTIONS", "", [])]
        for job_id in anns.values():
            tag = (await api.get(rule.replace(JOB, job_id), bearer=ANN)).headers["etag"]
            variants.append(("GET", "", [("If-None-Match", tag)]))
    if rule.endswith("/logs"):
        variants += [("GET", query, []) for query in ("?after=0", "?after=1", "?after=99&limit=1", "?after=-1")]
    for how, query, headers in variants:
        absent = await api.call(how, rule.replace(JOB, MISSING) + query, bearer=BOB, headers=headers)
        for job_id in anns.values():
            theirs = await api.call(how, rule.replace(JOB, job_id) + query, bearer=BOB, headers=headers)
            assert told(theirs) == told(absent), (how, query, headers)
    assert await state(api) == before


async def test_ids_near_anns_are_no_nearer_to_bob(api: Api, anns: dict[str, str]) -> None:
    """UUIDs of version 7 are guessed easily, by their time. Nothing hangs on that."""
    guess = list(anns["pending"])
    absent = told(await api.get(f"/api/jobs/{MISSING}", bearer=BOB))
    for place, digit in itertools.product((14, 19, 30, 35), "0f"):
        near = "".join([*guess[:place], digit, *guess[place + 1 :]])
        assert told(await api.get(f"/api/jobs/{near}", bearer=BOB)) == absent


# --- lists ---------------------------------------------------------------------------------------------------------

FILTERS = [
    "", "createdBy=ann", "createdBy=root", f"q={CANARY}", "q=noop", "q=0", "name=noop", f"queue={CANARY}",
    "queue=default", f"tag={CANARY}", "tag=shared", "tag=shared&createdBy=ann", "limit=1", "limit=200",
    *(f"status={each}" for each in ("pending", "running", "retrying", "completed", "failed", "cancelled")),
]  # fmt: skip


async def test_no_list_shows_bob_anything_of_anns(api: Api, anns: dict[str, str]) -> None:
    epoch = api.store.epoch
    paths = [f"/api/jobs?{each}" for each in FILTERS] + [f"/api/jobs?q={job_id[:8]}" for job_id in anns.values()]
    paths += [f"/api/events?since={epoch}:{seq}&limit=1000" for seq in (0, 3)] + ["/api/jobs/stats", "/api/events"]
    for path in paths:
        answer = await api.get(path, bearer=BOB)
        assert answer.status == 200, answer.body
        for secret in (CANARY, "ann", *anns.values()):
            assert secret.encode() not in answer.body, path
            assert all(secret not in value for _, value in answer.pairs), path
    assert (await api.get("/api/jobs", bearer=BOB)).data == {"jobs": [], "cursor": None, "hasMore": False}
    stats = (await api.get("/api/jobs/stats", bearer=BOB)).data
    assert {each for each in stats.values() if each != {}} == {0}
    assert stats["byQueue"] == {}
    assert (await api.get(f"/api/events?since={epoch}:0", bearer=BOB)).data["events"] == []
    assert len((await api.get("/api/jobs", bearer=ANN)).data["jobs"]) == len(anns)


@pytest.mark.parametrize("action", ["retry", "cancel", "delete"])
async def test_no_bulk_action_of_bobs_reaches_a_job_of_anns(api: Api, anns: dict[str, str], action: str) -> None:
    before = await state(api)
    statuses = ["pending", "running", "retrying", "completed", "failed", "cancelled"]
    filters: list[dict[str, Any]] = [
        {"status": statuses}, {"name": ["noop"]}, {"queue": [CANARY]}, {"tag": ["shared"]}, {"createdBy": "ann"},
        {"q": CANARY}, {"q": anns["pending"]},
    ]  # fmt: skip
    for wanted, dry in itertools.product(filters, (True, False)):
        body = {"action": action, "filter": wanted, "dryRun": dry}
        done = (await api.post("/api/jobs/bulk", body, bearer=BOB)).data
        assert done == {"matched": 0, "changed": 0, "skipped": 0, "byStatus": {}, "cursor": None, "refused": []}
    assert await state(api) == before


@pytest.mark.parametrize("action", ["retry", "cancel", "delete"])
async def test_of_ids_in_bulk_bob_hears_of_anns_what_he_hears_of_none(
    api: Api, anns: dict[str, str], action: str
) -> None:
    before = await state(api)
    body = {"action": action, "ids": [*anns.values(), MISSING]}
    done = (await api.post("/api/jobs/bulk", body, bearer=BOB)).data
    assert (done["changed"], done["byStatus"]) == (0, {})
    assert [each["id"] for each in done["refused"]] == body["ids"]
    assert len({(each["code"], each["detail"]) for each in done["refused"]}) == 1
    assert await state(api) == before


async def test_a_cursor_works_for_whoever_it_was_made_for_and_nobody_else(api: Api) -> None:
    await api.seed(4, owner="ann")
    await api.seed(4, owner="bob")
    cursors = {who: (await api.get("/api/jobs?limit=2", bearer=who)).data["cursor"] for who in (ANN, BOB, "")}
    for who, (whose, cursor) in itertools.product((ANN, BOB, ""), cursors.items()):
        answer = await api.get(f"/api/jobs?limit=2&cursor={cursor}", bearer=who)
        if who == whose:
            assert len(answer.data["jobs"]) == 2
        else:
            answer.problem(400, "invalid_cursor")
            rubbish = await api.get("/api/jobs?limit=2&cursor=rubbish", bearer=who)
            assert told(answer) == told(rubbish), "a good one of somebody else's is told from a bad one"


async def test_what_ann_does_changes_no_entity_tag_of_bobs(api: Api) -> None:
    (mine,) = await api.seed(1, owner="bob")
    paths = ["/api/jobs", "/api/jobs/stats", f"/api/jobs/{mine}", f"/api/jobs/{mine}/logs", f"/api/jobs/{mine}/events"]
    tags = [(await api.get(path, bearer=BOB)).headers["etag"] for path in paths]
    (theirs,) = await api.seed(1, owner="ann", queue=CANARY)
    await api.store.cancel(theirs, owner="ann")
    await api.store.set_paused(CANARY, True)
    for path, tag in zip(paths, tags, strict=True):
        answer = await api.get(path, bearer=BOB, headers=[("If-None-Match", tag)])
        assert (answer.status, answer.body) == (304, b""), path


# --- making jobs ---------------------------------------------------------------------------------------------------


async def test_bob_learns_nothing_from_anns_unique_keys(api: Api, anns: dict[str, str]) -> None:
    for status, theirs in anns.items():
        job = {"name": "noop", "uniqueKey": f"{CANARY}-{status}"}
        first = await api.post("/api/jobs", job, bearer=BOB)
        again = await api.post("/api/jobs", job, bearer=BOB)
        assert (first.status, again.status) == (201, 200), "a key is one's own"
        assert first.data["id"] == again.data["id"] != theirs
        await api.store.cancel(first.data["id"], owner="bob")
        assert (await api.post(f"/api/jobs/{first.data['id']}/retry", bearer=BOB)).status == 200
    batch = [{"name": "noop", "uniqueKey": f"{CANARY}-pending"}, {"name": "noop", "uniqueKey": f"{CANARY}-new"}]
    assert (await api.post("/api/jobs/batch", batch, bearer=BOB)).data["created"] == 1, "one is bob's own by now"


async def test_bob_learns_nothing_from_anns_idempotency_keys(api: Api) -> None:
    headers = [("Idempotency-Key", CANARY)]
    anns = await api.post("/api/jobs", {"name": "noop", "data": {"a": 1}}, bearer=ANN, headers=headers)
    for body in ({"name": "noop", "data": {"a": 1}}, {"name": "noop", "data": {"a": 1}}):
        bobs = await api.post("/api/jobs", body, bearer=BOB, headers=headers)
        assert bobs.status == 201
        assert bobs.data["id"] != anns.data["id"]
    assert bobs.headers["idempotency-replayed"] == "true", "of the first of bob's own"
    other = await api.post("/api/jobs", {"name": "resize", "data": {"path": "x"}}, bearer=user("eve"), headers=headers)
    assert other.status == 201, "no mismatch with what others have sent by this key"


async def test_nobody_makes_a_job_in_the_name_of_another(api: Api) -> None:
    for field in ("createdBy", "owner", "created_by", "processingBy", "id", "status", "attempts", "version"):
        answer = await api.post("/api/jobs", {"name": "noop", field: "ann"}, bearer=BOB)
        answer.problem(422, "invalid")
    assert (await api.post("/api/jobs", {"name": "noop"}, bearer=BOB)).data["createdBy"] == "bob"
    batch = await api.post("/api/jobs/batch", [{"name": "noop"}], bearer=BOB)
    assert (await api.get(f"/api/jobs/{batch.data['ids'][0]}", bearer=BOB)).data["createdBy"] == "bob"


# --- what is for admins --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "rule"), rows("admins"))
async def test_what_is_for_admins_tells_a_user_nothing_and_does_nothing(api: Api, method: str, rule: str) -> None:
    """The same answer whether what is named is there or not, and whatever the body is."""
    schedule = {"name": "nightly", "cron": "0 3 * * *", "jobName": "noop"}
    assert (await api.post("/api/jobs/schedules", schedule)).status == 201
    assert (await api.post("/api/tokens", {"name": "nightly"})).status == 201
    await api.seed(1, queue="nightly")
    before = await state(api)
    answers = set()
    for name, body in itertools.product(
        ("nightly", "absent"), (b"", b"{", b"{}", b'{"name":"new"}', json.dumps(schedule).encode(), b'{"olderThan":0}')
    ):
        target = re.sub("<.*?>", name, rule)
        answer = await api.call(method, target, body if method in {"POST", "PUT"} else b"", bearer=BOB)
        answer.problem(403, "forbidden")
        status, said, headers = told(answer)
        answers.add((status, said, tuple(headers)))
    assert len(answers) == 1
    assert await state(api) == before


async def test_metrics_from_elsewhere_are_for_admins(api: Api) -> None:
    far = ("203.0.113.9", 4711)
    assert (await api.get("/metrics", bearer=BOB, client=far)).status == 403
    assert (await api.get("/metrics", bearer=None, client=far)).status == 401
    assert (await api.get("/metrics", client=far)).status in {200, 404}


async def test_what_everybody_may_know_is_the_same_to_everybody(api: Api, anns: dict[str, str]) -> None:
    assert (await api.get("/api/handlers", bearer=ANN)).body == (await api.get("/api/handlers", bearer=BOB)).body
    shown = [(await api.get("/api/server", bearer=who)).data for who in (ANN, BOB)]
    assert [(each.pop("subject"), each.pop("role")) for each in shown] == [("ann", "user"), ("bob", "user")]
    assert shown[0] == shown[1]


# --- filters as text -----------------------------------------------------------------------------------------------

SQL = [
    "' OR '1'='1", "'; DROP TABLE job; --", '" OR ""="', "%", "_", "\\", "%' ESCAPE '", "x' UNION SELECT 1 --",
    "1) OR (1=1", "?", ":owner", "$1", "NULL", "\u2019 OR 1=1", "x" * 200, "*", "[a-z]", "a\tb", "${jndi:x}", "{{7*7}}",
]  # fmt: skip


@pytest.mark.parametrize("text", SQL)
async def test_a_filter_is_text_and_nothing_else(api: Api, text: str) -> None:
    await api.seed(3, owner="ann", tags=("plain",))
    mine = await api.enqueue(BOB, tags=["a%_'b"])
    sent = quote(text, safe="")
    for parameter in ("q", "name", "queue", "tag", "status", "createdBy", "cursor", "limit"):
        answer = await api.get(f"/api/jobs?{parameter}={sent}", bearer=BOB)
        assert answer.status in {200, 400, 422}, (parameter, answer.body)
        if answer.status == 200:
            ids = [job["id"] for job in answer.data["jobs"]]
            expected = [mine["id"]] if parameter == "q" and text in {"%", "_"} else []
            assert ids == expected, parameter
    for parameter in ("since", "limit", "wait"):
        assert (await api.get(f"/api/events?{parameter}={sent}", bearer=BOB)).status in {200, 422}
    for field in ("q", "createdBy", "name", "queue", "tag"):
        wanted = text if field in {"q", "createdBy"} else [text]
        body = {"action": "delete", "filter": {field: wanted}}
        answer = await api.post("/api/jobs/bulk", body, bearer=BOB)
        assert answer.status == 422 or answer.data["matched"] == (field == "q" and text in {"%", "_"})
    assert (await api.get("/api/jobs/stats")).data["total"] in {3, 4}


async def test_a_forged_cursor_leads_nowhere(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    await api.seed(3, owner="bob")
    good = (await api.get("/api/jobs?limit=1", bearer=BOB)).data["cursor"]
    version, place, digest = base64.urlsafe_b64decode(good + "==").decode().split(".")
    forged = [
        "", f"{version}.{place}", f"{version}.{place}.{digest}.x", f"2.{place}.{digest}", f"{version}.-1.{digest}",
        f"{version}.1 OR 1=1.{digest}", f"{version}.{'9' * 19}.{digest}", f"{version}.\u0663.{digest}",
        f"{version}.{place}.{digest[:-1]}", f"{version}.{place}.{'0' * len(digest)}", f"{version}.0x1.{digest}",
        f"{version}.1e3.{digest}", f"{version}. 1.{digest}", f"{version}.1_0.{digest}",
    ]  # fmt: skip
    for text in forged:
        cursor = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        answer = await api.get(f"/api/jobs?limit=1&cursor={cursor}", bearer=BOB)
        if text:
            answer.problem(400, "invalid_cursor")
        else:
            assert answer.status in {200, 400}
    for cursor in ("%00", "a", "\N{PILE OF POO}", "=" * 9, "A" * 500, "A" * 501):
        assert (await api.get(f"/api/jobs?cursor={quote(cursor)}", bearer=BOB)).status in {400, 422}
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
