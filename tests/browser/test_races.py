"""What comes in a bad order: another person in the same tab, answers to questions of before, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.conftest import Open
from tests.browser.kit import Server, Watched, go_to, until

Js = Callable[[str, Any], Any]
BROKEN = json.dumps({"status": 500, "code": "internal", "detail": "out of order"})


def fails(route: Any) -> None:
    route.fulfill(status=500, content_type="application/problem+json", body=BROKEN)


def paste(watched: Watched, token: str) -> None:
    watched.page.locator("#token").fill(token)
    watched.page.get_by_role("button", name="Sign in").click()
    watched.page.locator("[data-new-job]").wait_for()


# --- while it loads -------------------------------------------------------------------------------------------------


@pytest.fixture
def half(server: Server, context: BrowserContext) -> Callable[[str, str], tuple[Watched, Callable[[], None]]]:
    """A signed-in page at a place, one of whose files does not come before it is let go."""

    def open_(name: str, place: str) -> tuple[Watched, Callable[[], None]]:
        Watched(context, server).sign_in().page.close()
        watched = Watched(context, server)
        held: list[Any] = []
        watched.page.route(f"**/static/{name}", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks it
        watched.page.goto(server.url + place, wait_until="commit")
        return watched, lambda: held.pop().continue_()

    return open_


Half = Callable[[str, str], tuple[Watched, Callable[[], None]]]


def lists(watched: Watched) -> list[str]:
    return [url for method, url in watched.requests if url.startswith("/api/jobs?")]


def test_the_list_is_asked_for_before_the_parts_of_the_page_are_there(server: Server, half: Half) -> None:
    job_id = server.enqueue("later", delay=9000, tags=["first"])
    watched, let_go = half("app.js", "/?tag=first")
    until(lambda: lists(watched))
    server.ask("POST", f"/api/jobs/{job_id}/cancel")  # what comes after the list is not missed
    let_go()
    watched.live()
    watched.shows(job_id, "cancelled")
    assert lists(watched) == ["/api/jobs?tag=first&limit=50"]


def test_a_list_that_was_asked_for_first_is_not_taken_for_another(server: Server, half: Half) -> None:
    server.enqueue("later", delay=9000, tags=["left"])
    job_id = server.enqueue("later", delay=9000, tags=["went-to"])
    watched, let_go = half("app.js", "/?tag=left")
    until(lambda: lists(watched))
    watched.page.evaluate("history.replaceState(null, '', '/?tag=went-to')")
    let_go()
    watched.live()
    watched.row(job_id).wait_for()
    expect(watched.page.locator("tbody tr")).to_have_count(1)
    assert lists(watched) == ["/api/jobs?tag=left&limit=50", "/api/jobs?tag=went-to&limit=50"]


def test_a_first_list_that_cannot_be_had_is_told_and_asked_for_again(server: Server, half: Half) -> None:
    job_id = server.enqueue("later", delay=9000, tags=["in-vain"])
    watched, let_go = half("app.js", "/?tag=in-vain")
    until(lambda: lists(watched))
    watched.page.route("**/api/jobs?*", fails)
    watched.page.reload(wait_until="commit")
    until(lambda: len(lists(watched)) == 2)
    let_go()
    watched.page.get_by_text("out of order").wait_for()
    watched.page.unroute("**/api/jobs?*")
    watched.row(job_id).wait_for()
    assert watched.wrong == []


def test_a_new_job_that_is_wanted_before_its_form_has_come_is_not_forgotten(server: Server, half: Half) -> None:
    watched, let_go = half("new-job.js", "/?tag=eager")
    watched.page.locator("[data-new-job]").click()
    watched.page.locator('[data-link="live"]').wait_for()
    let_go()
    watched.page.locator("jc-new-job dialog[open]").wait_for()


# --- another person in the same tab ---------------------------------------------------------------------------------


def test_who_signs_in_after_another_sees_their_own_list_and_asks_once(server: Server, open_page: Open) -> None:
    others = server.enqueue("later", delay=9000, tags=["next"])
    own = server.enqueue("later", subject="kim", role="user", delay=9000, tags=["next"])
    watched = open_page(server, rest="/?tag=next")
    watched.row(others).wait_for()
    for who, role, rows in (("kim", "user", 1), ("root", "admin", 2)):
        watched.page.locator("summary").first.click()
        watched.page.get_by_role("button", name="Sign out").click()
        paste(watched, server.token(who, role))
        watched.row(own).wait_for()
        until(lambda rows=rows: watched.page.locator("tbody tr").count() == rows)
    server.ask("POST", f"/api/jobs/{own}/cancel")
    watched.shows(own, "cancelled")
    watched.settle()
    watched.page.keyboard.press("3")
    watched.page.locator(".queue-card").first.wait_for()
    until(lambda: ("GET", "/api/queues") in watched.requests)
    watched.page.wait_for_timeout(200)  # for those that should not come
    asked = [each for each in watched.requests if each[1].startswith("/api/")]
    assert asked == [("GET", "/api/queues")]  # by the view that is there, not by those that were


def test_a_renewal_that_comes_after_signing_out_signs_nobody_in(server: Server, open_page: Open) -> None:
    watched = open_page(server)
    page = watched.page
    script = """async () => {
        const { app } = document.querySelector('jc-shell');
        const renewed = app.session.renew();
        void app.signOut();
        return [await renewed, app.who, app.api.token];
    }"""
    assert page.evaluate(script) == [False, None, None]
    page.locator("#token").wait_for()


def test_the_reason_why_a_session_ended_stays(server: Server, context: BrowserContext, open_page: Open) -> None:
    watched = open_page(server)
    context.clear_cookies()
    script = """async () => {
        const { app } = document.querySelector('jc-shell');
        app.api.token = 'worn out';
        await app.load();
        await app.api.get('/api/jobs').catch(() => undefined); // one that was refused a little later
    }"""
    watched.page.evaluate(script)
    watched.page.get_by_text("Your session has ended.").wait_for()


def test_a_pasted_token_is_used_to_its_end(server: Server, context: BrowserContext) -> None:
    """The server says a minute before that it is about to end; there is nothing to renew it by."""
    watched = Watched(context, server)
    watched.page.goto(server.url)
    paste(watched, server.token(ttl=30))
    watched.live()
    watched.page.evaluate("document.querySelector('jc-shell').app.stream.session.renewIfOld()")
    assert watched.page.evaluate("document.querySelector('jc-shell').app.who.subject") == "root"


# --- lists that cannot be had ---------------------------------------------------------------------------------------


def test_rows_of_another_filter_are_not_shown_for_one_whose_list_cannot_be_had(server: Server, open_page: Open) -> None:
    job_id = server.enqueue("later", delay=9000, tags=["before"])
    watched = open_page(server, rest="/?tag=before")
    page = watched.page
    watched.row(job_id).wait_for()
    page.route("**/api/jobs?*status=failed*", fails)
    page.locator('.tile[data-status="failed"]').click()
    page.get_by_text("out of order").wait_for()
    expect(page.locator("tbody")).to_be_hidden()
    page.unroute("**/api/jobs?*status=failed*")
    page.get_by_text("Nothing matches").wait_for()  # it is asked for again without a click


def test_a_refusal_of_a_question_of_before_is_not_told_of_the_next(server: Server, open_page: Open) -> None:
    watched = open_page(server)
    page = watched.page

    def late(route: Any) -> None:
        go_to(page, "/?tag=quick")
        page.get_by_text("Nothing matches").wait_for()
        fails(route)

    page.route("**/api/jobs?*tag=slow*", late)
    go_to(page, "/?tag=slow")
    page.get_by_text("Nothing matches").wait_for()
    page.wait_for_timeout(200)
    expect(page.locator(".empty >> text=out of order")).to_have_count(0)


def test_a_page_that_waits_for_its_list_is_not_called_live(server: Server, open_page: Open) -> None:
    watched = open_page(server, rest="/?tag=caught-up")
    page = watched.page
    page.route("**/api/jobs?*", fails)
    page.evaluate("""() => {
        const { stream } = document.querySelector('jc-shell').app;
        stream.socket.onmessage({data: JSON.stringify({type: 'resync', seq: 1, epoch: 'e'})});
    }""")
    page.locator('[data-link="catching up"]').wait_for()
    page.unroute("**/api/jobs?*")
    page.locator('[data-link="live"]').wait_for()
    job_id = server.enqueue(tags=["caught-up"])
    watched.shows(job_id, "completed")
    assert watched.sockets == 1


# --- back and forth -------------------------------------------------------------------------------------------------


def test_newer_goes_to_the_page_before_also_after_the_browsers_own_back(server: Server, open_page: Open) -> None:
    newest = server.batch([{"name": "later", "delay": 9000, "tags": ["there"]} for _ in range(120)])[::-1]
    watched = open_page(server, rest="/?tag=there")
    page = watched.page

    def first(job_id: str) -> None:
        until(lambda: page.locator("tbody tr").first.get_attribute("data-id") == job_id)

    for job_id in (newest[50], newest[100]):
        page.get_by_role("button", name="Older").click()
        first(job_id)
    page.go_back()
    first(newest[50])
    page.get_by_role("button", name="Newer").click()
    first(newest[0])
    page.go_back()
    page.go_forward()
    page.go_back()
    first(newest[50])
    page.go_back()
    page.go_forward()
    page.reload()
    watched.live()
    first(newest[50])
    page.get_by_role("button", name="Newer").click()
    first(newest[0])


def test_the_address_of_a_row_has_the_filter_of_now(server: Server, open_page: Open) -> None:
    job_id = server.enqueue("later", delay=9000, tags=["address-of-now"])
    watched = open_page(server, rest="/?tag=address-of-now")
    watched.page.locator('.tile[data-status="pending"]').click()
    address = watched.page.locator(f'[data-open="{job_id}"]')
    until(lambda: address.get_attribute("href") == f"/?status=pending&tag=address-of-now&job={job_id}")


def test_a_tab_that_was_never_looked_at_lets_go_of_its_connection(server: Server, open_page: Open) -> None:
    watched = open_page(server)
    page = watched.page
    page.add_init_script("Object.defineProperty(document, 'hidden', {configurable: true, get: () => true});")
    page.clock.install()
    page.reload()
    until(lambda: page.evaluate("document.querySelector('jc-shell')?.app.stream.link.kind") == "live")
    page.clock.fast_forward(20_000)
    until(lambda: page.evaluate("document.querySelector('jc-shell').app.stream.link.kind") == "paused")


# --- without a server -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def js(browser: Browser, server: Server) -> Iterator[Js]:
    """Runs a script with the exports of a module in scope as ``m``."""
    page = browser.new_page()
    page.goto(server.url)
    yield lambda module, script: page.evaluate(
        f"async () => {{ const m = await import('/static/{module}.js'); {script} }}"
    )
    page.close()


def test_an_answer_for_the_person_before_is_dropped(js: Js) -> None:
    script = """
        const state = new m.State(50, () => {});
        const theirs = state.fetching();
        state.reset();
        const own = state.fetching();
        return theirs === own;"""
    assert js("state", script) is False


def test_a_connection_that_is_asked_to_subscribe_late_is_given_time_to_answer(js: Js) -> None:
    script = """
        const follower = new m.Follower();
        const hear = (message, now) => follower.receive(JSON.stringify(message), now);
        follower.opened(0); hear({type: 'auth_required'}, 0); hear({type: 'connected'}, 0);
        for (let now = 250; now <= 30000; now += 250) follower.tick(now);
        follower.begin({epoch: 'e', seq: 1});
        const told = [];
        for (let now = 30250; now <= 60000; now += 250) if (follower.tick(now).length) told.push(now);
        return told[0];"""
    assert 39_000 < js("follower", script) < 42_000


def test_log_lines_that_come_twice_are_kept_once(js: Js) -> None:
    script = """
        const state = new m.State(50, () => {});
        state.watch('a');
        for (const lines of [[1, 2], [1, 2, 3], [3]])
            state.receive({type: 'job_log', id: 'a', lines: lines.map(n => ({n}))}, 0);
        return state.detail.lines.map(line => line.n);"""
    assert js("state", script) == [1, 2, 3]


def test_an_open_job_that_is_pruned_is_said_to_be_gone(js: Js) -> None:
    script = """
        const state = new m.State(50, () => {});
        const job = {id: 'a', version: 2, status: 'completed', completedAt: '2026-01-01T00:00:00.000Z'};
        state.watch('a'); state.detailLoaded(job, []);
        const prune = finishedBefore => {
            state.receive({type: 'jobs_pruned', seq: 1, statuses: ['completed'], finishedBefore}, 0);
            return state.detail.gone;
        };
        return [prune('2025-12-31T00:00:00.000Z'), prune('2026-01-02T00:00:00.000Z')];"""
    assert js("state", script) == [False, True]


def test_what_waits_is_counted_to_a_bound(js: Js) -> None:
    """A page that is open for a day beside a busy server: millions of ids would not fit into it."""
    script = """
        const page = new m.Page(1);
        const filter = {status: [], name: [], queue: [], tag: [], q: '', mine: false};
        const job = id => ({id, createdAt: id, version: 1, status: 'pending', tags: [], name: ''});
        page.load({jobs: [job('0')], cursor: null, hasMore: false}, filter, '', true);
        for (let n = 0; n < m.MAX_WAITING + 10; n++) page.apply(job(`1${n}`), 0);
        return [page.waiting.size - m.MAX_WAITING, page.overfull];"""
    assert js("page", script) == [0, True]


def test_a_second_guess_outlives_the_answer_to_the_first(js: Js) -> None:
    script = """
        const overlay = new m.Overlay();
        const job = {id: 'a', version: 1, status: 'failed'};
        const first = overlay.set(job, {status: 'pending'});
        overlay.settle({...job, version: 2});
        overlay.set({...job, version: 2}, {status: 'cancelled'});
        overlay.drop('a', first);
        return overlay.shown({...job, version: 2}).status;"""
    assert js("page", script) == "cancelled"


def test_a_command_is_copied_from_a_dialog_also_without_a_clipboard(server: Server, open_page: Open) -> None:
    """Plain http on another machine: only what is selected can be copied, and a modal dialog makes the rest inert."""
    watched = open_page(server)
    page = watched.page
    page.evaluate("""() => {
        Object.defineProperty(navigator, 'clipboard', {value: undefined});
        document.addEventListener('copy', () => { window.copied = String(document.activeElement.value); });
    }""")
    page.keyboard.press("n")
    button = page.locator("jc-new-job").get_by_role("button", name="Copy")
    button.click()
    page.locator(".toast", has_text="Command copied").wait_for()
    assert page.evaluate("window.copied").startswith("jobctl enqueue")
    expect(button).to_be_focused()
