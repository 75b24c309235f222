"""The connection: killed, silent, forbidden, hidden; the page says what is so, and is right again by itself."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import Open
from tests.browser.kit import Server, Watched, until

HIDE = """hidden => {
    Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});
    Object.defineProperty(document, 'visibilityState', {configurable: true, get: () => hidden ? 'hidden' : 'visible'});
    document.dispatchEvent(new Event('visibilitychange'));
}"""
NO_SOCKETS = """window.WebSocket = class extends WebSocket {
    constructor() { super(location.origin.replace('http', 'ws') + '/nope'); }
};"""


def link(watched: Watched) -> str:
    return str(watched.page.locator("[data-link]").get_attribute("data-link"))


def test_a_server_that_was_killed_and_comes_back_is_resumed_and_nothing_is_missed(
    own_server: Callable[..., Server], open_page: Open, tmp_path: Path
) -> None:
    server = own_server(durability="full")
    gate = tmp_path / "gate"
    held = server.enqueue("hold", data={"gate": str(gate)})
    watched = open_page(server)
    watched.shows(held, "running")
    watched.page.locator(f'[data-open="{held}"]').click()
    watched.page.locator(".log-line").wait_for()
    watched.page.mouse.move(5, 5)  # nothing new comes in under a pointer
    watched.settle()
    server.stop(signal.SIGKILL)
    until(lambda: link(watched) == "waiting")
    until(lambda: re.search(r"Reconnecting\s+in \d+ s", watched.page.locator("[data-link]").inner_text()))
    gate.touch()
    server.start()
    fresh = server.enqueue()
    watched.shows(fresh, "completed")
    watched.shows(held, "completed")
    watched.live()
    steps = [re.compile(f"^{step}") for step in ("Created", "Attempt 1: failed", "Attempt 2: completed")]
    expect(watched.page.locator(".timeline .step")).to_have_text(steps)
    expect(watched.page.locator(".log-line").first).to_have_text(re.compile("waiting$"))
    until(lambda: watched.count("completed") == "2")
    lists = [url for _, url in watched.requests if url.startswith("/api/") and "/api/auth" not in url]
    assert lists == []  # resumed by position: no list was fetched again


def test_a_log_that_cannot_be_continued_is_fetched_anew(own_server: Callable[..., Server], open_page: Open) -> None:
    server = own_server()
    server.enqueue()
    watched = open_page(server)
    watched.settle()
    server.stop()
    for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
        (server.folder / name).unlink(missing_ok=True)
    server.start()
    job_id = server.enqueue()
    watched.shows(job_id, "completed")
    expect(watched.page.locator("tbody tr")).to_have_count(1)
    assert ("GET", "/api/jobs?limit=50") in watched.requests


def test_a_server_that_does_not_answer_is_not_called_live(own_server: Callable[..., Server], open_page: Open) -> None:
    server = own_server()
    watched = open_page(server)
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        watched.page.locator('[data-link="silent"]').wait_for()
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    watched.page.locator('[data-link="live"]').wait_for()
    assert watched.sockets == 1


def test_no_network_is_called_offline_and_it_goes_on_by_itself(
    server: Server, open_page: Open, context: BrowserContext
) -> None:
    watched = open_page(server)
    watched.settle()
    context.set_offline(True)
    watched.page.locator('[data-link="offline"]').wait_for()
    job_id = server.enqueue()
    context.set_offline(False)
    watched.shows(job_id, "completed")
    watched.live()
    assert [url for _, url in watched.requests if url.startswith("/api/jobs")] == []


def test_a_hidden_tab_costs_nothing_and_is_right_again_when_it_is_shown(
    server: Server, context: BrowserContext, open_page: Open
) -> None:
    watched = open_page(server)
    page = watched.page
    page.clock.install()
    page.evaluate(HIDE, True)
    page.clock.fast_forward(20_000)
    until(lambda: page.evaluate("document.querySelector('[data-link]') !== null"))
    watched.settle()
    job_id = server.enqueue()
    until(lambda: server.job(job_id)["status"] == "completed")
    page.clock.fast_forward(3_600_000)
    expect(watched.row(job_id)).to_have_count(0)
    assert [url for _, url in watched.requests if url.startswith("/api/jobs")] == []
    page.evaluate(HIDE, False)
    page.clock.resume()
    watched.shows(job_id, "completed")
    assert watched.sockets == 2
    assert [url for _, url in watched.requests if url.startswith("/api/jobs")] == []


def test_where_websockets_are_forbidden_it_says_so_and_asks_by_long_poll(
    server: Server, context: BrowserContext, tmp_path: Path
) -> None:
    context.add_init_script(NO_SOCKETS)
    watched = Watched(context, server)
    page = watched.page
    page.goto(server.link())
    page.locator('[data-link="polling"]').wait_for()
    expect(page.locator("[data-link]")).to_have_attribute("title", re.compile("forbids WebSockets"))
    gate = tmp_path / "gate"
    job_id = server.enqueue("hold", data={"gate": str(gate)}, tags=["polled"])
    watched.shows(job_id, "running")
    page.locator(f'[data-open="{job_id}"]').click()
    page.locator(".log-line").wait_for()
    until(lambda: watched.count("running") == str(server.ask("GET", "/api/jobs/stats")["running"]))
    gate.touch()
    watched.shows(job_id, "completed")
    until(lambda: page.locator(".timeline .step").count() == 2)
    until(lambda: watched.count("completed") == str(server.ask("GET", "/api/jobs/stats")["completed"]))
    assert watched.wrong == []
