"""Signing in: codes, the refresh cookie, theft and races, who may use the cookie, signing out."""
# ruff: noqa: F811  (fixtures are imported by name)

import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from rest_kit import SECRET, user  # noqa: F401
from sign_in_kit import ADMIN, COOKIE, DAY, HOME, Browser, SignInApi, api, build, cookie, make_code, store  # noqa: F401

from jobctl.access import sessions
from jobctl.store.sqlite import SqliteStore
from jobctl.store.token_writes import MAX_SESSIONS


@pytest.fixture
def browser(api: SignInApi) -> Browser:
    return Browser(api)


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
    api.clock.ahead = sessions.GRACE_S / 2  # and the rest is for a busy machine
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
