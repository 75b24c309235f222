"""Signing in: codes, the refresh cookie, theft and races, who may use the cookie, signing out."""
# ruff: noqa: F401, F811  (fixtures are imported by name)

import base64
import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from rest_kit import SECRET, user
from sign_in_kit import ADMIN, COOKIE, DAY, HOME, Browser, SignInApi, api, build, cookie, make_code, store

from jobctl.access import codes, sessions
from jobctl.errors import StoreUnavailable
from jobctl.store.sqlite import SqliteStore
from jobctl.store.token_writes import MAX_SESSIONS


@pytest.fixture
def browser(api: SignInApi) -> Browser:
    return Browser(api)


# --- codes ---------------------------------------------------------------------------------------------------------


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


# --- the cookie ----------------------------------------------------------------------------------------------------


async def test_the_cookie_is_out_of_reach_of_scripts_other_sites_and_other_paths(browser: Browser) -> None:
    morsel = cookie(await browser.login())
    assert morsel is not None
    assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Strict", "/api/auth")
    assert not morsel["domain"]
    assert not morsel["secure"], "plain http on this machine: the browser would not send it back"
    assert 0 < int(morsel["max-age"]) <= sessions.IDLE_S
    renewed = cookie(await browser.refresh())
    assert renewed is not None
    assert (renewed["httponly"], renewed["samesite"], renewed["path"]) == (True, "Strict", "/api/auth")


async def test_servers_on_one_host_do_not_sign_one_anothers_users_out(api: SignInApi) -> None:
    """A browser keeps cookies by host, whatever the port."""
    names = {}
    for host in ("127.0.0.1:8000", "127.0.0.1:8001", "[::1]:8000", "jobs.example", "a:b"):
        answer = await api.post("/api/auth/login", {"code": await make_code(api)}, bearer=None, host=host)
        names[host] = answer.headers["set-cookie"].partition("=")[0]
    assert list(names.values()) == [f"jobctl_refresh{end}" for end in ("_8000", "_8001", "_8000", "", "")]


@pytest.mark.parametrize(
    ("settings", "scheme", "headers", "secure"),
    [
        ({}, "http", [], False),
        ({}, "https", [], True),
        ({"certfile": "c", "keyfile": "k"}, "http", [], True),
        ({"trusted_proxies": ("127.0.0.1",)}, "http", [("X-Forwarded-Proto", "https")], True),
        ({"trusted_proxies": ("127.0.0.1",)}, "http", [("X-Forwarded-Proto", "http, https")], True),
        ({"trusted_proxies": ("127.0.0.1",)}, "http", [("X-Forwarded-Proto", "https, http")], False),
        ({"trusted_proxies": ("10.0.0.1",)}, "http", [("X-Forwarded-Proto", "https")], False),
        ({}, "http", [("X-Forwarded-Proto", "https")], False),
    ],
)
async def test_the_cookie_is_secure_where_the_request_came_by_https(
    store: SqliteStore, settings: Any, scheme: str, headers: Any, secure: bool
) -> None:
    api = build(store, **settings)
    browser = Browser(api, scheme=scheme)
    morsel = cookie(await browser.post("/api/auth/login", {"code": await make_code(api)}, headers=headers))
    assert morsel is not None
    assert bool(morsel["secure"]) is secure


async def test_refresh_and_access_tokens_do_not_stand_in_for_one_another(api: SignInApi, browser: Browser) -> None:
    await browser.login()
    (await api.get("/api/jobs", bearer=browser.refresh_token)).problem(401, "unauthorized")
    browser.refresh_token = browser.access_token
    (await browser.refresh()).problem(401, "unauthorized")


# --- rotation and theft --------------------------------------------------------------------------------------------


async def test_a_refresh_gives_a_new_access_token_and_a_new_cookie(api: SignInApi, browser: Browser) -> None:
    await browser.login(subject="ann", role="user")
    first, cookie_before = browser.access_token, browser.refresh_token
    answer = await browser.refresh()
    assert (answer.data["subject"], answer.data["role"]) == ("ann", "user")
    assert browser.access_token != first
    assert browser.refresh_token != cookie_before
    assert await browser.works()
    for _ in range(5):
        assert (await browser.refresh()).status == 200


