"""Pictures of every view: ``python -m tests.browser.pictures FOLDER``; with ``--readme`` the two of README.md.

A server of its own, in a temporary folder, with jobs of every kind.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, sync_playwright

from tests.browser.kit import Server, go_to, launch

WIDTHS = (360, 1280, 2560)
HEIGHTS = {360: 780, 1280: 860, 2560: 1400}
README = Path(__file__).parent / "pictures"
SCHEDULES = [
    {
        "name": "nightly-report", "cron": "30 2 * * *", "timezone": "Europe/Zurich", "jobName": "report",
        "data": {"day": "2026-01-31"},
    },
    {"name": "orders", "cron": "*/5 * * * *", "jobName": "import-orders", "data": {"shop": "acme"}, "queue": "slow"},
    {
        "name": "weekday-invoices", "cron": "0 9 * * 1-5", "timezone": "America/New_York", "jobName": "send-invoice",
        "data": {"order": 1, "to": "ann@example.com"}, "enabled": False,
    },
]  # fmt: skip


def furnish(server: Server, folder: Path) -> dict[str, str]:
    """Jobs in every status; the ids of some."""
    for schedule in SCHEDULES:
        server.ask("POST", "/api/jobs/schedules", schedule)
    server.ask("POST", "/api/jobs/schedules/orders/trigger")
    photos = [{"path": f"photo-{n:03}.jpg", "steps": 2, "pause": 0.06} for n in range(60)]
    server.batch([{"name": "thumbnail", "data": photo, "tags": ["nightly"]} for photo in photos])
    for order in (4711, 4712):
        invoice = {"order": order, "to": "nobody@example.com"}
        server.enqueue("send-invoice", data=invoice, queue="mail", tags=["billing"])
    shop = server.enqueue("import-orders", data={"shop": "acme", "pause": 2.5}, queue="slow", tags=["orders"])
    for pages in (1, 2, 3):
        report = {"day": "2026-01-31", "pages": pages}
        server.enqueue("report", data=report, queue="reports", delay=3600, tags=["monthly"])
    late = server.enqueue("report", data={"day": "2026-02-28"}, queue="reports", delay=7200)
    server.ask("POST", f"/api/jobs/{late}/cancel")
    time.sleep(4)
    server.batch([{"name": "hold", "data": {"gate": str(folder / "gate")}, "queue": "slow"} for _ in range(2)])
    slow = [{"path": f"panorama-{n}.tif", "width": 4096, "steps": 40, "pause": 0.5 + n / 5} for n in range(3)]
    running = [server.enqueue("thumbnail", data=each, tags=["print"]) for each in slow]
    return {"running": running[0], "retried": shop}


def views(jobs: dict[str, str]) -> dict[str, Callable[[Page], None]]:
    """Every view, by name: what to do on a signed-in page to see it."""

    def at(place: str, wait: str) -> Callable[[Page], None]:
        def go(page: Page) -> None:
            go_to(page, place)
            page.locator(wait).first.wait_for()

        return go

    def new_job(page: Page) -> None:
        at("/", "tbody tr")(page)
        page.locator("[data-new-job]").click()
        page.locator("jc-new-job select").first.select_option("report")

    def new_schedule(page: Page) -> None:
        at("/?view=schedules", "[data-schedule]")(page)
        page.locator("[data-new-schedule]").click()
        page.locator("jc-schedule-form dialog[open]").wait_for()

    def selected(page: Page) -> None:
        at("/", "tbody tr")(page)
        for n in (2, 3, 5):
            page.locator("tbody input").nth(n).click()

    def reconnecting(page: Page) -> None:
        at("/", "tbody tr")(page)
        page.evaluate("""() => {
            const { app } = document.querySelector('jc-shell');
            app.stream.link = {kind: 'waiting', until: performance.now() + 9000};
            app.changed();
        }""")

    def help_(page: Page) -> None:
        at("/", "tbody tr")(page)
        page.keyboard.press("?")

    return {
        "jobs": at("/", "tbody tr"),
        "running": at(f"/?job={jobs['running']}", ".log-line"),
        "retried": at(f"/?job={jobs['retried']}", ".timeline li:nth-child(2)"),
        "nothing": at("/?q=nothing-like-this", ".empty h2"),
        "selected": selected,
        "new-job": new_job,
        "schedules": at("/?view=schedules", "[data-schedule]"),
        "new-schedule": new_schedule,
        "queues": at("/?view=queues", ".queue-card"),
        "workers": at("/?view=workers", ".worker"),
        "help": help_,
        "reconnecting": reconnecting,  # the last: it is not taken back
    }


def small(context: BrowserContext, page: Page, path: Path) -> None:
    """WebP, which Playwright itself does not write: a third of a PNG."""
    chrome = context.new_cdp_session(page)
    told = chrome.send("Page.captureScreenshot", {"format": "webp", "quality": 82})
    path.write_bytes(base64.b64decode(told["data"]))


def as_newcomer(context: BrowserContext, server: Server, path: Path) -> None:
    """The first look of somebody who has no job yet."""
    context.clear_cookies()
    page = context.new_page()
    page.goto(server.link("new", "user"))
    page.get_by_text("No jobs yet").wait_for()
    page.screenshot(path=path)


def take(folder: Path, only: str | None, readme: bool) -> None:
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        server = Server(Path(place)).start()
        browser = launch(playwright)
        try:
            jobs = furnish(server, Path(place))
            for width in (1280,) if readme else WIDTHS:
                for theme in ("light", "dark"):
                    size = {"width": width, "height": 780 if readme else HEIGHTS[width]}
                    context = browser.new_context(viewport=size, color_scheme=theme)  # type: ignore[arg-type]
                    page = context.new_page()
                    if not readme and only in (None, "sign-in"):
                        page.goto(server.url, wait_until="networkidle")  # with the icon
                        page.locator("#token").wait_for()
                        page.screenshot(path=folder / f"sign-in-{width}-{theme}.png")
                    page.goto(server.link("ann"))
                    page.locator('[data-link="live"]').wait_for()
                    for name, show in views(jobs).items():
                        if readme and (name, theme) not in {("jobs", "light"), ("running", "dark")}:
                            continue
                        if only not in (None, name):
                            continue
                        show(page)
                        time.sleep(1.2 if readme else 0.5)
                        if readme:
                            small(context, page, folder / f"{name}.webp")
                        else:
                            page.screenshot(path=folder / f"{name}-{width}-{theme}.png")
                        while page.locator("dialog[open]").count():
                            page.keyboard.press("Escape")
                        page.keyboard.press("Escape")
                    if not readme and only in (None, "empty"):
                        as_newcomer(context, server, folder / f"empty-{width}-{theme}.png")
                    context.close()
        finally:
            browser.close()
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.pictures")
    parser.add_argument("folder", nargs="?", type=Path, default=README)
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--only")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    take(chosen.folder, chosen.only, chosen.readme)


if __name__ == "__main__":
    main()
