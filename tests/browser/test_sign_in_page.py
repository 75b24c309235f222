"""Who comes in, for how long, and what they see."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import Open
from tests.browser.kit import Server, Watched, until

SHORT_LIVED = (
    "-c",
    "import sys; from jobctl import auth; auth.ACCESS_TTL_S = 6; from jobctl.cli.main import run; sys.exit(run())",
)


def stored(watched: Watched) -> str:
    """All that a script can find again: storages, cookies, the address."""
    places = "[{...localStorage}, {...sessionStorage}, document.cookie, location.href]"
    return str(watched.page.evaluate(f"JSON.stringify({places})"))


def test_a_link_signs_in_once_and_leaves_no_trace(server: Server, context: BrowserContext, open_page: Open) -> None:
    link = server.link("ann", "admin")
    watched = Watched(context, server)
    watched.page.goto(link)
    watched.live()
    expect(watched.page).to_have_url(server.url + "/")
    code = link.partition("code=")[2]
    assert not any(code in url for _, url in watched.requests)
    assert code not in stored(watched)
    assert "eyJ" not in stored(watched)  # how every JWT begins
    watched.settle()
    watched.page.reload()
    watched.live()
    until(lambda: ("POST", "/api/auth/refresh") in watched.requests)
    watched.page.close()
    context.clear_cookies()
    again = Watched(context, server)
    again.page.goto(link)
    again.page.get_by_text("This link has been used").wait_for()


def test_a_new_link_works_in_the_tab_that_shows_the_sign_in(server: Server, context: BrowserContext) -> None:
    watched = Watched(context, server)
    watched.page.goto(server.url)
    watched.page.locator("#token").wait_for()
    watched.page.evaluate("link => { location.href = link; }", server.link())
    watched.live()


def test_a_token_can_be_pasted_and_a_bad_one_is_told(server: Server, context: BrowserContext) -> None:
    watched = Watched(context, server)
    page = watched.page
    page.goto(server.url)
    page.locator("#token").fill("nonsense")
    page.get_by_role("button", name="Sign in").click()
    until(lambda: "token" in page.locator("#why").inner_text())
    page.locator("#token").fill(server.token("bob", "user"))
    page.get_by_role("button", name="Sign in").click()
    watched.live()
    expect(page.locator("summary").first).to_have_attribute("aria-label", "Account: bob, user")
    assert "eyJ" not in stored(watched)


def test_a_pasted_token_ends_and_the_page_says_so(server: Server, context: BrowserContext) -> None:
    watched = Watched(context, server)
    page = watched.page
    page.goto(server.url)
    page.locator("#token").fill(server.ask("POST", "/api/tokens", {"name": "pasted", "role": "admin"})["token"])
    page.get_by_role("button", name="Sign in").click()
    watched.live()
    server.ask("DELETE", "/api/tokens/pasted")
    page.get_by_text("The token that you pasted has ended").wait_for()
    expect(page.locator("tbody tr")).to_have_count(0)


def test_a_session_is_renewed_before_its_token_ends_without_losing_the_stream(
    own_server: Callable[..., Server], open_page: Open
) -> None:
    server = own_server(program=SHORT_LIVED)
    server.ttl = 5
    watched = open_page(server)
    watched.settle()
    until(lambda: [url for _, url in watched.requests].count("/api/auth/refresh") >= 2)
    job_id = server.enqueue()
    watched.shows(job_id, "completed")
    assert {url for _, url in watched.requests} == {"/api/auth/refresh"}
    assert watched.sockets == 1
    expect(watched.page.locator('[data-link="live"]')).to_have_count(1)


def test_a_user_sees_only_their_own_jobs_and_nothing_for_admins(server: Server, open_page: Open) -> None:
    others = server.enqueue("later", delay=9000)
    own = server.enqueue("later", subject="eve", role="user", delay=9000)
    watched = open_page(server, subject="eve", role="user", rest="/?view=schedules")
    page = watched.page
    watched.row(own).wait_for()
    expect(page.locator("tbody tr")).to_have_count(1)
    until(lambda: watched.count("pending") == "1")
    expect(page.locator("nav a")).to_have_text(["Jobs", "Queues"])
    expect(page.get_by_text("Mine")).to_have_count(0)
    page.keyboard.press("2")
    expect(page.locator("jc-schedules")).to_be_hidden()
    page.keyboard.press("4")
    expect(page.locator("jc-workers")).to_be_hidden()
    page.keyboard.press("3")
    page.locator(".queue-card").first.wait_for()
    expect(page.locator("[data-pause]")).to_have_count(0)
    page.goto(f"{server.url}/?job={others}")
    page.get_by_text("There is no such job.").wait_for()
    assert not any(re.match("/api/(queues|tokens|workers|jobs/schedules)", url) for _, url in watched.requests)


def test_signing_out_ends_it_in_every_tab_and_for_good(server: Server, open_page: Open) -> None:
    one = open_page(server, subject="zoe")
    two = open_page(server, subject="zoe")
    one.page.locator("summary").first.click()
    one.page.get_by_role("button", name="Sign out").click()
    for each in (one, two):
        each.page.locator("#token").wait_for()
        expect(each.page.locator("tbody")).to_have_count(0)
    until(lambda: ("POST", "/api/auth/logout") in one.requests)
    two.page.reload()
    two.page.locator("#token").wait_for()


def test_the_first_load_is_small(server: Server, context: BrowserContext) -> None:
    """What the browser itself counts, heads included; the list is empty, for its size is the jobs'."""
    watched = Watched(context, server)
    chrome = context.new_cdp_session(watched.page)
    chrome.send("Network.enable")
    sizes: list[int] = []
    chrome.on("Network.loadingFinished", lambda told: sizes.append(told["encodedDataLength"]))
    watched.sign_in(rest="/?q=nothing-matches-this")
    until(lambda: watched.requests and len(sizes) >= len(watched.requests))
    assert len(sizes) > 40
    assert sum(sizes) < 120_000


def test_it_works_without_anything_but_the_server(server: Server, open_page: Open) -> None:
    watched = open_page(server)
    seen: list[str] = []
    watched.page.on("request", lambda request: seen.append(request.url))
    watched.page.reload()
    watched.live()
    assert seen
    assert all(url.startswith(server.url) for url in seen)
