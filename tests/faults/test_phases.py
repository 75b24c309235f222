"""SIGTERM and SIGKILL at each phase of a start and of a stop: it ends, says nothing odd, and starts again."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import apsw
import pytest
import trio

from jobctl.store.check import check
from tests.faults.process import Server

pytestmark = [pytest.mark.slow, pytest.mark.faults]
APP = "tests.faults.bad_tasks"
POINTS = 10
LONG = 120
START_S = 1.4
"""About what a start takes on a slow machine; the points are spread over it."""


def sound(server: Server, database: Path) -> None:
    assert "Traceback" not in server.log(), server.log()
    if database.exists() and database.stat().st_size:
        # What it was in the middle of is taken back first, as the next start does.
        with contextlib.closing(apsw.Connection(str(database))) as connection:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            ours = connection.pragma("user_version")
        report = check(database) if ours else None
        assert report is None or report.ok or not report.epoch, report.problems


async def test_a_start_that_is_ended_at_any_moment(tmp_path: Path, long_form: bool) -> None:
    server, points = Server(tmp_path, app=APP), LONG if long_form else POINTS
    try:
        for n in range(points):
            process = server.spawn()
            await trio.sleep(START_S * n / points)
            process.send_signal(signal.SIGTERM)
            code = process.wait(20)
            # Before it has a say in it, the signal ends it by itself.
            assert code in (0, -signal.SIGTERM), (code, server.log())
            sound(server, tmp_path / "jobs.db")
        await server.start()
        assert (await server.post("/api/jobs", {"name": "noop"})).status_code == 201
        assert server.signal(signal.SIGTERM) == 0
    finally:
        server.clean_up()


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGKILL])
async def test_a_stop_that_is_cut_short_at_any_moment(tmp_path: Path, long_form: bool, again: int) -> None:
    """Jobs are running and given back; what was acknowledged is there after each."""
    server, points = Server(tmp_path, app=APP), LONG // 4 if long_form else 3
    kept = set()
    try:
        for n in range(points):
            await server.start()
            for name in ("noop", "nobody"):
                answer = await server.post("/api/jobs", {"name": name})
                kept.add(answer.json()["data"]["id"])
            assert server.process is not None
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.15 * n / points)  # noqa: ASYNC251 - nothing else is to happen
            server.process.send_signal(again)
            code = server.process.wait(20)
            # A second signal ends it at once: by itself, or, where it has nothing left to do, by the signal.
            assert code in ((0, 128 + again, -again) if again == signal.SIGTERM else (0, -again)), server.log()
            sound(server, tmp_path / "jobs.db")
        await server.start()
        listed = (await server.get("/api/jobs?limit=200")).json()["data"]["jobs"]
        assert {job["id"] for job in listed} == kept
    finally:
        server.clean_up()
