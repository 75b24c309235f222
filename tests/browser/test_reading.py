"""Read by anybody: with a keyboard only, by a screen reader, in both themes, on any width, whatever the texts are."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.conftest import Open
from tests.browser.kit import Server, Watched, until
from tests.browser.tasks import HOSTILE

PLACES = {
    "/?tag=read": "tbody tr >> nth=3",
    "/?view=schedules": "[data-schedule]",
    "/?view=queues": ".queue-card",
    "/?view=workers": ".worker",
    "/?q=nothing-matches-this": "text=Nothing matches",
}
"""Each view, and what is there when it is drawn."""
DRAWN = ".timeline li:nth-child(3)"
WIDE = """() => [...document.querySelectorAll('body *')]
    .filter(each => each.checkVisibility() && !each.closest('.offscreen, .skip, svg, pre, .scroll, td, th'))
    .filter(each => each.offsetWidth && each.getBoundingClientRect().right > innerWidth + 0.5)
    .map(each => `${each.tagName}.${each.className}`)"""
"""What stands out of the window to the right."""
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def found_by_axe(page: Any) -> list[str]:
    result = Axe().run(page, options={"runOnly": {"type": "tag", "values": TAGS}})
    return [
        f"{each['id']}: {node['target']} {node['failureSummary'][:300]}"
        for each in result.response["violations"]
        for node in each["nodes"][:3]
    ]


@pytest.fixture(scope="session")
def furnished(server: Server) -> str:
    """A job with all that a job can have; there is a schedule, too. Once a server: files of tests take turns on one."""
    server.ask("POST", "/api/jobs/schedules", {"name": "read", "cron": "0 3 * * 1", "jobName": "noop"})
    for name in ("noop", "hostile", "later"):
        server.enqueue(name, tags=["read"])
    job_id = server.enqueue("import-orders", data={"shop": "acme", "pause": 0}, tags=["read"])
    until(lambda: server.job(job_id)["status"] == "completed")
    return job_id


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (360, "dark")])
def test_axe_finds_nothing(browser: Browser, server: Server, furnished: str, width: int, theme: Any) -> None:
    """With the policy out of the way for axe itself, which is put into the page."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce", bypass_csp=True
    )
    try:
        watched = Watched(context, server)
        page = watched.page
        page.goto(server.url)
        page.locator("#token").wait_for()
        assert found_by_axe(page) == [], "sign-in"
        watched.sign_in(rest="/?tag=read")
        for place, drawn in [*PLACES.items(), (f"/?tag=read&job={furnished}", DRAWN)]:
            watched.go(place)
            page.locator(drawn).first.wait_for()
            assert found_by_axe(page) == [], place
        page.keyboard.press("Escape")
        page.keyboard.press("n")
        page.locator("jc-new-job dialog[open]").wait_for()
        assert found_by_axe(page) == [], "new job"
    finally:
        context.close()


