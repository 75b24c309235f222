"""The page is right at every instant, and asks for nothing after it was loaded but what a person causes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import Open
from tests.browser.kit import Server, Watched, until

JOBS = "/api/jobs?limit=50"


def table(watched: Watched) -> list[list[str]]:
    """What the rows say: id, status, attempts."""
    return list(
        watched.page.evaluate(
            "() => [...document.querySelectorAll('jc-jobs tbody tr')].map(row => "
            "[row.dataset.id, row.dataset.status, row.querySelector('.attempts').textContent])"
        )
    )


def database(server: Server, rest: str = "") -> list[list[str]]:
    jobs = server.ask("GET", f"/api/jobs?limit=50{rest}")["jobs"]
    return [[job["id"], job["status"], f"{job['attempts']}/{job['maxAttempts']}"] for job in jobs]


def updates(bill: str) -> int:
    """How many updates the bill says the page was sent."""
    found = re.search(r"for ([\d,]+) updates", bill)
    return int(found[1].replace(",", "")) if found else 0


def test_a_job_is_made_and_watched_without_a_request_that_nobody_caused(
    own_server: Callable[..., Server], open_page: Open, tmp_path: Path
) -> None:
    server = own_server()
    watched = open_page(server)
    page = watched.page
    asked = [(method, url) for method, url in watched.requests if url.startswith("/api/")]
    assert asked == [("POST", "/api/auth/login"), ("GET", JOBS)]
    assert watched.sockets == 1
    watched.settle()

    page.locator("[data-new-job]").click()
    dialog = page.locator("jc-new-job dialog[open]")
    dialog.locator("select").first.select_option("hold")
    dialog.locator('[data-field="gate"]').fill(str(tmp_path / "gate"))
    expect(dialog.locator("code")).to_have_text(f"""jobctl enqueue hold --data '{{"gate":"{tmp_path / "gate"}"}}'""")
    dialog.locator("button[type=submit]").click()
    row = page.locator('tr[data-status="running"]')
    row.wait_for()
    expect(row.locator("a.name")).to_have_text("hold")
    until(lambda: watched.count("running") == "1")
    (tmp_path / "gate").touch()
    page.locator('tr[data-status="completed"]').wait_for()
    until(lambda: (watched.count("running"), watched.count("completed")) == ("0", "1"))
    assert watched.requests == [("GET", "/api/handlers"), ("POST", "/api/jobs")]
    assert watched.sockets == 1
    until(lambda: "4 requests over 1 connection" in page.locator("jc-bill").inner_text())  # it is drawn now and then
    assert len(watched.requests) == 2


def test_what_the_form_was_told_wrong_stands_beside_the_field(server: Server, open_page: Open) -> None:
    page = open_page(server).page
    page.keyboard.press("n")
    dialog = page.locator("jc-new-job dialog[open]")
    dialog.locator("select").first.select_option("report")
    dialog.locator("button[type=submit]").click()
    expect(dialog.locator(".error:not(:empty)")).to_have_text("day is needed")
    dialog.locator('[data-field="day"]').fill("soon")
    dialog.locator('[data-field="layout"]').select_option(label="tall")
    dialog.locator('[data-field="to"]').fill('["ann@example.com"]')
    with page.expect_response("**/api/jobs") as answer:
        dialog.locator("button[type=submit]").click()
    assert answer.value.status == 422
    expect(dialog.locator(".error:not(:empty)")).to_contain_text("data.day")
    expect(dialog.locator('[data-field="day"]')).to_have_attribute("aria-invalid", "true")
    dialog.locator('[data-field="day"]').fill("2026-01-31")
    with page.expect_response("**/api/jobs") as answer:
        dialog.locator("button[type=submit]").click()
    assert answer.value.json()["data"]["data"] == {"day": "2026-01-31", "layout": "tall", "to": ["ann@example.com"]}


def test_snapshot_and_updates_equal_the_database_after_a_storm(server: Server, open_page: Open) -> None:
    server.batch([{"name": "noop", "tags": ["storm"]} for _ in range(20)])
    watched = open_page(server, rest="/?tag=storm")
    watched.settle()
    kinds = [("noop", {}), ("hostile", {}), ("send-invoice", {"order": 1, "to": "x"}), ("later", {})]
    ids = server.batch([{"name": name, "data": data, "tags": ["storm"]} for name, data in kinds for _ in range(5)])
    flaky = server.enqueue("import-orders", data={"shop": "acme", "pause": 0}, tags=["storm"])
    for job_id in ids[:3]:
        until(lambda each=job_id: server.job(each)["status"] == "completed")
        server.ask("DELETE", f"/api/jobs/{job_id}")
    server.ask("POST", "/api/jobs/bulk", {"action": "cancel", "filter": {"name": ["later"], "tag": ["storm"]}})
    server.ask("POST", "/api/jobs/bulk", {"action": "retry", "filter": {"name": ["send-invoice"], "tag": ["storm"]}})
    until(lambda: server.job(flaky)["status"] == "completed")
    until(lambda: not {row[1] for row in database(server, "&tag=storm")} & {"pending", "running", "retrying"})
    until(lambda: table(watched) == database(server, "&tag=storm"))
    stats = server.ask("GET", "/api/jobs/stats")
    until(lambda: {name: watched.count(name) for name in stats if name not in {"total", "byQueue"}}
          == {name: str(stats[name]) for name in stats if name not in {"total", "byQueue"}})  # fmt: skip
    assert watched.requests == []


def test_a_list_that_comes_late_is_brought_up_to_date_by_what_came_meanwhile(
    server: Server, open_page: Open, tmp_path: Path
) -> None:
    """The answer is held back in the browser while the job goes on: the row must show the end, not the list's state."""
    gate = tmp_path / "gate"
    job_id = server.enqueue("hold", data={"gate": str(gate)}, tags=["late-list"])
    until(lambda: server.job(job_id)["status"] == "running")
    watched = open_page(server)

    def late(route: object) -> None:
        answer = route.fetch()  # type: ignore[attr-defined]
        gate.touch()
        until(lambda: server.job(job_id)["status"] == "completed")
        watched.page.wait_for_timeout(200)  # for the stream to bring it, before the list does
        route.fulfill(response=answer)  # type: ignore[attr-defined]

    watched.page.route("**/api/jobs?*late-list*", late)
    with watched.page.expect_response("**/api/jobs?*late-list*"):
        watched.page.locator("[data-search]").fill("late-list")
    watched.page.locator("jc-jobs:not([aria-busy])").wait_for()  # the list that was there before has the row, too
    watched.shows(job_id, "completed")


