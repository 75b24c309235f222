"""``python -m bench.paint``: how long the dashboard takes from an address to a list of jobs that can be read.

A real browser, a server of its own, 50 jobs, and somebody who is signed in (the cookie is there; the token is not).
Cold is a new profile, so nothing is cached; warm is the same profile once more. Both take turns; a first round, which
wakes the browser and the server, does not count. Times are the page's own: from the start of the navigation
(``performance.timeOrigin``) until the frame that shows the last row has been drawn.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.processes import Failed
from bench.side_by_side import ROUNDS, Asked, Report, Run, progress, show, spread, take_turns
from bench.startup import server
from jobctl import auth

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

JOBS: Final = 50
"""As many as a page of the list has."""
COLD: Final = "a new profile"
WARM: Final = "the same profile again"
COUNTED: Final = ("painted", "list asked for", "requests", "KB on the wire")
SETTLE_S: Final = 0.5
"""Until a browser that has closed one tab and opened another has come to rest: what it does then is not the page's."""
LIMIT_MS: Final = 500.0
PATIENCE_MS: Final = 30_000.0
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
WATCH: Final = """
new MutationObserver((_, watcher) => {
    if (document.querySelectorAll("jc-jobs tbody tr").length < JOBS) return;
    watcher.disconnect();
    requestAnimationFrame(() => (window.drawn = performance.now())); // the next frame: the one with the rows is drawn
}).observe(document, {subtree: true, childList: true});
""".replace("JOBS", str(JOBS))
WHOLE: Final = (f"jc-jobs tbody tr >> nth={JOBS - 1}", '[data-link="live"]', "jc-schedules h1")
"""What is there once the page has all that it loads by itself."""
TOLD: Final = """() => {
    const all = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
    const list = all.find(each => each.name.includes("/api/jobs?"));
    const wire = all.reduce((sum, each) => sum + each.transferSize, 0);
    return [window.drawn, list.startTime, all.length, wire / 1000];
}"""
"""What ``COUNTED`` names."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.paint", description="How long until the list is painted.")
    parser.add_argument("--rounds", type=int, default=4 * ROUNDS, metavar="N", help=f"[{4 * ROUNDS}]")
    parser.add_argument("--settle", type=float, default=SETTLE_S, metavar="S", help=f"before each load [{SETTLE_S}]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    settings = {"rounds": options.rounds, "settle": options.settle, "jobs": JOBS}
    run = Run("paint", settings, packages=("playwright", "quart", "h11"))
    try:
        report = measure(run, options.rounds, options.settle)
    except Failed as error:
        print(f"bench.paint: {error}", file=sys.stderr)
        return 1
    show(report, as_json=options.json)
    return 0


def measure(run: Run, rounds: int, settle: float) -> Report:
    """All turns.

    Raises:
        Failed: there is no browser, or the page did not come.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobctl-paint-")))
        port, browser = stack.enter_context(server(folder)), stack.enter_context(_browser())
        run.versions["chromium"] = browser.version
        page = Visits(browser, f"http://127.0.0.1:{port}", auth.ensure_secret(folder / "state"), settle)
        contestants: Mapping[str, Callable[[], list[float]]] = {COLD: page.cold, WARM: page.warm}
        take_turns(1, contestants)
        found = take_turns(rounds, contestants, told=progress)
        progress("")
    for n, (what, unit) in enumerate(zip(COUNTED, ("ms", "ms", "a load", "KB"), strict=True)):
        run.add(what, unit, {name: [each[n] for each in visits] for name, visits in found.items()})
    for name, visits in found.items():
        run.ask(Asked(f"painted with data, {name}", LIMIT_MS, "ms"), spread(each[0] for each in visits))
    return run.report()


class Visits:
    """Somebody who opens the page of ``url``, ``settle`` seconds after the tab; ``secret`` signs tokens for it."""

    def __init__(self, browser: "Browser", url: str, secret: bytes, settle: float = SETTLE_S) -> None:
        self._browser = browser
        self._settle = settle
        self._url = url
        self._token = auth.mint(secret, subject="ann", role="admin", ttl=600)
        self._profile: BrowserContext | None = None
        self._post("/api/jobs/batch", [{"name": "thumbnail", "delay": 86_400, "tags": ["nightly"]}] * JOBS)

    def cold(self) -> list[float]:
        """With a new profile, which is signed in and has never seen the page."""
        if self._profile is not None:
            self._profile.close()
        self._profile = self._browser.new_context(viewport={"width": 1280, "height": 860})
        self._profile.add_init_script(WATCH)
        code = self._post("/api/auth/codes", {"subject": "ann", "role": "admin"})["code"]
        self._profile.request.post(f"{self._url}/api/auth/login", data={"code": code})
        return self.warm()

    def warm(self) -> list[float]:
        """Once more; the figures that ``COUNTED`` names."""
        from playwright.sync_api import Error

        if self._profile is None:
            raise Failed("there is no profile yet")
        page = self._profile.new_page()
        time.sleep(self._settle)
        try:
            page.goto(self._url)
            for part in WHOLE:
                page.locator(part).wait_for(timeout=PATIENCE_MS, state="attached")
            return [float(each) for each in page.evaluate(TOLD)]
        except Error as error:
            raise Failed(f"the page did not come: {error}") from None
        finally:
            page.close()

    def _post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own server
            self._url + path, method="POST", data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - likewise
            return json.load(answer)["data"]


@contextmanager
def _browser() -> Iterator["Browser"]:
    """The system's Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise Failed("it drives a browser by Playwright: pip install 'jobctl[dev]'") from None
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise Failed("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


if __name__ == "__main__":
    sys.exit(main())