async def test_a_refresh_token_that_comes_back_ends_the_whole_session(
    api: SignInApi, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    await browser.login()
    thief = Browser(api)
    thief.refresh_token = browser.refresh_token
    await browser.refresh()
    assert await browser.works()
    api.clock.ahead = sessions.GRACE_S + 1
    (await thief.refresh()).problem(401, "unauthorized")
    assert not await browser.works(), "its access tokens too"
    (await browser.refresh()).problem(401, "unauthorized")
    assert "came back" in caplog.text
    assert thief.refresh_token not in caplog.text


async def test_the_thief_who_was_first_is_thrown_out_when_the_owner_comes(api: SignInApi, browser: Browser) -> None:
    await browser.login()
    thief = Browser(api)
    thief.refresh_token = browser.refresh_token
    await thief.refresh()
    await thief.refresh()
    assert await thief.works()
    (await browser.refresh()).problem(401, "unauthorized")
    assert not await thief.works()
    (await thief.refresh()).problem(401, "unauthorized")


async def test_an_older_token_than_the_last_is_no_race_however_soon_it_comes(api: SignInApi, browser: Browser) -> None:
    await browser.login()
    old = browser.refresh_token
    await browser.refresh()
    await browser.refresh()
    browser.refresh_token = old
    (await browser.refresh()).problem(401, "unauthorized")
    assert not await browser.works()


async def test_two_tabs_that_refresh_at_once_both_stay_signed_in(api: SignInApi, browser: Browser) -> None:
    await browser.login()
    tabs = [Browser(api) for _ in range(4)]
    for tab in tabs:
        tab.refresh_token = browser.refresh_token
    async with trio.open_nursery() as nursery:
        for tab in tabs:
            nursery.start_soon(tab.refresh)
    assert len({tab.refresh_token for tab in tabs}) == 1, "whichever answer comes last, the browser has the good one"
    assert len({tab.access_token for tab in tabs}) == 4
    assert all([await tab.works() for tab in tabs])
    api.clock.ahead = sessions.GRACE_S + 1
    assert (await tabs[0].refresh()).status == 200


async def test_an_answer_that_was_lost_is_given_again_for_a_few_seconds(api: SignInApi, browser: Browser) -> None:
    await browser.login()
    kept = browser.refresh_token
    await browser.refresh()
    browser.refresh_token = kept  # the page was loaded anew before the answer came
    api.clock.ahead = sessions.GRACE_S - 1
    assert (await browser.refresh()).status == 200
    assert (await browser.refresh()).status == 200


async def test_a_session_ends_after_a_week_without_use_and_after_a_month_in_any_case(api: SignInApi) -> None:
    idle, busy = Browser(api), Browser(api)
    await idle.login()
    await busy.login()
    for day in range(6, 30, 6):
        api.clock.ahead = day * DAY
        assert (await busy.refresh()).status == 200
    (await idle.refresh()).problem(401, "unauthorized")
    api.clock.ahead = 30 * DAY - 60
    last = await busy.refresh()
    morsel = cookie(last)
    assert morsel is not None
    assert int(morsel["max-age"]) <= 60
    found = api.access.identify(busy.access_token)
    assert found.expires_at <= api.clock() + 60, "an access token does not outlive its session"
    api.clock.ahead = 30 * DAY + 1
    (await busy.refresh()).problem(401, "unauthorized")


@pytest.mark.parametrize("value", ["", ".", "a.", ".b", "nothing", "a.b", "x" * 300, "a.b\u00e9", "a.b.c"])
async def test_a_cookie_that_is_none_of_ours_is_refused(api: SignInApi, browser: Browser, value: str) -> None:
    headers = [("Origin", HOME), ("Cookie", f"{COOKIE}={value}")]
    (await browser.post("/api/auth/refresh", headers=headers)).problem(401, "unauthorized")
    assert (await browser.post("/api/auth/logout", headers=headers)).data == {"ended": False}


async def test_who_knows_an_access_token_cannot_end_its_session(api: SignInApi, browser: Browser) -> None:
    await browser.login()
    session = api.access.identify(browser.access_token).session
    prankster = Browser(api)
    prankster.refresh_token = f"{session}.made-up"
    (await prankster.refresh()).problem(401, "unauthorized")
    assert (await prankster.logout()).data == {"ended": False}
    assert await browser.works()


async def test_one_subject_has_a_bounded_number_of_sessions(api: SignInApi, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_SESSIONS == 100
    monkeypatch.setattr("jobctl.store.token_writes.MAX_SESSIONS", 2)
    first, second, third, other = [Browser(api) for _ in range(4)]
    await first.login()
    await other.login(subject="ann")
    api.clock.ahead = 1
    await second.login()
    api.clock.ahead = 2
    await third.login()
    assert [await each.works() for each in (first, second, third, other)] == [False, True, True, True]


async def test_sessions_survive_a_restart_and_ended_ones_stay_ended(
    api: SignInApi, store: SqliteStore, browser: Browser
) -> None:
    gone = Browser(api)
    await browser.login()
    await gone.login()
    await gone.logout()
    again = build(store)
    await again.access.start()
    browser.api = gone.api = again
    assert await browser.works()
    assert not await gone.works(), "its access token has not expired, but was ended"
    assert (await browser.refresh()).status == 200


@pytest.mark.parametrize("kept", [True, False])
async def test_who_lets_a_secret_go_throws_everybody_out_and_who_keeps_it_nobody(
    api: SignInApi, store: SqliteStore, browser: Browser, kept: bool
) -> None:
    await browser.login()
    again = build(store, secret=b"another secret of more than 32 bytes", previous=[SECRET] if kept else [])
    await again.access.start()
    browser.api = again
    assert await browser.works() is kept
    if not kept:
        (await browser.refresh()).problem(401, "unauthorized")
        assert (await browser.logout()).data == {"ended": False}
        return
    assert (await browser.refresh()).status == 200
    again.access.verifier.replace_previous([])  # from the first refresh on it belongs to the new one
    assert await browser.works()
    assert (await browser.refresh()).status == 200


# --- who may use the cookie ----------------------------------------------------------------------------------------

FRIEND = "https://dash.example"


@pytest.mark.parametrize("path", ["/api/auth/refresh", "/api/auth/logout"])
@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ([("Sec-Fetch-Site", "same-origin")], True),
        ([("Origin", HOME)], True),
        ([("Sec-Fetch-Site", "same-origin"), ("Origin", HOME)], True),
        ([("Sec-Fetch-Site", "same-origin"), ("Origin", FRIEND)], True),  # its own name, seen through a proxy
        ([], False),
        ([("Sec-Fetch-Site", "same-site"), ("Origin", HOME)], False),
        ([("Sec-Fetch-Site", "cross-site")], False),
        ([("Sec-Fetch-Site", "none")], False),
        ([("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "same-origin")], False),
        ([("Origin", "http://127.0.0.1:3000")], False),
        ([("Origin", "https://127.0.0.1:8000")], False),
        ([("Origin", "null")], False),
        ([("Origin", FRIEND)], False),
        ([("Origin", "https://evil.example")], False),
        ([("Referer", f"{HOME}/")], False),
    ],
)
async def test_only_a_page_of_the_servers_own_may_use_the_cookie(
    store: SqliteStore, path: str, headers: list[tuple[str, str]], allowed: bool
) -> None:
    browser = Browser(build(store, allowed_origins=(FRIEND,)))
    await browser.login()
    kept = browser.refresh_token
    answer = await browser.post(path, headers=headers)
    if allowed:
        assert answer.status == 200
    else:
        answer.problem(403, "forbidden")
        assert cookie(answer) is None
        browser.refresh_token = kept
        assert await browser.works()
        assert (await browser.refresh()).status == 200, "nothing was rotated or ended"


async def test_behind_a_proxy_that_ends_tls_the_page_is_known_by_its_https_origin(store: SqliteStore) -> None:
    browser = Browser(build(store, trusted_proxies=("127.0.0.1",)))
    await browser.login()
    proxied = [("Origin", "https://127.0.0.1:8000"), ("X-Forwarded-Proto", "https")]
    assert (await browser.post("/api/auth/refresh", headers=proxied)).status == 200
    answer = await browser.post("/api/auth/refresh", headers=[("Origin", HOME), ("X-Forwarded-Proto", "https")])
    answer.problem(403, "forbidden")


async def test_a_page_elsewhere_cannot_sign_anybody_in(api: SignInApi) -> None:
    answer = await Browser(api).post("/api/auth/login", {"code": await make_code(api)}, headers=[("Origin", FRIEND)])
    answer.problem(403, "forbidden")
    assert cookie(answer) is None


async def test_a_browser_is_never_told_to_send_the_cookie_across_origins(store: SqliteStore) -> None:
    api = build(store, allowed_origins=(FRIEND,))
    for target in ("/api/auth/login", "/api/auth/refresh", "/api/auth/logout"):
        ask = [("Origin", FRIEND), ("Access-Control-Request-Method", "POST")]
        answer = await api.call("OPTIONS", target, bearer=None, headers=ask)
        assert answer.status == 204
        assert "access-control-allow-credentials" not in answer.headers


async def test_the_cookie_alone_opens_nothing_else(browser: Browser, api: SignInApi) -> None:
    await browser.login()
    own = [("Origin", HOME), ("Sec-Fetch-Site", "same-origin")]
    headers = [*own, ("Cookie", f"{COOKIE}={browser.refresh_token}")]
    (await api.get("/api/jobs", bearer=None, headers=headers)).problem(401, "unauthorized")
    (await api.post("/api/auth/codes", bearer=None, headers=headers)).problem(401, "unauthorized")


# --- signing out ---------------------------------------------------------------------------------------------------


async def test_signing_out_ends_the_session_and_clears_the_cookie(api: SignInApi, browser: Browser) -> None:
    await browser.login()
    other = Browser(api)
    await other.login()
    kept = browser.refresh_token
    answer = await browser.logout()
    morsel = cookie(answer)
    assert answer.data == {"ended": True}
    assert morsel is not None
    assert (morsel.value, morsel["max-age"], morsel["path"]) == ("", "0", "/api/auth")
    assert not await browser.works()
    browser.refresh_token = kept
    (await browser.refresh()).problem(401, "unauthorized")
    assert (await browser.logout()).data == {"ended": False}
    assert await other.works(), "another session of the same subject goes on"


async def test_signing_out_without_a_session_does_nothing(api: SignInApi) -> None:
    answer = await api.post("/api/auth/logout", bearer=None)
    assert (answer.status, answer.data) == (200, {"ended": False})


# --- secrets -------------------------------------------------------------------------------------------------------


async def test_no_code_token_or_cookie_reaches_the_log_or_the_database(
    api: SignInApi, browser: Browser, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    code = await make_code(api)
    await browser.post("/api/auth/login", {"code": code})
    secrets = {code, browser.access_token, browser.refresh_token, *browser.refresh_token.split(".")}
    await browser.refresh()
    secrets |= {browser.access_token, browser.refresh_token}
    issued = (await api.post("/api/tokens", {"name": "ci"})).data["token"]
    secrets |= {issued, issued.rpartition(".")[2]}
    stale = Browser(api)
    stale.refresh_token = browser.refresh_token
    await browser.refresh()
    await browser.refresh()
    secrets |= {browser.access_token, browser.refresh_token}
    await stale.refresh()
    await browser.logout()
    listed = (await api.get("/api/tokens")).body.decode()
    said = caplog.text + repr([record.__dict__ for record in caplog.records])
    dump = b"".join(each.read_bytes() for each in tmp_path.glob("jobs.db*"))
    assert len(said) > 100
    assert len(dump) > 1000
    for secret in secrets:
        assert secret not in said
        assert secret not in listed
        assert secret.encode() not in dump
