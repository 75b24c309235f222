"""``jobctl db copy`` as one gives it: what it prints, and with which exit code."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from many_kit import new_database  # noqa: F401

from jobctl.model import NewJob
from jobctl.store import sqlite
from jobctl.store.copy_tables import TABLES
from tests.postgres_kit import Cluster


@pytest.fixture
async def source(tmp_path: Path) -> Path:
    """The file of a server that has stopped."""
    path = tmp_path / "jobs.db"
    async with sqlite.open_store(path, state_dir=tmp_path / "state", durability="normal") as store:
        for _ in range(3):
            await store.enqueue([NewJob(name="mail")], owner="ann")
    return path


def jobctl(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-m", "jobctl", *map(str, arguments)]
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)


async def test_a_copy_prints_each_table_and_the_new_epoch(source: Path, new_database: str, tmp_path: Path) -> None:
    done = jobctl("db", "copy", source, new_database, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [each.name for each in TABLES]
    assert {line[0]: line[1] for line in lines}["job"] == "3"
    assert all(line[2] == "sha256" and len(line[3]) == 16 and line[4] == "same" for line in lines)
    assert "has it all, up to 3 of a new epoch, " in done.stderr
    again = jobctl("db", "copy", source, new_database, folder=tmp_path)
    assert again.returncode == 2
    assert "is not empty: there are rows in job" in again.stderr
    assert again.stdout == ""


async def test_json_has_the_whole_report_and_no_password(source: Path, new_database: str, tmp_path: Path) -> None:
    secret = new_database.replace("jobctl@", "jobctl:hush@")  # this PostgreSQL asks for none
    done = jobctl("db", "copy", source, secret, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["target"] == new_database
    assert "hush" not in done.stdout + done.stderr
    assert "others on this machine can read the password" in done.stderr
    assert report["epoch"] != report["sourceEpoch"]
    assert {each["name"]: each["rows"] for each in report["tables"]}["job_event"] == 3
    assert all(len(each["sha256"]) == 64 for each in report["tables"])


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("other.db", "TO: other.db is no address of a database"),
        ("postgresql://127.0.0.1:1/x", "cannot reach the database postgresql://127.0.0.1:1/x"),
    ],
)
async def test_a_target_that_is_none_is_told(source: Path, tmp_path: Path, target: str, told: str) -> None:
    done = jobctl("db", "copy", source, target, folder=tmp_path)
    assert done.returncode in {2, 3}
    assert told in done.stderr
    assert "internal error" not in done.stderr


async def test_ctrl_c_says_what_state_the_target_is_in(
    source: Path, new_database: str, cluster: Cluster, tmp_path: Path
) -> None:
    """Held up in the middle by a lock that somebody else has."""
    import psycopg

    from jobctl.store.postgres_migrate import migrate

    migrate(new_database)
    name = new_database.rpartition("/")[2]
    waits = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND wait_event_type = 'Lock'"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-m", "jobctl", "db", "copy", str(source), new_database]
    with psycopg.connect(new_database) as holder:
        holder.execute("LOCK TABLE job_event IN ACCESS SHARE MODE")  # the first TRUNCATE waits for it
        process = subprocess.Popen(argv, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)  # noqa: ASYNC220
        until = time.monotonic() + 30
        while cluster.execute(waits) != [(1,)]:
            assert time.monotonic() < until
            time.sleep(0.02)  # noqa: ASYNC251 - nothing else is to be done here
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted: " in told
    assert "the same command begins anew" in told
    assert jobctl("db", "copy", source, new_database, folder=tmp_path).returncode == 0
