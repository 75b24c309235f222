"""API tokens: issued and listed."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

from typing import Any

import pytest
import trio
from rest_kit import ADMIN, SECRET, token  # noqa: F401
from sign_in_kit import DAY, Browser, SignInApi, api, build, store  # noqa: F401
from tokens_kit import issue, listed

from jobctl.access import access
from jobctl.access.access import HOUR_MS
from jobctl.store.token_writes import MAX_TOKENS
from tests.kit import until


async def test_an_api_token_speaks_for_its_name_as_long_as_it_was_asked_to(api: SignInApi) -> None:
    answer = await api.post("/api/tokens", {"name": "ci", "days": 30})
    made = answer.data
    assert (answer.status, answer.headers["cache-control"]) == (201, "no-store")
    assert (made["name"], made["subject"], made["role"], made["createdBy"]) == ("ci", "ci", "user", ADMIN)
    who = api.access.identify(made["token"])
    assert (who.subject, who.role, who.token_id, who.registered) == ("ci", "user", made["jti"], True)
    assert who.expires_at == pytest.approx(api.clock() + 30 * DAY, abs=5)
    job = await api.enqueue(made["token"])
    assert job["createdBy"] == "ci"
    assert (await issue(api, "lab", subject="Jörg Müller", role="admin"))["subject"] == "Jörg Müller"


async def test_a_list_never_shows_a_token(api: SignInApi) -> None:
    made = await issue(api)
    answer = await api.get("/api/tokens")
    assert made["token"].encode() not in answer.body
    assert made["token"].split(".")[2].encode() not in answer.body
    (shown,) = answer.data["tokens"]
    names = "jti name subject role createdBy createdAt expiresAt lastUsedAt revokedAt secretChanged"
    assert set(shown) == set(names.split())
    assert (shown["lastUsedAt"], shown["revokedAt"]) == (None, None)
    again = await api.get("/api/tokens", headers=[("If-None-Match", answer.headers["etag"])])
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "body",
    [{}, {"name": ""}, {"name": "a b"}, {"name": "a\n"}, {"name": "ci", "days": 0}, {"name": "ci", "days": 367},
     {"name": "ci", "days": 1.5}, {"name": "ci", "days": "9"}, {"name": "ci", "role": "root"}, {"name": "ci", "x": 1},
     {"name": "schedule:nightly"}, {"name": "ci", "subject": "schedule:nightly"},
     {"name": "ci", "subject": ""}, {"name": "ci", "subject": "a\u202eb"}, {"name": "ci", "subject": "a" * 201}, []]
)  # fmt: skip
async def test_a_token_that_cannot_be_is_refused(api: SignInApi, body: Any) -> None:
    (await api.post("/api/tokens", body)).problem(422, "invalid")
    assert await listed(api) == []


async def test_a_name_is_taken_while_its_token_lives(api: SignInApi) -> None:
    first = await issue(api, days=1)
    (await api.post("/api/tokens", {"name": "ci"})).problem(409, "conflict")
    assert (await api.call("DELETE", "/api/tokens/ci")).status == 200
    second = await issue(api, days=1)
    api.clock.ahead = DAY + 1
    third = await issue(api)
    assert [each["jti"] for each in await listed(api)] == [third["jti"], second["jti"], first["jti"]]


async def test_live_tokens_are_bounded_and_expired_ones_forgotten_after_a_month(
    api: SignInApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_TOKENS == 1000
    monkeypatch.setattr("jobctl.store.token_writes.MAX_TOKENS", 2)
    await issue(api, "a", days=1)
    await issue(api, "b", days=1)
    (await api.post("/api/tokens", {"name": "c"})).problem(413, "too_large")
    api.clock.ahead = DAY + 1
    await issue(api, "c", days=100)
    assert len(api.access._registered) == 1, "memory holds the live ones"
    assert len(await listed(api)) == 3
    api.clock.ahead = 32 * DAY
    await issue(api, "d")
    assert [each["name"] for each in await listed(api)] == ["d", "c"]


async def test_last_use_is_noted_to_the_hour_with_one_write_an_hour(
    api: SignInApi, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "TOUCH_EVERY_S", 0)
    await nursery.start(api.access.run)
    made = await issue(api)
    touched: list[Any] = []
    real = api.access.store.touch

    async def touch(used: Any) -> None:
        await real(used)
        touched.append(dict(used))

    monkeypatch.setattr(api.access.store, "touch", touch)
    half_past = (HOUR_MS * 1.5 - api.clock.ms() % HOUR_MS) / 1000
    api.clock.ahead = half_past % 3600
    hour = api.clock.ms() // HOUR_MS * HOUR_MS
    for _ in range(20):
        await api.get("/api/jobs/stats", bearer=made["token"])
        await trio.testing.wait_all_tasks_blocked(0.002)
    await until(lambda: touched)
    assert touched == [{made["jti"]: hour}]
    assert (await listed(api))[0]["lastUsedAt"].endswith(":00:00.000Z")
    api.clock.ahead += 3600
    await api.get("/api/jobs/stats", bearer=made["token"])
    await until(lambda: len(touched) == 2)
    assert touched[-1] == {made["jti"]: hour + HOUR_MS}