@pytest.mark.parametrize("width", [360, 768, 1280, 2560, 3840])
def test_nothing_is_wider_than_the_window(browser: Browser, server: Server, furnished: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce")
    try:
        watched = Watched(context, server).sign_in()
        page = watched.page
        for place, drawn in [*PLACES.items(), (f"/?tag=read&job={furnished}", DRAWN)]:
            watched.go(place)
            page.locator(drawn).first.wait_for()
            assert page.evaluate(WIDE) == [], place
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place
        page.keyboard.press("Escape")
        for kind in ("waiting", "polling", "catching up"):
            page.evaluate(
                """kind => {
                    const { app } = document.querySelector('jc-shell');
                    app.stream.link = {kind, ...(kind === 'waiting' ? {until: performance.now() + 9000} : {})};
                    app.changed();
                }""",
                kind,
            )
            page.locator(f'[data-link="{kind}"]').wait_for()
            assert page.evaluate(WIDE) == [], kind
    finally:
        context.close()


def test_news_a_selection_and_a_message_leave_each_other_room(browser: Browser, server: Server) -> None:
    for width in (360, 700, 1280):
        tag = f"room-{width}"
        server.batch([{"name": "later", "delay": 9000, "tags": [tag]} for _ in range(60)])
        context = browser.new_context(viewport={"width": width, "height": 740}, reduced_motion="reduce")
        watched = Watched(context, server).sign_in(rest=f"/?tag={tag}")
        page = watched.page
        page.locator("tbody input").first.click()
        page.mouse.move(1, 1)
        server.batch([{"name": "later", "delay": 9000, "tags": [tag]} for _ in range(1200)])
        until(lambda page=page: page.locator("[data-news]").inner_text().startswith("1,200 more jobs"))
        expect(page.locator(".bulk")).to_be_visible()
        page.evaluate("document.dispatchEvent(new CustomEvent('toast', {detail: {text: 'told', kind: 'bad'}}))")
        toast = page.locator(".toast")
        toast.wait_for()
        box = "each => { const at = each.getBoundingClientRect(); return [at.left, at.right, at.top, at.bottom]; }"
        assert toast.evaluate(box)[3] <= page.locator(".bulk").evaluate(box)[2]  # it stays for ten seconds
        card = page.locator("jc-jobs").evaluate(box)
        for each in page.locator(".list-head > :not(.offscreen)").all():
            left, right, *_ = each.evaluate(box)
            assert card[0] <= left <= right <= card[1], each.inner_text()
        head = [each.evaluate(box) for each in page.locator(".list-head :is(button, select)").all()]
        for one, other in itertools.combinations(head, 2):
            assert one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
        context.close()


def test_hostile_text_is_text_and_breaks_nothing(server: Server, open_page: Open) -> None:
    tag = '<b onclick="x">\u202etag'
    data = {"html": HOSTILE[:6000].replace("\0", ""), "<script>": 1}
    job_id = server.enqueue("hostile", data=data, tags=[tag, "hostile-text"], uniqueKey="<i>\u200bkey")
    until(lambda: server.job(job_id)["status"] == "failed")
    watched = open_page(server, rest=f"/?tag=hostile-text&job={job_id}")
    page = watched.page
    page.locator('aside[data-status="failed"]').wait_for()
    page.locator(".log-line").wait_for()
    error = page.locator('pre[aria-label="Error"]').inner_text()
    assert "<img src=x onerror=" in error
    assert "\\u202egnp.exe\\u202c \\u200b\\x1b[31mred\\x1b[0m \\x00" in error
    assert "{{7*7}} ${7*7} &lt;b&gt; longlong" in error
    for place in ("aside", "jc-jobs"):
        text = page.locator(place).inner_text()
        assert not [each for each in text if each in "\u202e\u202c\u200b\x1b\x00"], place
    assert page.evaluate("document.querySelectorAll('jc-shell script, jc-shell b, jc-shell i, aside img').length") == 0
    expect(page).to_have_title("Jobs · jobctl")
    assert watched.row(job_id).bounding_box()["height"] < 60
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # As a filter it goes to the server and back, and still is text.
    page.keyboard.press("Escape")
    watched.row(job_id).locator(".tag").first.click()
    until(lambda: "tag=%3Cb" in page.url)
    watched.row(job_id).wait_for()
    page.locator("jc-filters select").nth(2).locator("option", has_text="\\u202etag").wait_for(state="attached")


def test_the_page_cannot_make_markup_or_run_text(server: Server, open_page: Open) -> None:
    watched = open_page(server)
    refused = watched.page.evaluate("""() => new Promise(done => setTimeout(() => {
        const tried = [() => { document.body.innerHTML = '<p>x'; }, () => eval('1'), () => new Function('1')];
        done(tried.map(each => { try { each(); return 'done'; } catch (error) { return error.name; } }));
    }, 10))""")
    assert refused == ["TypeError", "EvalError", "EvalError"]
    watched.wrong.clear()  # the browser has told of each


def test_all_of_it_by_keyboard(server: Server, open_page: Open) -> None:
    ids = server.batch([{"name": "later", "delay": 9000, "tags": ["keys"]} for _ in range(3)])[::-1]
    watched = open_page(server)
    page = watched.page

    def focused() -> str:
        return str(page.evaluate("document.activeElement.dataset.open ?? document.activeElement.tagName"))

    page.keyboard.press("/")
    until(lambda: focused() == "INPUT")
    page.keyboard.type("keys")
    until(lambda: page.locator("tbody tr").count() == 3)
    page.keyboard.press("Escape")
    expect(page.locator("[data-search]")).to_have_value("keys")
    page.keyboard.press("j")
    until(lambda: focused() == ids[0])
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    until(lambda: focused() == ids[1])
    page.keyboard.press("x")
    until(lambda: page.locator(".bulk strong").inner_text() == "1 selected")
    page.locator(f'[data-open="{ids[1]}"]').focus()
    page.keyboard.press("Enter")
    page.locator("aside").wait_for()
    until(lambda: page.evaluate("document.activeElement.id") == "job-title")
    page.keyboard.press("Escape")
    until(lambda: focused() == ids[1])
    page.keyboard.press("Escape")
    page.locator(".bulk").wait_for(state="hidden")
    page.keyboard.press("?")
    page.locator("dialog.help").wait_for()
    page.keyboard.press("j")
    page.keyboard.press("Escape")
    page.locator("dialog.help").wait_for(state="detached")
    page.keyboard.press("3")
    page.locator(".queue-card").first.wait_for()
    page.keyboard.press("n")
    page.locator("jc-new-job dialog[open]").wait_for()
    page.keyboard.press("Escape")
    page.locator("jc-new-job dialog").wait_for(state="hidden")
    page.keyboard.press("1")
    page.locator("tbody tr").first.wait_for()


def test_keys_of_one_character_can_be_turned_off(server: Server, open_page: Open) -> None:
    [job_id] = server.batch([{"name": "later", "delay": 9000, "tags": ["no-keys"]}])
    one, two = open_page(server, rest="/?tag=no-keys"), open_page(server, rest="/?tag=no-keys")
    page = one.page
    choice = page.get_by_label("Keys of a single character")

    def choose(checked: bool) -> None:
        page.locator("summary").first.click()
        page.get_by_role("button", name="Keyboard").click()
        expect(choice).to_be_checked(checked=not checked)
        choice.click()
        page.keyboard.press("Escape")
        page.locator("dialog.help").wait_for(state="detached")

    choose(checked=False)
    page.reload()
    one.live()
    for each in (one, two):
        expect(each.page.locator(".search kbd")).to_be_hidden()
        each.page.locator(f'[data-open="{job_id}"]').focus()
        each.settle()
        before = each.page.evaluate("document.activeElement.outerHTML")
        for key in "jkx/n23?[]1":
            each.page.keyboard.press(key)
        assert each.page.evaluate("document.activeElement.outerHTML") == before
        expect(each.page.locator("dialog[open], .bulk:not([hidden])")).to_have_count(0)
        expect(each.page).to_have_url(f"{server.url}/?tag=no-keys")
        assert each.requests == []
    page.keyboard.press("Enter")
    page.locator("aside").wait_for()
    page.keyboard.press("Escape")
    expect(page.locator("aside")).to_be_hidden()
    choose(checked=True)
    expect(two.page.locator(".search kbd")).to_be_visible()
    for each in (one, two):
        each.page.keyboard.press("3")
        each.page.locator(".queue-card").first.wait_for()


@pytest.mark.parametrize("width", [360, 640])
def test_what_the_drawer_covers_is_out_of_reach(browser: Browser, server: Server, furnished: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 780}, bypass_csp=True, reduced_motion="reduce")
    try:
        watched = Watched(context, server).sign_in(rest="/?tag=read")
        page = watched.page
        opener = page.locator(f'[data-open="{furnished}"]')
        opener.focus()
        page.keyboard.press("Enter")
        heading = page.locator("#job-title")
        expect(heading).to_be_focused()
        page.locator(".log-line").first.wait_for()
        assert page.locator("aside").bounding_box() == {"x": 0, "y": 0, "width": width, "height": 780}
        assert found_by_axe(page) == []
        within = "document.activeElement === document.body || document.activeElement.closest('jc-job') !== null"
        reached = set()
        for key in ["Tab"] * 20 + ["Shift+Tab"] * 20:
            page.keyboard.press(key)
            assert page.evaluate(within), page.evaluate("document.activeElement.outerHTML")
            reached.add(page.evaluate("document.activeElement.outerHTML"))
        assert len(reached) > 5
        page.set_viewport_size({"width": 1280, "height": 780})  # now it stands beside the table
        expect(page.locator("[inert]")).to_have_count(0)
        page.locator("[data-search]").focus()
        page.set_viewport_size({"width": width, "height": 780})
        expect(heading).to_be_focused()
        expect(page.locator("#main")).to_have_attribute("inert", "")
        page.keyboard.press("Escape")
        expect(page.locator("[inert]")).to_have_count(0)
        expect(opener).to_be_focused()
    finally:
        context.close()


