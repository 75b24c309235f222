"""Two tabs in step; what a person does to jobs, queues and schedules; and what the server refuses."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.kit import Server, Watched, until


def waiting(server: Server, n: int, tag: str) -> list[str]:
    return server.batch([{"name": "later", "delay": 9000, "tags": [tag]} for _ in range(n)])[::-1]


def toast(watched: Watched, text: str) -> None:
    watched.page.locator(".toast", has_text=text).first.wait_for()


def test_two_tabs_have_the_same_filter_and_selection(server: Server, open_page: Open) -> None:
    ids = waiting(server, 3, "tabs")
    one, two = open_page(server), open_page(server)
    one.page.bring_to_front()
    one.select("jc-filters select >> nth=2", "tabs")
    for each in (one, two):
        until(lambda each=each: each.page.locator("tbody tr").count() == 3)
    for each in (one, two):
        expect(each.page).to_have_url(f"{server.url}/?tag=tabs")
    one.row(ids[1]).locator("input").click()
    until(lambda: two.row(ids[1]).get_attribute("aria-selected") == "true")
    until(lambda: "1 selected" in two.page.locator(".bulk").inner_text())
    two.page.locator('.bulk [aria-label="Clear the selection"]').click()
    until(lambda: one.row(ids[1]).get_attribute("aria-selected") is None)
    one.page.locator('.tile[data-status="failed"]').click()
    two.page.get_by_text("Nothing matches").wait_for()
    expect(two.page.locator('.tile[data-status="failed"]')).to_have_attribute("aria-pressed", "true")


def test_the_address_holds_all_of_the_filter(server: Server, open_page: Open) -> None:
    [wanted] = server.batch([{"name": "later", "queue": "quiet", "delay": 9000, "tags": ["a, b", "address"]}])
    fields = {"status": "pending", "name": "later", "queue": "quiet", "tag": "address", "q": "ADDR", "mine": "1"}
    query = urllib.parse.urlencode(fields)
    watched = open_page(server, rest=f"/?{query}")
    watched.row(wanted).wait_for()
    page = watched.page
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("[data-search]")).to_have_value("ADDR")
    expect(page.get_by_label("Mine")).to_be_checked()
    for select, value in enumerate(("quiet", "later", "address")):
        expect(page.locator("jc-filters select").nth(select)).to_have_value(value)
    page.get_by_role("button", name="Clear").click()
    expect(page).to_have_url(f"{server.url}/")
    page.go_back()
    expect(page).to_have_url(re.compile("[?&]q=ADDR(&|$)"))


def test_cancel_is_shown_at_once_and_taken_back_when_the_server_refuses(server: Server, open_page: Open) -> None:
    [job_id] = waiting(server, 1, "optimist")
    watched = open_page(server, rest=f"/?tag=optimist&job={job_id}")
    page = watched.page

    def refused(route: Any) -> None:
        until(lambda: watched.row(job_id).get_attribute("data-status") == "cancelled")
        expect(watched.row(job_id)).to_have_attribute("data-guessed", "")
        route.fulfill(status=409, content_type="application/problem+json",
                      body=json.dumps({"status": 409, "code": "conflict", "detail": "not on my watch"}))  # fmt: skip

    page.route("**/cancel", refused)
    page.locator('[data-action="cancel"]').click()
    toast(watched, "cannot cancel: not on my watch")
    watched.shows(job_id, "pending")
    expect(watched.row(job_id)).not_to_have_attribute("data-guessed", re.compile(""))
    expect(page.locator("aside .status-word")).to_have_text("pending")
    page.unroute("**/cancel")
    page.locator('[data-action="cancel"]').click()
    watched.shows(job_id, "cancelled")
    until(lambda: server.job(job_id)["status"] == "cancelled")
    page.locator('[data-action="retry"]').click()
    watched.shows(job_id, "pending")


def test_a_refusal_of_the_server_itself_is_told_with_its_reason(server: Server, open_page: Open) -> None:
    """A retry while the unique key is live elsewhere: 409."""
    first = server.enqueue("later", uniqueKey="one-only", delay=9000, tags=["refused"])
    server.ask("POST", f"/api/jobs/{first}/cancel")
    server.enqueue("later", uniqueKey="one-only", delay=9000)
    watched = open_page(server, rest=f"/?tag=refused&job={first}")
    watched.page.locator('[data-action="retry"]').click()
    toast(watched, "cannot retry:")
    watched.shows(first, "cancelled")


def test_bulk_actions_do_what_can_be_done_and_say_how_many(server: Server, open_page: Open) -> None:
    ids = waiting(server, 4, "bulk")
    server.ask("POST", f"/api/jobs/{ids[0]}/cancel")
    watched = open_page(server, rest="/?tag=bulk")
    page = watched.page
    watched.row(ids[0]).locator("input").click()
    watched.row(ids[2]).locator("input").click(modifiers=["Shift"])
    until(lambda: page.locator(".bulk strong").inner_text() == "3 selected")
    expect(page.locator('[data-bulk="cancel"]')).to_have_text("Cancel 2")
    page.locator('[data-bulk="cancel"]').click()
    toast(watched, "2 jobs cancelled")
    until(lambda: [server.job(each)["status"] for each in ids] == ["cancelled"] * 3 + ["pending"])
    page.locator(".bulk").wait_for(state="hidden")
    page.locator("thead input").click()
    page.locator('[data-bulk="delete"]').click()
    page.locator("dialog.ask button.danger").click()
    toast(watched, "4 jobs deleted")
    until(lambda: page.locator("tbody tr").count() == 0)


def test_a_selection_is_one_request_and_what_was_refused_is_told_and_taken_back(
    server: Server, open_page: Open
) -> None:
    ids = server.batch([{"name": "later", "delay": 9000, "tags": ["chosen"]} for _ in range(2)])
    taken = server.enqueue("later", delay=9000, uniqueKey="chosen", tags=["chosen"])
    server.ask("POST", "/api/jobs/bulk", {"action": "cancel", "filter": {"tag": ["chosen"]}})
    live = server.enqueue("later", delay=9000, uniqueKey="chosen")
    watched = open_page(server, rest="/?tag=chosen")
    page = watched.page
    page.locator("thead input").click()
    asked: list[Any] = []

    def late(route: Any) -> None:
        asked.append(route.request.post_data_json)
        for each in (*ids, taken):
            expect(watched.row(each)).to_have_attribute("data-status", "pending")
            expect(watched.row(each)).to_have_attribute("data-guessed", "")
        route.continue_()

    page.route("**/api/jobs/bulk", late)
    watched.settle()
    page.locator('[data-bulk="retry"]').click()
    toast(watched, f"2 jobs will run again, 1 could not be retried: job {live} is live with the same unique key")
    assert asked == [{"action": "retry", "ids": [taken, *ids[::-1]]}]
    assert watched.requests == [("POST", "/api/jobs/bulk")]
    watched.shows(taken, "cancelled")
    for each in ids:
        watched.shows(each, "pending")
        assert server.job(each)["status"] == "pending"
    expect(page.locator("tr[data-guessed]")).to_have_count(0)


def test_a_selection_whose_request_fails_is_taken_back_whole(server: Server, open_page: Open) -> None:
    ids = waiting(server, 3, "chosen-in-vain")
    watched = open_page(server, rest="/?tag=chosen-in-vain")
    page = watched.page
    page.locator("thead input").click()

    def fails(route: Any) -> None:
        expect(page.locator('tr[data-status="cancelled"]')).to_have_count(3)
        route.fulfill(status=503, content_type="application/problem+json",
                      body=json.dumps({"status": 503, "code": "store_unavailable", "detail": "disk full"}))  # fmt: skip

    page.route("**/api/jobs/bulk", fails)
    page.locator('[data-bulk="cancel"]').click()
    toast(watched, "3 jobs could not be cancelled: disk full")
    for each in ids:
        watched.shows(each, "pending")
    expect(page.locator("tr[data-guessed]")).to_have_count(0)


def test_all_that_match_are_counted_before_anything_is_done(server: Server, open_page: Open) -> None:
    ids = waiting(server, 60, "masses")
    watched = open_page(server, rest="/?tag=masses")
    page = watched.page
    watched.select(".all-matching", "cancel")
    page.locator("dialog.ask h2", has_text="Cancel 60 jobs?").wait_for()
    page.get_by_role("button", name="Leave it").click()
    assert server.job(ids[0])["status"] == "pending"
    watched.select(".all-matching", "cancel")
    page.locator("dialog.ask button.danger").click()
    toast(watched, "60 jobs cancelled")
    watched.shows(ids[0], "cancelled")
    assert server.job(ids[-1])["status"] == "cancelled"


def test_one_job_has_its_history_its_log_and_a_link(server: Server, open_page: Open) -> None:
    job_id = server.enqueue("import-orders", data={"shop": "acme", "pause": 0.1}, tags=["one"], queue="shops")
    watched = open_page(server, rest=f"/?tag=one&job={job_id}")
    page = watched.page
    page.locator('aside[data-status="completed"]').wait_for()
    steps = [re.compile(f"^{step}") for step in ("Created", "Attempt 1: failed", "Attempt 2: completed")]
    expect(page.locator(".timeline .step")).to_have_text(steps)
    expect(page.locator(".timeline summary").nth(1)).to_contain_text("connection reset by peer")
    until(lambda: page.locator(".log-line bdi").all_inner_texts()[-1:] == ["412 orders"])
    expect(page.locator('pre[aria-label="Result"]')).to_have_text('{\n  "orders": 412\n}')
    expect(page.locator('pre[aria-label="Data"]')).to_have_text('{\n  "shop": "acme",\n  "pause": 0.1\n}')
    page.evaluate("navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve(); }")
    watched.select('aside [aria-label="Copy as jobctl command"]', "again")
    until(lambda: page.evaluate("window.copied"))
    assert page.evaluate("window.copied") == (
        """jobctl enqueue import-orders --data '{"shop":"acme","pause":0.1}' --queue shops --tag=one"""
    )
    page.keyboard.press("Escape")
    expect(page.locator("aside")).to_be_hidden()
    expect(page).to_have_url(f"{server.url}/?tag=one")
    page.go_back()
    page.locator("aside").wait_for()


def test_a_job_that_ended_without_a_word_has_no_log(server: Server, open_page: Open) -> None:
    ended, waits = server.enqueue("noop", tags=["mute"]), server.enqueue("later", delay=9000, tags=["mute"])
    until(lambda: server.job(ended)["status"] == "completed")
    watched = open_page(server, rest=f"/?tag=mute&job={ended}")
    heading = watched.page.locator("jc-job-log h3")
    expect(heading).to_have_text("Log has no lines")
    watched.go(f"/?tag=mute&job={waits}")
    expect(heading).to_have_text("Log nothing yet")


def test_a_running_job_shows_how_long_it_still_takes_and_can_be_stopped(server: Server, open_page: Open) -> None:
    slow = server.enqueue("thumbnail", data={"path": "x.png", "steps": 400, "pause": 0.05}, tags=["slow"])
    watched = open_page(server, rest="/?tag=slow")
    page = watched.page
    watched.row(slow).click()
    until(lambda: "left" in page.locator("aside .note").inner_text())
    page.locator('[data-action="cancel"]').click()
    page.locator('aside[data-status="cancelled"]').wait_for()
    until(lambda: "Asked to stop" in page.locator(".timeline .step").all_inner_texts())


def test_a_large_result_is_fetched_when_asked_for(server: Server, open_page: Open, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = server.enqueue("large", data={"gate": str(gate), "size": 9000, "more": "d" * 9000})
    watched = open_page(server, rest=f"/?job={job_id}")
    page = watched.page
    expect(page.locator('pre[aria-label="Data"]')).to_contain_text("d" * 9000)  # the whole job is there
    result = page.locator('pre[aria-label="Result"]')
    gate.touch()
    expect(result).to_have_text("larger than 4 KiB")
    page.get_by_role("button", name="Load the whole result").click()
    expect(result).to_have_text(json.dumps("r" * 9000))
    expect(page.locator('pre[aria-label="Data"]')).to_contain_text("d" * 9000)


def test_queues_are_paused_and_resumed_for_everybody(server: Server, open_page: Open) -> None:
    job_id = server.enqueue("noop", queue="brakes")
    until(lambda: server.job(job_id)["status"] == "completed")
    one, two = open_page(server, rest="/?view=queues"), open_page(server, rest="/?view=queues")
    one.page.get_by_role("button", name="Pause brakes").click()
    for each in (one, two):
        each.page.get_by_role("button", name="Resume brakes").wait_for()
    held = server.enqueue("noop", queue="brakes")
    card = two.page.locator('[aria-label="Queue brakes"]')
    until(lambda: card.locator("dd").first.inner_text() == "1")
    two.page.get_by_role("button", name="Resume brakes").click()
    until(lambda: server.job(held)["status"] == "completed")
    until(lambda: card.locator("dd").first.inner_text() == "0")


def test_workers_are_followed_live_and_a_job_says_where_it_runs(
    own_server: Callable[..., Server], open_page: Open, tmp_path: Path
) -> None:
    server = own_server()
    watched = open_page(server)
    page = watched.page
    page.keyboard.press("4")
    card = page.locator(".worker")
    expect(card).to_have_count(1)
    name = card.get_attribute("data-worker")
    assert name == server.ask("GET", "/api/workers")["workers"][0]["id"]
    expect(card).to_contain_text("● live")
    expect(card).to_contain_text("leads")
    expect(card.locator("dd").first).to_have_text("0 of 10")
    watched.settle()
    held = server.enqueue("hold", data={"gate": str(tmp_path / "gate")})
    expect(card.locator("dd").first).to_have_text("1 of 10")
    page.keyboard.press("1")
    row = watched.row(held)
    expect(row.locator(".status-word")).to_have_attribute("title", f"on {name}")
    row.locator("a.name").click()
    expect(page.locator("jc-job dl")).to_contain_text(name)
    (tmp_path / "gate").touch()
    assert not any(url.startswith("/api/workers") for _, url in watched.requests)


def test_schedules_are_made_edited_run_and_deleted(own_server: Callable[..., Server], open_page: Open) -> None:
    server = own_server(schedules={"fixed": {"cron": "0 4 * * *", "job": "noop"}})
    watched = open_page(server, rest="/?view=schedules")
    page = watched.page
    fixed = page.locator('[data-schedule="fixed"]')
    fixed.wait_for()
    expect(fixed.get_by_role("button", name="Edit")).to_be_hidden()
    expect(fixed).to_contain_text("Every day at 04:00")
    watched.settle()
    page.locator("[data-new-schedule]").click()
    dialog = page.locator("jc-schedule-form dialog[open]")
    name, cron = dialog.locator("input").nth(0), dialog.locator("input").nth(1)
    name.fill("weekly")
    cron.fill("0 0 31 2 *")
    dialog.locator("select").first.select_option("report")
    dialog.locator('[data-field="day"]').fill("2026-01-31")
    dialog.locator("button[type=submit]").click()
    until(lambda: dialog.locator(".error:not(:empty)").count() == 1)
    cron.fill("30 9 * * mon-fri")
    until(lambda: "Monday to Friday at 09:30" in dialog.inner_text())
    dialog.locator("button[type=submit]").click()
    card = page.locator('[data-schedule="weekly"]')
    card.wait_for()
    assert server.ask("GET", "/api/jobs/schedules/weekly")["timezone"] == "Europe/Zurich"
    expect(card.locator("dd").first).to_have_text(re.compile(r"\bin "))
    card.get_by_role("button", name="Run now").click()
    toast(watched, "weekly: 1 job enqueued")
    until(lambda: card.locator("dd").nth(3).inner_text() == "1")
    card.get_by_role("switch").click()
    until(lambda: card.locator("dd").first.inner_text() == "disabled")
    assert server.ask("GET", "/api/jobs/schedules/weekly")["enabled"] is False
    card.get_by_role("button", name="Edit").click()
    expect(dialog.locator('[data-field="day"]')).to_have_value("2026-01-31")
    cron.fill("@hourly")
    dialog.locator("button[type=submit]").click()
    until(lambda: "Every hour" in card.inner_text())
    assert server.ask("GET", "/api/jobs/schedules/weekly")["enabled"] is False
    card.get_by_role("button", name="Delete").click()
    page.locator("dialog.ask button.danger").click()
    card.wait_for(state="detached")
    assert ("GET", "/api/jobs/schedules") not in watched.requests
