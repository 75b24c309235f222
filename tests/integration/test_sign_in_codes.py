"""Codes that sign somebody in once: who makes them, for whom, and what they are worth."""
# ruff: noqa: F811  (fixtures are imported by name)

import base64
from typing import Any

import pytest
import trio
from rest_kit import SECRET, user  # noqa: F401
from sign_in_kit import ADMIN, COOKIE, DAY, HOME, Browser, SignInApi, api, build, cookie, make_code, store  # noqa: F401

from jobctl.access import codes
from jobctl.errors import StoreUnavailable
from jobctl.store.sqlite import SqliteStore


@pytest.fixture
def browser(api: SignInApi) -> Browser:
    return Browser(api)


async def test_a_code_signs_in_who_asked_for_it(api: SignInApi, browser: Browser) -> None:
    answer = await api.post("/api/auth/codes")
    assert (answer.status, answer.headers["cache-control"]) == (201, "no-store")
    assert (answer.data["subject"], answer.data["role"]) == (ADMIN, "admin")
    done = await browser.post("/api/auth/login", {"code": answer.data["code"]})
    assert set(done.data) == {"accessToken", "expiresAt", "subject", "role"}
    assert (done.data["subject"], done.data["role"]) == (ADMIN, "admin")
    assert done.headers["cache-control"] == "no-store"
    assert browser.refresh_token.encode() not in done.body
    assert await browser.works()


async def test_an_admin_makes_codes_for_others(api: SignInApi, browser: Browser) -> None:
    done = await browser.login(subject="ann", role="user")
    assert (done.data["subject"], done.data["role"]) == ("ann", "user")
    (await api.get("/api/queues", bearer=browser.access_token)).problem(403, "forbidden")


async def test_a_user_can_make_neither_codes_nor_tokens(api: SignInApi, browser: Browser) -> None:
    await browser.login(subject="ann", role="user")
    for bearer in (user("ann"), browser.access_token):
        (await api.post("/api/auth/codes", {"role": "admin"}, bearer=bearer)).problem(403, "forbidden")
        (await api.post("/api/auth/codes", bearer=bearer)).problem(403, "forbidden")
        (await api.post("/api/tokens", {"name": "x"}, bearer=bearer)).problem(403, "forbidden")
        (await api.get("/api/tokens", bearer=bearer)).problem(403, "forbidden")
        (await api.call("DELETE", "/api/tokens/x", bearer=bearer)).problem(403, "forbidden")
    assert len(api.access.codes._waiting) == 0


async def test_a_code_works_once(api: SignInApi, browser: Browser) -> None:
    code = await make_code(api)
    assert (await browser.post("/api/auth/login", {"code": code})).status == 200
    again = await Browser(api).post("/api/auth/login", {"code": code})
    again.problem(401, "unauthorized")
    assert cookie(again) is None


async def test_of_many_who_use_a_code_at_once_one_is_signed_in(api: SignInApi) -> None:
    code, statuses = await make_code(api), []

    async def use() -> None:
        statuses.append((await Browser(api).post("/api/auth/login", {"code": code})).status)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(use)
    assert sorted(statuses) == [200] + [401] * 7


async def test_a_code_ends_after_five_minutes(api: SignInApi, browser: Browser) -> None:
    early, late = await make_code(api), await make_code(api)
    api.clock.ahead = 299
    assert (await browser.post("/api/auth/login", {"code": early})).status == 200
    api.clock.ahead = 301
    (await browser.post("/api/auth/login", {"code": late})).problem(401, "unauthorized")


async def test_a_code_has_at_least_128_bits_and_is_kept_as_a_digest(api: SignInApi) -> None:
    made = {await make_code(api) for _ in range(50)}
    assert len(made) == 50
    for code in made:
        assert len(base64.urlsafe_b64decode(code)) * 8 >= 128
        assert code not in repr(api.access.codes.__dict__)
    assert all(len(digest) == 32 for digest in api.access.codes._waiting)


async def test_codes_that_wait_are_bounded(api: SignInApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "MAX_CODES", 2)
    first, second, third = [await make_code(api) for _ in range(3)]
    assert [api.access.codes.take(each) is not None for each in (first, second, third)] == [False, True, True]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"code":1}', b'{"code":""}', b'{"code":null}', b'{"code":"x","more":1}',
             b'{"code":"' + b"x" * 201 + b'"}', b'{"code":"\\ud800"}', b'{"code":"\xff"}', b"[" * 2000]
)  # fmt: skip
async def test_a_login_that_is_none_is_refused_cleanly(api: SignInApi, browser: Browser, body: bytes) -> None:
    answer = await browser.post("/api/auth/login", body)
    assert answer.status in {400, 401, 422}
    answer.problem(answer.status, {400: "malformed_json", 401: "unauthorized", 422: "invalid"}[answer.status])


async def test_a_login_body_is_bounded_and_must_be_json(api: SignInApi, browser: Browser) -> None:
    (await browser.post("/api/auth/login", b"x" * 5000)).problem(413, "too_large")
    code = await make_code(api)
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        headers = [("Content-Type", kind), ("Origin", HOME)]
        answer = await browser.post("/api/auth/login", {"code": code}, headers=headers)
        answer.problem(415, "unsupported_media_type")