def test_a_job_that_was_opened_by_its_address_gives_the_focus_to_the_view(
    browser: Browser, server: Server, furnished: str
) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 780})
    try:
        watched = Watched(context, server).sign_in(rest=f"/?q=nothing-matches-this&job={furnished}")
        expect(watched.page.locator("#job-title")).to_be_focused()
        watched.page.keyboard.press("Escape")
        expect(watched.page.locator("#main")).to_be_focused()
    finally:
        context.close()


def test_screen_readers_are_told_little(server: Server, open_page: Open, context: BrowserContext) -> None:
    """Twenty jobs run past; the live regions speak of new rows once. What the connection tells is another test."""
    server.batch([{"name": "later", "delay": 9000, "tags": ["quiet"]} for _ in range(60)])
    watched = open_page(server, rest="/?tag=quiet")
    page = watched.page
    page.evaluate("""() => {
        window.told = [];
        const live = '[role=status], [role=alert], [aria-live=polite], [role=log]:not([aria-live=off])';
        for (const region of [...document.querySelectorAll(live)].filter(each => !each.closest('jc-link')))
            new MutationObserver(() => window.told.push(region.textContent))
                .observe(region, {subtree: true, childList: true, characterData: true});
    }""")
    for _ in range(4):
        server.batch([{"name": "noop", "tags": ["quiet"]} for _ in range(5)])
        page.wait_for_timeout(150)
    until(lambda: page.locator("[data-news]").inner_text().startswith("20 more"))
    until(lambda: page.evaluate("window.told.length"))
    page.wait_for_timeout(200)  # for a second that should not come
    assert page.evaluate("window.told.length") == 1


