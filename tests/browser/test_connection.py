"""The connection: killed, silent, forbidden, hidden; the page says what is so, and is right again by itself."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import Open
from tests.browser.kit import Proxy, Server, Watched, until

HIDE = """hidden => {
    Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});
    Object.defineProperty(document, 'visibilityState', {configurable: true, get: () => hidden ? 'hidden' : 'visible'});
    document.dispatchEvent(new Event('visibilitychange'));
}"""
NO_SOCKETS = """window.WebSocket = class extends WebSocket {
    constructor() { super(location.origin.replace('http', 'ws') + '/nope'); }
};"""


SHORT_WAITS = "Math.random = () => 0.1;"
"""What it draws when it has to wait before the next try."""


def link(watched: Watched) -> str:
    return str(watched.page.locator("[data-link]").get_attribute("data-link"))


def test_a_server_that_was_killed_and_comes_back_is_resumed_and_nothing_is_missed(
    own_server: Callable[..., Server], open_page: Open, context: BrowserContext, tmp_path: Path
) -> None:
    context.add_init_script(SHORT_WAITS)
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
    lists = [url for _, url in watched.requests if url.startswith("/api/jobs")]
    assert lists == []  # resumed by position: no list was fetched again


def test_a_log_that_cannot_be_continued_is_fetched_anew(
    own_server: Callable[..., Server], open_page: Open, context: BrowserContext
) -> None:
    context.add_init_script(SHORT_WAITS)
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
    watched = open_page(server, rest="/?tag=offline")
    watched.settle()
    context.set_offline(True)
    watched.page.locator('[data-link="offline"]').wait_for()
    job_id = server.enqueue(tags=["offline"])
    context.set_offline(False)
    watched.shows(job_id, "completed")
    watched.live()
    assert [url for _, url in watched.requests if url.startswith("/api/jobs")] == []


def test_a_hidden_tab_costs_nothing_and_is_right_again_when_it_is_shown(
    server: Server, context: BrowserContext, open_page: Open
) -> None:
    watched = open_page(server, rest="/?tag=hidden")
    page = watched.page
    page.clock.install()
    page.evaluate(HIDE, True)
    page.clock.fast_forward(20_000)
    until(lambda: page.evaluate("document.querySelector('[data-link]') !== null"))
    watched.settle()
    job_id = server.enqueue(tags=["hidden"])
    until(lambda: server.job(job_id)["status"] == "completed")
    page.clock.fast_forward(3_600_000)
    expect(watched.row(job_id)).to_have_count(0)
    assert [url for _, url in watched.requests if url.startswith("/api/jobs")] == []
    page.evaluate(HIDE, False)
    page.clock.resume()
    watched.shows(job_id, "completed")
    assert watched.sockets == 2
    assert [url for _, url in watched.requests if url.startswith("/api/jobs")] == []


def test_a_hidden_tab_renews_no_token_and_when_it_is_shown_that_comes_first(
    server: Server, context: BrowserContext, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    job_id = server.enqueue("hold", data={"gate": str(gate)}, tags=["unseen"])
    until(lambda: server.job(job_id)["status"] == "running")
    watched = Watched(context, server)
    page = watched.page
    page.clock.install()
    page.goto(server.link(rest="/?tag=unseen"))
    live = page.locator('[data-link="live"]')
    live.wait_for()
    watched.shows(job_id, "running")
    sockets_before: list[int] = []

    def late(route: Any) -> None:
        page.wait_for_timeout(200)  # for a connection that should not come
        sockets_before.append(watched.sockets)
        route.continue_()

    page.route("**/api/auth/refresh", late)
    watched.settle()
    page.evaluate(HIDE, True)
    page.clock.fast_forward(20_000)
    gate.touch()
    until(lambda: server.job(job_id)["status"] == "completed")
    for _ in range(4):
        page.clock.fast_forward(1_800_000)
    assert (watched.requests, watched.sockets) == ([], 1)
    page.evaluate(HIDE, False)
    watched.shows(job_id, "completed")
    live.wait_for()
    assert watched.requests == [("POST", "/api/auth/refresh")]
    assert (sockets_before, watched.sockets) == ([1], 2)
    assert watched.wrong == []


def test_a_hidden_tab_whose_list_could_not_be_had_asks_again_when_it_is_shown(server: Server, open_page: Open) -> None:
    watched = open_page(server, rest="/?tag=unseen-list")
    page = watched.page
    page.clock.install()
    page.route("**/api/jobs?*", lambda route: route.fulfill(status=503, json={"code": "not_ready", "detail": "no"}))
    watched.go("/?tag=unseen-list&status=failed")
    page.get_by_text("The list could not be had").wait_for()
    page.evaluate(HIDE, True)
    _ = watched.requests
    page.unroute("**/api/jobs?*")
    watched.settle()
    for _ in range(4):
        page.clock.fast_forward(30_000)
    assert watched.requests == []
    page.evaluate(HIDE, False)
    page.get_by_text("Nothing matches").wait_for()


@pytest.mark.parametrize("word", [b"HTTP/1.1 101", b'"jobs_subscribed"'])
def test_a_proxy_that_opens_every_stream_and_cuts_it_leads_to_the_long_poll(
    own_server: Callable[..., Server], context: BrowserContext, word: bytes
) -> None:
    server = own_server()
    context.add_init_script(SHORT_WAITS)
    proxy = Proxy(server, word)
    server.url = proxy.url
    try:
        watched = Watched(context, server)
        page = watched.page
        page.goto(server.link())
        page.locator('[data-link="polling"]').wait_for()
        expect(page.locator("[data-link]")).to_have_attribute("title", re.compile("cuts them"))
        watched.shows(server.enqueue(), "completed")
        proxy.word = None
        page.locator("[data-link]").click()  # what it does by itself a minute later
        page.locator('[data-link="live"]').wait_for()
        watched.shows(server.enqueue(), "completed")
        lists = [url for _, url in watched.requests if url.startswith("/api/jobs?")]
        assert lists == ["/api/jobs?limit=50"]
    finally:
        proxy.close()


def test_where_websockets_are_forbidden_it_says_so_and_asks_by_long_poll(
    server: Server, context: BrowserContext, tmp_path: Path
) -> None:
    context.add_init_script(NO_SOCKETS)
    watched = Watched(context, server)
    page = watched.page
    page.goto(server.link(rest="/?tag=polled"))
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