def test_rows_leave_a_filter_and_come_into_it_but_not_under_the_pointer(
    server: Server, open_page: Open, tmp_path: Path
) -> None:
    gates = [tmp_path / "one", tmp_path / "two"]
    one, two = (server.enqueue("hold", data={"gate": str(gate)}, tags=["leaving"]) for gate in gates)
    watched = open_page(server, rest="/?status=running&tag=leaving")
    watched.shows(one, "running")
    watched.row(two).hover()
    places = watched.row(two).bounding_box()
    gates[0].touch()
    watched.page.locator(f'tr[data-id="{one}"][data-left]').wait_for()
    three = server.enqueue("hold", data={"gate": str(gates[1])}, tags=["leaving"])
    news = watched.page.locator("[data-news]")
    until(lambda: news.inner_text().startswith("1 more job"))
    watched.page.wait_for_timeout(2000)  # longer than a row that has left stays
    assert watched.row(two).bounding_box() == places
    watched.page.mouse.move(5, 5)
    watched.row(three).wait_for()
    watched.row(one).wait_for(state="detached")
    gates[1].touch()
    watched.row(two).wait_for(state="detached")


def test_new_rows_that_do_not_fit_announce_themselves(server: Server, open_page: Open) -> None:
    server.batch([{"name": "later", "delay": 9000, "tags": ["news"]} for _ in range(60)])
    watched = open_page(server, rest="/?tag=news")
    expect(watched.page.locator("tbody tr")).to_have_count(50)
    before = [row[0] for row in table(watched)]
    watched.settle()
    server.batch([{"name": "later", "delay": 9000, "tags": ["news"]} for _ in range(7)])
    news = watched.page.locator("[data-news]")
    until(lambda: news.inner_text().startswith("7 more jobs"))
    assert [row[0] for row in table(watched)] == before
    assert watched.requests == []
    news.click()
    until(lambda: table(watched) == database(server, "&tag=news"))
    assert watched.requests == [("GET", "/api/jobs?tag=news&limit=50")]


