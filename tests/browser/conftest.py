"""One browser and one server for all of the dashboard's tests; each test has a context, so cookies, of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from tests.browser.kit import PATIENCE_S, Server, Watched, launch
from tests.browser.modules_kit import Js

Open = Callable[..., Watched]
HERE = Path(__file__).parent
expect.set_options(timeout=PATIENCE_S * 1000)  # a page is drawn a frame later; under load, some frames later


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that every test may use, with jobs of other tests in it."""
    server = Server(tmp_path_factory.mktemp("server")).start()
    yield server
    server.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes a server for this test alone."""
    made: list[Server] = []

    def make(**settings: Any) -> Server:
        made.append(Server(tmp_path, **settings))
        return made[-1].start()

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB", timezone_id="Europe/Zurich")
    yield context
    context.close()


@pytest.fixture
def open_page(context: BrowserContext) -> Iterator[Open]:
    """Opens a page of a server; at the end nothing may have gone wrong on any. ``wrong`` lists what was expected to."""
    opened: list[Watched] = []

    def open_(server: Server, **who: str) -> Watched:
        watched = Watched(context, server)
        opened.append(watched)
        return watched.sign_in(**who)

    yield open_
    for watched in opened:
        assert watched.wrong == []


@pytest.fixture(scope="module")
def js(browser: Browser, server: Server) -> Iterator[Js]:
    """Runs a script with the exports of a module in scope as ``m``, and ``given`` as it is passed."""
    page = browser.new_page()
    page.goto(f"{server.url}/static/icon.svg")

    def run(module: str, script: str, given: Any = None) -> Any:
        whole = f"async given => {{ const m = await import('/static/{module}.js'); {script} }}"
        return page.evaluate(whole, given)

    page.goto(server.url)
    yield run
    page.close()