def test_screen_readers_are_told_once_that_the_server_is_away(server: Server, open_page: Open) -> None:
    watched = open_page(server)
    told = watched.page.evaluate("""async () => {
        const { app } = document.querySelector('jc-shell');
        const told = [];
        const region = document.querySelector('jc-link [role=status]');
        new MutationObserver(() => told.push(region.textContent))
            .observe(region, {subtree: true, childList: true, characterData: true});
        for (const kind of ['waiting', 'connecting', 'waiting', 'connecting', 'waiting', 'connecting', 'live']) {
            app.stream.link = {kind, ...(kind === 'waiting' ? {until: performance.now() + 900} : {})};
            app.changed();
            for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
        }
        return told;
    }""")
    assert told == ["Reconnecting", "Live"]


def test_nothing_shifts_while_it_loads(server: Server, context: BrowserContext) -> None:
    context.add_init_script("""window.shift = 0;
        window.moved = [];
        new PerformanceObserver(list => {
            for (const each of list.getEntries()) {
                window.shift += each.value;
                window.moved.push(...each.sources.map(source => `${source.node?.tagName}.${source.node?.className}`));
            }
        }).observe({type: 'layout-shift', buffered: true});""")
    watched = Watched(context, server).sign_in()
    watched.page.wait_for_timeout(400)
    assert watched.page.evaluate("window.shift") < 0.02, watched.page.evaluate("window.moved")
