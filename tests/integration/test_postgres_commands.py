"""What the commands say and do where the database is one of PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cli_kit import Cli, cli

from jobctl import database
from jobctl.errors import ConfigError, StartupError
from jobctl.rehearsal import rehearse
from jobctl.settings import load
from jobctl.store.postgres_migrate import newest
from tests.kit import Running, StartServer, until
from tests.postgres_kit import Cluster

__all__ = ["cli"]
NOWHERE = "postgresql://ann:hunter2secret@127.0.0.1:1/jobs"


@pytest.fixture
async def server(start_server: StartServer, postgres_url: str) -> Running:
    return await start_server(db=postgres_url, durability="full")


async def test_a_database_is_brought_to_this_version_and_then_there_is_nothing_to_do(
    cli: Cli, cluster: Cluster
) -> None:
    url = cluster.create("jobctl_migrate")
    first = await cli("migrate", "--db", url)
    assert (first.code, first.out) == (0, f"{url} has the schema {newest()} now (a new one)\n")
    again = await cli("migrate", "--db", url)
    assert again.out == f"{url} has the schema {newest()}, there is nothing to do\n"
    assert (await cli("migrate", "--db", url, "--json")).json == [{"before": newest(), "now": newest()}]


async def test_a_copy_of_the_disk_that_was_put_back_begins_a_new_epoch_by_hand(cli: Cli, cluster: Cluster) -> None:
    url = cluster.create("jobctl_put_back")
    epochs = [(await cli("migrate", "--db", url, "--new-epoch", "--json")).json[0]["epoch"] for _ in range(2)]
    assert epochs[0] != epochs[1]
    said = await cli("migrate", "--db", url, "--new-epoch")
    assert (said.code, said.out.splitlines()[1].endswith("now; start the servers again")) == (0, True)
    assert cluster.execute("SELECT value FROM meta WHERE key = 'epoch'", database="jobctl_put_back")[0][0] in said.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("migrate", "--db", "x.db"), "db: x.db is a file; `jobctl serve` brings it to its version"),
        (("work", "--db", "x.db"), "db: x.db is a file, which one process owns: `jobctl serve` runs its jobs as well"),
        (("work",), "db: jobctl.db is a file"),
        (("serve", "--db", "mysql://db/jobs"), "a database is a file, or postgresql://...; mysql:// is neither"),
        (("db", "check", NOWHERE), "this is for database files; PostgreSQL has pg_dump"),
        (("db", "restore", "x.db", "--db", NOWHERE), "this is for database files"),
    ],
)
async def test_what_is_for_the_other_kind_of_database_says_so(cli: Cli, arguments: tuple[str, ...], told: str) -> None:
    done = await cli(*arguments)
    assert done.code == 2
    assert told in done.err
    assert "hunter2" not in done.err


@pytest.mark.parametrize("command", ["serve", "work", "migrate"])
async def test_a_database_that_is_not_there_is_one_line_without_the_password(cli: Cli, command: str) -> None:
    done = await cli(command, "--db", NOWHERE)
    assert done.code != 0
    hint, told = done.err.splitlines()[-2:]
    assert "others on this machine can read the password in --db" in hint
    assert "cannot reach the database postgresql://ann@127.0.0.1:1/jobs" in told
    assert "hunter2" not in done.out + done.err


async def test_settings_are_shown_without_the_password_and_checked_with_the_database(
    cli: Cli, postgres_url: str
) -> None:
    shown = await cli("config", "show", "--db", NOWHERE, "--json")
    assert {each["name"]: each["value"] for each in json.loads(shown.out)}["db"] == "postgresql://ann@127.0.0.1:1/jobs"
    assert "hunter2" not in shown.out
    assert (await cli("config", "check", "--db", NOWHERE)).code == 2
    assert (await cli("config", "check", "--db", postgres_url)).code == 0


def test_a_rehearsal_leaves_a_new_database_as_it_is(cluster: Cluster, tmp_path: Path) -> None:
    url = cluster.create("jobctl_rehearsal")
    rehearse(load(None, db=url, state_dir=tmp_path))
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert cluster.execute(tables, database="jobctl_rehearsal") == [(0,)]
    with pytest.raises(ConfigError, match="every commit is synced"):
        rehearse(load(None, db=url, state_dir=tmp_path, durability="normal"))


def test_what_is_missing_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "find_spec", lambda name: None if name == "psycopg_pool" else object())
    with pytest.raises(StartupError, match=r"needs psycopg_pool; run: pip install 'jobctl\[postgres\]'"):
        database.require_postgres()


async def test_a_backup_of_postgresql_is_refused_with_what_to_do_instead(server: Running, tmp_path: Path) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
        answer = await http.post(
            "/api/admin/backup", json={"path": str(tmp_path / "x.db")},
            headers={"Authorization": f"Bearer {server.token()}"},
        )  # fmt: skip
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "pg_dump" in answer.json()["detail"]


async def test_a_server_says_that_it_is_not_ready_while_the_database_does_not_answer(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = server.service.engine.lease
    assert server.service.not_ready() == []
    monkeypatch.setattr(lease, "_heard_at", lease._now() - 7)
    assert server.service.not_ready() == ["the database has not answered for 7 s"]
    monkeypatch.setattr(lease, "held", False)
    assert server.service.not_ready() == [
        "the lease is lost; a new one is taken when the database answers and what ran has ended"
    ]


async def test_a_server_on_postgresql_runs_jobs_and_lists_itself_under_its_lease(server: Running) -> None:
    (job_id,) = await server.enqueue(name="noop")
    (worker,) = await server.store.workers.all()
    assert worker.id == server.service.engine.lease.id
    assert worker.id.count(":") == 2

    async def leads() -> Any:
        return (await server.store.workers.all())[0].leader

    await until(leads)
    assert (await server.store.job(job_id, owner=None)).value.status == "pending"
