"""Backups that an admin makes of a server that runs."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import contextlib
import json
import stat
from pathlib import Path
from typing import Any

import apsw
import httpx2
import pytest
import trio
from operations_kit import bearer, http  # noqa: F401

from jobctl.store.check import check
from tests.kit import Running


async def test_an_admin_backs_up_a_running_server(server: Running, http: httpx2.AsyncClient, tmp_path: Path) -> None:
    await server.enqueue(5)
    path = tmp_path / "b.db"
    answer = await http.post("/api/admin/backup", json={"path": str(path)}, headers=bearer(server))
    assert answer.status_code == 201
    data = answer.json()["data"]
    assert (data["path"], data["seq"], data["epoch"]) == (str(path), 5, server.store.epoch)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert check(path).jobs == 5
    again = await http.post("/api/admin/backup", json={"path": str(path)}, headers=bearer(server))
    assert (again.status_code, again.json()["code"], again.json()["field"]) == (422, "invalid", "path")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"path": "relative.db"}, 422),
        ({"path": ""}, 422),
        ({}, 422),
        ({"path": "/tmp/x.db", "force": True}, 422),
        ({"path": 5}, 422),
        ([], 422),
        ({"path": "/no/such/folder/x.db"}, 422),
        ({"path": "/etc/cron.d/x"}, 422),
    ],
)
async def test_a_backup_that_may_not_be_is_refused(
    server: Running, http: httpx2.AsyncClient, body: Any, status: int
) -> None:
    answer = await http.post("/api/admin/backup", content=json.dumps(body), headers=bearer(server))
    assert answer.status_code == status, answer.text


async def test_a_user_makes_no_backups_and_a_page_elsewhere_neither(
    server: Running, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    body = {"path": str(tmp_path / "b.db")}
    assert (await http.post("/api/admin/backup", json=body, headers=bearer(server, "user"))).status_code == 403
    odd = {**bearer(server), "Content-Type": "text/plain"}
    assert (await http.post("/api/admin/backup", content=json.dumps(body), headers=odd)).status_code == 415
    assert not (tmp_path / "b.db").exists()


async def test_a_damaged_database_is_no_backup_and_the_admin_hears_it(
    server: Running, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    await server.enqueue(100)
    database = server.settings.db
    with contextlib.closing(apsw.Connection(str(database))) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((page,),) = other.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'job_log'").fetchall()
        size = other.pragma("page_size")
    with database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 100)
    answer = await http.post("/api/admin/backup", json={"path": str(tmp_path / "b.db")}, headers=bearer(server))
    assert (answer.status_code, answer.json()["code"]) == (500, "database_damaged")
    assert "jobctl db check" in answer.json()["detail"]
    assert not list(tmp_path.glob("*b.db*"))


async def test_only_one_backup_is_made_at_a_time(
    server: Running, http: httpx2.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobctl.store import backup as backups

    statuses: list[int] = []
    inside = trio.Event()
    token = trio.lowlevel.current_trio_token()
    go_on = trio.Event()
    copy = backups._copy

    def slow(*arguments: Any) -> Any:
        token.run_sync_soon(inside.set)
        trio.from_thread.run(go_on.wait)
        return copy(*arguments)

    monkeypatch.setattr(backups, "_copy", slow)

    async def one(name: str) -> None:
        body = {"path": str(tmp_path / name)}
        statuses.append((await http.post("/api/admin/backup", json=body, headers=bearer(server))).status_code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "a.db")
        await inside.wait()
        await one("b.db")
        await server.enqueue(3)  # the writer is not held up
        go_on.set()
    assert statuses == [409, 201]
    await one("c.db")
    assert statuses[-1] == 201


async def test_the_server_says_who_it_is_and_who_asks(server: Running, http: httpx2.AsyncClient) -> None:
    from jobctl import __version__

    answer = await http.get("/api/server", headers=bearer(server, "user"))
    data = answer.json()["data"]
    assert (data["version"], data["epoch"], data["subject"], data["role"]) == (
        __version__, server.store.epoch, "ann", "user",
    )  # fmt: skip
    assert (await http.get("/api/server")).status_code == 401