@pytest.mark.parametrize(
    "body", [{"role": "root"}, {"role": None, "x": 1}, {"subject": ""}, {"subject": "a" * 201}, {"subject": "a\nb"}, []]
)
async def test_a_code_for_nobody_is_refused(api: SignInApi, body: Any) -> None:
    (await api.post("/api/auth/codes", body)).problem(422, "invalid")


async def test_guessing_codes_is_limited_per_address(api: SignInApi, browser: Browser) -> None:
    code = await make_code(api)
    for _ in range(30):
        (await browser.post("/api/auth/login", {"code": "guess"})).problem(401, "unauthorized")
    refused = await browser.post("/api/auth/login", {"code": code})
    refused.problem(429, "rate_limited")
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["x-ratelimit-limit"] == "30"
    elsewhere = await browser.post("/api/auth/login", {"code": code}, client=("10.0.0.1", 1))
    assert elsewhere.status == 200, "the code was not spent by being refused, and others are not held up"


async def test_what_needs_no_token_counts_for_the_address(store: SqliteStore) -> None:
    api = build(store, rate_limit="2/1h")
    browser = Browser(api)
    for path in ("/api/auth/refresh", "/api/auth/logout"):
        assert (await browser.post(path)).status in {200, 401}
    (await browser.post("/api/auth/login", {"code": "x"})).problem(429, "rate_limited")
    (await browser.refresh()).problem(429, "rate_limited")
    assert (await api.get("/api/jobs/stats")).status == 200


async def test_a_code_of_somebody_who_was_revoked_is_worth_nothing(api: SignInApi) -> None:
    made = (await api.post("/api/tokens", {"name": "lent", "role": "admin"})).data
    waiting = (await api.post("/api/auth/codes", bearer=made["token"])).data["code"]
    used = (await api.post("/api/auth/codes", {"subject": "eve", "role": "admin"}, bearer=made["token"])).data["code"]
    eve = Browser(api)
    await eve.post("/api/auth/login", {"code": used})
    assert await eve.works()
    second = (await api.post("/api/auth/codes", bearer=eve.access_token)).data["code"]
    mallory = Browser(api)
    await mallory.post("/api/auth/login", {"code": second})
    assert await mallory.works()
    assert (await api.call("DELETE", "/api/tokens/lent")).status == 200
    (await Browser(api).post("/api/auth/login", {"code": waiting})).problem(401, "unauthorized")
    assert not await eve.works(), "what began with its codes ends with it"
    assert not await mallory.works()
    (await eve.refresh()).problem(401, "unauthorized")


@pytest.mark.parametrize("days", [0, 3])
async def test_who_signs_out_in_between_does_not_break_the_chain_to_who_was_revoked(api: SignInApi, days: int) -> None:
    made = (await api.post("/api/tokens", {"name": "lent", "role": "admin"})).data
    code = (await api.post("/api/auth/codes", {"subject": "eve"}, bearer=made["token"])).data["code"]
    eve, mallory = Browser(api), Browser(api)
    await eve.post("/api/auth/login", {"code": code})
    code = (await api.post("/api/auth/codes", {"subject": "mallory"}, bearer=eve.access_token)).data["code"]
    await mallory.post("/api/auth/login", {"code": code})
    assert (await eve.logout()).data == {"ended": True}
    assert await mallory.works()
    api.clock.ahead = days * DAY
    await Browser(api).login()  # what is of no more use is forgotten now
    assert (await mallory.refresh()).status == 200
    assert (await api.call("DELETE", "/api/tokens/lent")).status == 200
    (await mallory.refresh()).problem(401, "unauthorized")


async def test_nobody_stays_signed_in_longer_than_who_let_him_in(api: SignInApi) -> None:
    made = (await api.post("/api/tokens", {"name": "lent", "role": "admin", "days": 2})).data
    eve, mallory = Browser(api), Browser(api)
    for browser, bearer in ((eve, made["token"]), (mallory, None)):
        code = (await api.post("/api/auth/codes", bearer=bearer or eve.access_token)).data["code"]
        assert (await browser.post("/api/auth/login", {"code": code})).status == 200
    api.clock.ahead = 2 * DAY - 60
    assert (await eve.refresh()).status == (await mallory.refresh()).status == 200
    api.clock.ahead = 2 * DAY + 1
    for browser in (eve, mallory):
        (await browser.refresh()).problem(401, "unauthorized")


async def test_a_code_whose_maker_is_revoked_while_it_is_used_signs_nobody_in(
    api: SignInApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (await api.post("/api/tokens", {"name": "lent", "role": "admin"})).data
    code = (await api.post("/api/auth/codes", bearer=made["token"])).data["code"]
    begin = api.access.sessions._store.begin_session

    async def begin_late(new: Any) -> Any:
        await api.access.store.revoke("lent")
        return await begin(new)

    monkeypatch.setattr(api.access.sessions._store, "begin_session", begin_late)
    eve = Browser(api)
    (await eve.post("/api/auth/login", {"code": code})).problem(401, "unauthorized")
    assert eve.refresh_token == ""


async def test_a_code_is_not_spent_when_the_database_cannot_take_the_session(
    api: SignInApi, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = await make_code(api)

    async def fail(_: object) -> None:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(api.access.sessions._store, "begin_session", fail)
        (await browser.post("/api/auth/login", {"code": code})).problem(503, "store_unavailable")
    assert (await browser.post("/api/auth/login", {"code": code})).status == 200
