"""``jobctl serve`` in a process of its own, that is killed, stopped and limited."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx2

from jobctl import auth
from tests.kit import LOOPBACK, until

ROOT: Final = Path(__file__).parents[2]
STARTED_S: Final = 30.0


class Server:
    """A server on ``folder/jobs.db`` whose port stays the same over restarts. ``app``: where its handlers are."""

    def __init__(self, folder: Path, *options: str, app: str | None = None) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind((LOOPBACK, 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._options = [*options, "--app", app] if app else [*options]
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("JOBCTL_")},
            "JOBCTL_STATE_DIR": str(folder / "state"),
            "JOBCTL_ACCEPT_UNKNOWN": "true",
            "JOBCTL_DURABILITY": "full",
            "PYTHONPATH": str(ROOT),
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the server."""
        assert self.process is not None
        return self.process.pid

    def spawn(self, *under: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start it, under another program if one is named; it does not listen yet."""
        serve = (sys.executable, "-m", "jobctl", "serve", "--port", str(self.port), "--db", "jobs.db")
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*under, *serve, *self._options],
                cwd=self.folder, env=self._environment | environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        return self.process

    async def start(self, *under: str, **environment: str) -> None:
        """Start it, and wait until it takes work."""
        self.spawn(*under, **environment)
        await until(self._listens, STARTED_S)

    def _listens(self) -> bool:
        """There is a secret, too: a slow server's port answers before that."""
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        if auth.read_secret(self.folder / "state") is None:
            return False
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), 1):
            return True
        return False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        """Started, and gone at the end of the block."""
        try:
            await self.start()
            yield self
        finally:
            self.clean_up()

    def signal(self, number: int) -> int | None:
        """Send a signal; where it ends the process, its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60) if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT) else None

    def log(self) -> str:
        """All that it has said."""
        return (self.folder / "server.log").read_text()

    def clean_up(self) -> None:
        """Whatever happened, nothing is left running."""
        if self.process is not None:
            for number in (signal.SIGCONT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, number)
            self.process.wait(10)

    # --- asking --------------------------------------------------------------------------------------------------

    def token(self, subject: str = "root", role: str = "admin") -> str:
        """One that it accepts."""
        secret = auth.read_secret(self.folder / "state")
        assert secret is not None
        return auth.mint(secret, subject=subject, role=role, ttl=900)

    async def get(self, path: str) -> httpx2.Response:
        """A GET."""
        return await self._ask("GET", path)

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """A POST of JSON."""
        return await self._ask("POST", path, json.dumps(body).encode(), headers)

    async def _ask(
        self, method: str, path: str, body: bytes | None = None, more: dict[str, str] | None = None
    ) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.token()}", "Content-Type": "application/json", **(more or {})}
        async with httpx2.AsyncClient(timeout=30) as client:
            return await client.request(method, self.url + path, content=body, headers=headers)