def test_where_nothing_is_listed_there_is_nothing_to_act_on(server: Server, open_page: Open) -> None:
    watched = open_page(server, rest="/?tag=nothing-yet")
    watched.page.get_by_text("Nothing matches").wait_for()
    controls = watched.page.locator(".all-matching, .list-head .quiet")
    expect(controls).to_have_count(3)
    for each in controls.all():
        expect(each).to_be_hidden()
    watched.row(server.enqueue("later", delay=9000, tags=["nothing-yet"])).wait_for()
    for each in controls.all():
        expect(each).to_be_visible()


def test_pages_by_keyset_through_many_jobs_with_the_browsers_own_back(server: Server, open_page: Open) -> None:
    ids = server.batch([{"name": "later", "delay": 9000, "tags": ["paged"]} for _ in range(130)])
    newest = ids[::-1]
    watched = open_page(server, rest="/?tag=paged")
    page = watched.page

    def shown() -> list[str]:
        return [row[0] for row in table(watched)]

    until(lambda: shown() == newest[:50])
    page.get_by_role("button", name="Older").click()
    until(lambda: shown() == newest[50:100])
    page.keyboard.press("]")
    until(lambda: shown() == newest[100:])
    expect(page.get_by_role("button", name="Older")).to_be_disabled()
    page.go_back()
    until(lambda: shown() == newest[50:100])
    page.reload()
    watched.live()
    until(lambda: shown() == newest[50:100])
    page.get_by_role("button", name="Newer").click()
    until(lambda: shown() == newest[:50])


def test_what_happened_before_the_page_was_opened_is_not_billed(
    own_server: Callable[..., Server], open_page: Open
) -> None:
    """The charts begin with it, but whoever polls would not have asked for it."""
    server = own_server()
    for job_id in server.batch([{"name": "noop"} for _ in range(40)]):  # 120 events
        until(lambda each=job_id: server.job(each)["status"] == "completed")
    watched = open_page(server)
    job_id = server.enqueue("chatter", data={"updates": 5, "seconds": 1})
    watched.shows(job_id, "completed")
    until(lambda: updates(watched.page.locator("jc-bill").inner_text()) >= 7)
    assert updates(watched.page.locator("jc-bill").inner_text()) < 100


def test_two_thousand_updates_in_ten_seconds_are_painted_once_a_frame(
    own_server: Callable[..., Server], open_page: Open, context: BrowserContext
) -> None:
    """240 updates/s over 40 rows. Judged by what the page itself does, not by how fast this machine is."""
    server = own_server(concurrency=40)
    watched = open_page(server)
    page = watched.page
    page.evaluate("""() => {
        window.seen = {frames: 0, batches: 0};
        new MutationObserver(() => (window.seen.batches += 1))
            .observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
        const frame = () => ((window.seen.frames += 1), requestAnimationFrame(frame));
        requestAnimationFrame(frame);
    }""")
    chrome = context.new_cdp_session(page)
    chrome.send("Performance.enable", {"timeDomain": "threadTicks"})  # what others do to this machine does not count

    def busy() -> float:
        told = {each["name"]: each["value"] for each in chrome.send("Performance.getMetrics")["metrics"]}
        return float(told["ScriptDuration"] + told["LayoutDuration"] + told["RecalcStyleDuration"])

    watched.settle()
    before, started = busy(), time.monotonic()
    ids = server.batch([{"name": "chatter", "data": {"updates": 60, "seconds": 10}} for _ in range(40)])
    for job_id in ids:
        until(lambda each=job_id: server.job(each)["status"] == "completed")
    until(lambda: watched.count("completed") == "40")
    share = (busy() - before) / (time.monotonic() - started)
    seen = page.evaluate("window.seen")
    until(lambda: updates(page.locator("jc-bill").inner_text()) >= 2000)  # it is drawn now and then
    assert watched.requests == []
    until(lambda: {tuple(row[1:]) for row in table(watched)} == {("completed", "1/3")})
    assert seen["batches"] < seen["frames"] + 100  # a change an update would be 2,000 and more
    assert share < 0.6, seen
