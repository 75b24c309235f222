"""``jobctl serve`` as a process: its log, and SIGHUP."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import warm
from operations_kit import ROOT, http  # noqa: F401

from jobctl import auth
from tests.kit import until

CANARY = "canary-secret-that-is-never-to-be-logged-0123456789"


class Process:
    """``jobctl serve`` with a configuration, and its log."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.config = folder / "jobctl.toml"
        (folder / "handlers.py").write_text(
            "import logging\nfrom jobctl import job\n"
            "@job('careless')\n"
            "async def careless(ctx, **data):\n"
            "    logging.getLogger('tasks').info('a careless line')\n"
            "    logging.getLogger('tasks').info('with %s', data['password'])\n"
            "    raise ValueError(f\"cannot sign in with {data['password']}\")\n"
        )
        self.environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "JOBCTL_STATE_DIR": str(folder / "state"), **environment,
        }  # fmt: skip
        self.process: warm.Command | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            words = ["serve", "--config", str(self.config), "--app", "handlers", "--port", "0"]
            self.process = warm.Command(
                words, cwd=self.folder, env=self.environment, stdout=log.fileno(), stderr=log.fileno()
            )

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]

    def said(self, text: str) -> bool:
        return text in (self.folder / "log").read_text()

    @property
    def url(self) -> str:
        line: str = next(each["event"] for each in self.lines() if "listens on" in each["event"])
        return line.split()[3]

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    made = Process(tmp_path, JOBCTL_SECRET=CANARY)
    made.config.write_text('[log]\nlevel = "debug"\nformat = "json"\n')
    made.start()
    try:
        await until(lambda: made.said("listens on"), 30)
        yield made
    finally:
        assert made.process is not None
        if made.process.poll() is None:
            made.process.kill()
        made.process.wait()


async def test_the_log_of_a_server_binds_ids_and_holds_no_secret(process: Process) -> None:
    token = auth.mint(CANARY.encode(), subject="root", role="admin")
    headers = {"Authorization": f"Bearer {token}", "X-Request-Id": "req-7"}
    async with httpx2.AsyncClient(base_url=process.url, headers=headers) as http:
        job = {"name": "careless", "data": {"password": CANARY}, "maxAttempts": 1}
        answer = await http.post("/api/jobs", json=job)
        job_id = answer.json()["data"]["id"]
        await http.get("/api/jobs", params={"q": token})
        await http.get(f"/api/nope/{token}")
        await http.get("/api/jobs", headers={"Authorization": f"Bearer {CANARY}"})
    await until(lambda: process.said("failed: ValueError"), 20)
    process.send(signal.SIGTERM)
    await until(lambda: process.said('"stopped"'), 20)
    lines = process.lines()
    said = (process.folder / "log").read_text()
    assert CANARY not in said
    assert token not in said
    assert token.rpartition(".")[2] not in said
    careless = [each for each in lines if each["logger"] == "tasks"]
    assert [each["event"] for each in careless] == ["a careless line", "with [hidden]"]
    assert all((each["job_name"], each["job_id"]) == ("careless", job_id) for each in careless)
    (access,) = [each for each in lines if each["event"] == "POST /api/jobs 201"]
    assert (access["request_id"], access["subject"], access["level"]) == ("req-7", "root", "info")


async def test_a_sighup_reads_the_file_again(process: Process) -> None:
    process.config.write_text('grace = 1.0\n[log]\nlevel = "warning"\nformat = "json"\n')
    process.send(signal.SIGHUP)
    await until(lambda: process.said("changed: grace, log.level"), 20)
    process.config.write_text("grace = what\n")
    process.send(signal.SIGHUP)
    await until(lambda: process.said("the settings stay as they are"), 20)
    async with httpx2.AsyncClient(base_url=process.url) as http:
        assert (await http.get("/readyz")).status_code == 200
    process.send(signal.SIGTERM)
    assert process.process is not None
    assert await process.process.ended() == 0
    assert not process.said('"stopped"')  # that is no warning
