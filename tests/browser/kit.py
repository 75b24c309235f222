"""What the dashboard's tests share: a server as a process of its own, a real browser, and what a page has asked for."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Request

from jobctl import auth

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 40.0
"""A machine may be busy; only a test that fails waits so long."""


def launch(playwright: Playwright) -> Browser:
    """The system's Chromium. Without one: a failure in CI, a skip for a developer."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        message = "the dashboard's tests need Chromium: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return playwright.chromium.launch(executable_path=path, args=FLAGS, headless=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def go_to(page: Page, place: str) -> None:
    page.evaluate(
        "place => { history.pushState(null, '', place); dispatchEvent(new PopStateEvent('popstate')); }", place
    )


def until(condition: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """Wait until ``condition`` holds; its value."""
    give_up = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < give_up, "this did not come true"
        time.sleep(0.02)


class Server:
    """``jobctl serve`` in ``folder``, with the handlers of ``tasks``. It can be killed and started again."""

    def __init__(self, folder: Path, program: tuple[str, ...] = ("-m", "jobctl"), **settings: Any) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.program = program
        self.ttl = 600.0
        values = {
            "port": self.port, "db": str(folder / "jobs.db"), "state_dir": str(folder / "state"), "grace": 0.2,
            "app": "tests.browser.tasks", "durability": "normal", "accept_unknown": True, "rate_limit": "100000/1m",
        } | settings  # fmt: skip
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items() if not isinstance(value, dict)]
        for section, value in values.items():
            for name, fields in value.items() if isinstance(value, dict) else ():
                lines += [f"[{section}.{name}]", *(f"{key} = {json.dumps(field)}" for key, field in fields.items())]
        (folder / "jobctl.toml").write_text("\n".join([*lines, ""]))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOBCTL_", "PYTEST"))}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, "serve", "--config", str(self.folder / "jobctl.toml")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env=kept | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        until(self._ready)
        return self

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(15)
            self.process = None

    def token(self, subject: str = "root", role: str = "admin", ttl: float | None = None) -> str:
        secret = auth.ensure_secret(self.folder / "state")
        return auth.mint(secret, subject=subject, role=role, ttl=ttl or self.ttl)

    def ask(self, method: str, path: str, body: Any = None, subject: str = "root", role: str = "admin") -> Any:
        """One request; the answer's ``data``."""
        request = urllib.request.Request(
            self.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token(subject, role)}", "Content-Type": "application/json"},
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from None

    def enqueue(self, name: str = "noop", subject: str = "root", role: str = "admin", **fields: Any) -> str:
        """A new job's id."""
        return str(self.ask("POST", "/api/jobs", {"name": name, **fields}, subject, role)["id"])

    def batch(self, jobs: list[dict[str, Any]]) -> list[str]:
        return list(self.ask("POST", "/api/jobs/batch", jobs)["ids"])

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.ask("GET", f"/api/jobs/{job_id}"))

    def link(self, subject: str = "root", role: str = "admin", rest: str = "/") -> str:
        code = self.ask("POST", "/api/auth/codes", {"subject": subject, "role": role})["code"]
        return f"{self.url}{rest}#code={code}"


class Proxy:
    """In front of a server. A stream is cut when the server says ``word`` in it; everything else goes through."""

    def __init__(self, server: Server, word: bytes) -> None:
        self.word: bytes | None = word
        self._to = ("127.0.0.1", server.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def close(self) -> None:
        """End every connection; wait for what served them."""
        self._shut(self._listener)
        self._acceptor.join()

    def _accept(self) -> None:
        served = []
        with self._listener, contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                served.append((client, threading.Thread(target=self._serve, args=(client,))))
                served[-1][1].start()
        for client, thread in served:
            self._shut(client)
            thread.join()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._to) as server:
            back = threading.Thread(target=self._pipe, args=(server, client))
            back.start()
            self._pipe(client, server)
            back.join()

    def _pipe(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                sink.sendall(chunk)
                if self.word is not None and self.word in chunk:
                    break
        self._shut(source)
        self._shut(sink)

    def _shut(self, each: socket.socket) -> None:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class Watched:
    """A page, what it has asked the server for since it was loaded, and whether anything went wrong on it."""

    def __init__(self, context: BrowserContext, server: Server) -> None:
        self.page: Page = context.new_page()
        self.server = server
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self._requests: list[tuple[str, str]] = []
        self.sockets = 0
        self.wrong: list[str] = []
        self.page.on("request", self._asked)
        self.page.on("websocket", lambda _: setattr(self, "sockets", self.sockets + 1))
        self.page.on("pageerror", lambda error: self.wrong.append(f"{error}"))
        self.page.on("console", lambda told: self._said(told.type, told.text))

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and path of each, in order. Playwright tells of them only while it is asked something."""
        if not self.page.is_closed():
            self.page.evaluate("0")
        return self._requests

    def _said(self, kind: str, text: str) -> None:
        """Refusals and lost connections are the browser's to tell, and often what is tested."""
        if kind == "error" and not text.startswith(("Failed to load resource", "WebSocket connection to")):
            self.wrong.append(text)

    def _asked(self, request: Request) -> None:
        self._requests.append((request.method, request.url.removeprefix(self.server.url)))

    def sign_in(self, subject: str = "root", role: str = "admin", rest: str = "/") -> Watched:
        self.page.goto(self.server.link(subject, role, rest))
        self.live()
        return self

    def go(self, place: str) -> None:
        """Another view of the same page, as by its own links."""
        go_to(self.page, place)

    def live(self) -> None:
        """Wait until the indicator says so and the list is there."""
        self.page.locator('[data-link="live"]').wait_for()
        whole = "performance.getEntriesByName('jobctl:data').length && customElements.get('jc-schedules') !== undefined"
        until(lambda: self.page.evaluate(whole))

    def settle(self) -> None:
        """From here on ``requests`` counts anew; none of those that load the page is still to come."""
        self.page.wait_for_load_state("networkidle")
        _ = self.requests
        self._requests.clear()

    def row(self, job_id: str) -> Any:
        return self.page.locator(f'tr[data-id="{job_id}"]')

    def shows(self, job_id: str, status: str) -> None:
        self.page.locator(f'tr[data-id="{job_id}"][data-status="{status}"]').wait_for()

    def count(self, status: str) -> str:
        return str(self.page.locator(f'.tile[data-status="{status}"] .number').inner_text())

    def select(self, place: str, value: str) -> None:
        self.page.locator(place).select_option(value)
