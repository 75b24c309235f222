"""``POST /api/jobs/bulk``."""
# ruff: noqa: F401, F811  (fixtures are imported by name)

from typing import Any

import pytest
from rest_kit import Api, api, make_api, user

from jobctl.store import bulk as store_bulk
from jobctl.web import bulk

PATH = "/api/jobs/bulk"
ID = "01890000-0000-7000-8000-000000000000"


async def statuses(api: Api) -> dict[str, int]:
    counts = (await api.get("/api/jobs/stats")).data
    return {key: n for key, n in counts.items() if key not in ("byQueue", "total") and n}


async def test_a_dry_run_counts_and_changes_nothing(api: Api) -> None:
    await api.seed(3, queue="q", tags=("t",))
    await api.seed(2, queue="r")
    await api.start()
    asked = {"action": "delete", "filter": {"queue": ["q", "default", "r"]}, "dryRun": True}
    assert (await api.post(PATH, asked)).data == {
        "matched": 5, "changed": 4, "skipped": 1, "byStatus": {"pending": 4, "running": 1}, "cursor": None,
        "refused": [],
    }  # fmt: skip
    assert await statuses(api) == {"pending": 4, "running": 1}


async def test_all_that_match_are_acted_on_and_no_other(api: Api) -> None:
    await api.seed(3, queue="q", tags=("t",))
    await api.seed(2, queue="q")
    await api.seed(2, queue="r", tags=("t",))
    done = (await api.post(PATH, {"action": "cancel", "filter": {"queue": ["q"], "tag": ["t"]}})).data
    assert done == {
        "matched": 3, "changed": 3, "skipped": 0, "byStatus": {"pending": 3}, "cursor": None, "refused": [],
    }  # fmt: skip
    assert await statuses(api) == {"pending": 4, "cancelled": 3}
    done = (await api.post(PATH, {"action": "retry", "filter": {"status": ["cancelled", "pending"]}})).data
    assert (done["changed"], done["skipped"]) == (3, 4)
    done = (await api.post(PATH, {"action": "delete", "filter": {"q": "NOO", "createdBy": "root"}})).data
    assert done["changed"] == 7
    assert await statuses(api) == {}


async def test_a_user_reaches_only_what_it_created(api: Api) -> None:
    await api.seed(2, owner="ann")
    await api.seed(3, owner="ben")
    for dry_run in (True, False):
        asked = {"action": "cancel", "filter": {"status": ["pending"]}, "dryRun": dry_run}
        assert (await api.post(PATH, asked, bearer=user("ann"))).data["matched"] == 2
    asked = {"action": "cancel", "filter": {"createdBy": "ben"}}
    assert (await api.post(PATH, asked, bearer=user("ann"))).data["matched"] == 0
    assert await statuses(api) == {"pending": 3, "cancelled": 2}


async def test_a_long_list_is_worked_off_in_pieces(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PAGE", 3)
    monkeypatch.setattr(bulk, "MAX_JOBS", 6)
    await api.seed(10)
    asked: dict[str, Any] = {"action": "delete", "filter": {"status": ["pending"]}}
    first = (await api.post(PATH, asked)).data
    assert (first["matched"], first["changed"]) == (6, 6)
    await api.seed(1)  # newer than where it is: not part of what was asked for
    second = (await api.post(PATH, asked | {"cursor": first["cursor"]})).data
    assert (second["matched"], second["changed"], second["cursor"]) == (4, 4, None)
    assert await statuses(api) == {"pending": 1}


async def test_those_that_are_named_are_acted_on_and_each_refusal_is_told(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_bulk, "BUDGET_S", 0.0)  # a job a transaction
    [first, twice, other] = await api.seed(3)
    await api.post(f"/api/jobs/{other}/cancel")
    done = (await api.post(PATH, {"action": "cancel", "ids": [first, other, ID, twice, first]})).data
    assert done == {
        "matched": 4, "changed": 2, "skipped": 2, "byStatus": {}, "cursor": None,
        "refused": [
            {"id": other, "code": "illegal_transition", "detail": "cannot cancel a job that is cancelled"},
            {"id": ID, "code": "not_found", "detail": "there is no such job"},
        ],
    }  # fmt: skip
    assert await statuses(api) == {"cancelled": 3}


async def test_a_user_acts_on_no_job_of_anybody_else_by_its_id(api: Api) -> None:
    [own] = await api.seed(1, owner="ann")
    [theirs] = await api.seed(1, owner="ben")
    asked = {"action": "delete", "ids": [theirs, own]}
    done = (await api.post(PATH, asked, bearer=user("ann"))).data
    assert (done["changed"], [each["code"] for each in done["refused"]]) == (1, ["not_found"])
    assert (await api.get(f"/api/jobs/{theirs}")).status == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"filter": {"queue": ["q"]}}, "action"),
        ({"action": "explode", "filter": {"queue": ["q"]}}, "action"),
        ({"action": "delete"}, "filter"),
        ({"action": "delete", "filter": {}}, "filter"),
        ({"action": "delete", "filter": {"queue": []}}, "filter"),
        ({"action": "delete", "filter": {"queue": "q"}}, "filter.queue"),
        ({"action": "delete", "filter": {"status": ["nope"]}}, "filter.status[0]"),
        ({"action": "delete", "filter": {"ids": ["x"]}}, "filter.ids"),
        ({"action": "delete", "ids": []}, "ids"),
        ({"action": "delete", "ids": ["x"]}, "ids[0]"),
        ({"action": "delete", "ids": [ID] * 1001}, "ids"),
        ({"action": "delete", "ids": [ID], "filter": {"queue": ["q"]}}, "ids"),
        ({"action": "delete", "ids": [ID], "dryRun": True}, "ids"),
        ({"action": "delete", "ids": [ID], "cursor": "x"}, "ids"),
        ({"action": "delete", "filter": {"queue": ["q"]}, "dryrun": True}, "dryrun"),
        ({"action": "delete", "filter": {"queue": ["q"]}, "dryRun": "yes"}, "dryRun"),
    ],
)
async def test_what_is_not_understood_changes_nothing(api: Api, body: dict[str, Any], field: str) -> None:
    await api.seed(2, queue="q")
    assert (await api.post(PATH, body)).problem(422, "invalid")["field"] == field
    assert await statuses(api) == {"pending": 2}


async def test_a_cursor_of_another_filter_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PAGE", 1)
    monkeypatch.setattr(bulk, "MAX_JOBS", 1)
    await api.seed(2, queue="q")
    cursor = (await api.post(PATH, {"action": "cancel", "filter": {"queue": ["q"]}})).data["cursor"]
    answer = await api.post(PATH, {"action": "cancel", "filter": {"queue": ["r"]}, "cursor": cursor})
    answer.problem(400, "invalid_cursor")


async def test_it_needs_a_token(api: Api) -> None:
    (await api.post(PATH, {"action": "delete", "filter": {"queue": ["q"]}}, bearer=None)).problem(401, "unauthorized")
