"""The SQLite file: who may open it, and what is said to the others."""
# ruff: noqa: F811  (fixtures are imported by name)

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from sqlite_kit import path, store  # noqa: F401
from store_kit import add, enqueue, new

from jobctl.errors import DatabaseInUse, NotADatabase, StartupError
from jobctl.store.sqlite import SqliteStore, open_store


async def open_fails(path: Path, kind: type[StartupError], state_dir: Path | None = None) -> str:
    with pytest.raises(kind) as caught:
        async with open_store(path, state_dir=state_dir or path.parent / "state"):
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_database_with_a_second_name_is_refused(path: Path) -> None:
    """A hard link would have a lock and a WAL of its own: two servers on one file."""
    async with open_store(path, state_dir=path.parent / "state"):
        pass
    other = path.with_name("other.db")
    other.hardlink_to(path)
    with pytest.raises(StartupError, match="second name"):
        async with open_store(other, state_dir=path.parent / "state"):
            pass


async def test_a_second_server_is_told_who_owns_the_file(store: SqliteStore, path: Path) -> None:
    told = await open_fails(path, DatabaseInUse)
    assert f"process {os.getpid()}" in told
    assert str(path) in told


async def test_another_name_of_the_same_file_does_not_get_past_the_lock(store: SqliteStore, path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    await open_fails(link, DatabaseInUse)
    await open_fails(path.parent / "x" / ".." / path.name, DatabaseInUse)


FORK = """
import os, sys, time
from pathlib import Path
from jobctl.errors import DatabaseInUse
from jobctl.store.lock import own
path = Path(sys.argv[1])
there, here = os.pipe()
with own(path):
    child = os.fork()
    if not child:
        os.write(here, b"!")
        time.sleep(60)
        os._exit(0)
    os.read(there, 1)  # it has come to life, and has let go
    try:
        with own(path):
            sys.exit("the lock is not held")
    except DatabaseInUse:
        pass
try:
    with own(path):
        pass
finally:
    os.kill(child, 9)
"""


def test_a_forked_child_does_not_hold_the_lock(path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", FORK, path], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


async def test_the_file_is_free_again_after_a_stop(path: Path) -> None:
    for _ in range(3):
        async with open_store(path, state_dir=path.parent / "state") as store:
            await add(store)
    assert not path.with_name("jobs.db-wal").exists()


async def test_something_else_is_not_taken_for_a_database(path: Path) -> None:
    path.write_bytes(b"a letter to grandmother, not a database at all\n" * 100)
    before = path.read_bytes()
    assert "is not a database" in await open_fails(path, NotADatabase)
    assert path.read_bytes() == before


async def test_another_programs_database_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    before = path.read_bytes()
    assert "not one of jobctl" in await open_fails(path, NotADatabase)
    assert path.read_bytes() == before


async def test_a_newer_jobctls_database_is_left_alone(path: Path) -> None:
    async with open_store(path, state_dir=path.parent / "state"):
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "newer jobctl (schema 99)" in await open_fails(path, NotADatabase)


async def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    async with open_store(path, state_dir=path.parent / "state") as store:
        await add(store)


@pytest.mark.parametrize("page", [1, 2, 3])
async def test_a_damaged_file_is_reported_in_one_line(path: Path, page: int) -> None:
    async with open_store(path, state_dir=path.parent / "state") as store:
        await enqueue(store, *(new() for _ in range(50)))
    raw = bytearray(path.read_bytes())
    start = 100 if page == 1 else (page - 1) * 4096
    raw[start : page * 4096] = b"\xa5" * (page * 4096 - start)
    path.write_bytes(raw)
    assert str(path) in await open_fails(path, StartupError)


async def test_a_new_database_is_its_owners_alone_and_one_that_is_there_keeps_its_mode(path: Path) -> None:
    before = os.umask(0o022)
    try:
        for mode in (0o600, 0o640):
            async with open_store(path, state_dir=path.parent / "state"):
                found = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.glob("jobs.db*")}
            assert found == {"jobs.db": mode, "jobs.db-wal": mode, "jobs.db-shm": mode, "jobs.db.lock": 0o600}
            path.chmod(0o640)
    finally:
        os.umask(before)


async def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    assert "No such file" in await open_fails(tmp_path / "nowhere" / "jobs.db", StartupError)


async def test_a_folder_is_no_database(path: Path) -> None:
    path.mkdir()
    assert str(path) in await open_fails(path, StartupError)


OPEN = """
import sys
from pathlib import Path
import trio
from jobctl.errors import StartupError
from jobctl.store.sqlite import open_store

async def main():
    async with open_store(Path(sys.argv[1]), state_dir=Path(sys.argv[2])):
        pass

try:
    trio.run(main)
except StartupError as error:
    sys.exit(str(error))
"""
BOUND_BY_MODES = () if os.geteuid() else ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""For root, files open whatever their mode, unless it runs without that privilege."""


@pytest.mark.parametrize(
    ("barred", "said"),
    [
        ("", "cannot write beside the database"),
        ("jobs.db", "cannot write the database"),
        ("state/marks", "set state_dir"),
        (None, ""),
    ],
)
async def test_what_cannot_be_written_is_named(tmp_path: Path, barred: str | None, said: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    path, state = folder / "jobs.db", folder / "state"
    async with open_store(path, state_dir=state):
        pass
    path.with_name("jobs.db.lock").unlink()
    if barred is not None:
        shut = folder / barred
        shut.chmod(0o555 if shut.is_dir() else 0o444)
    command = [*BOUND_BY_MODES, sys.executable, "-c", OPEN, str(path), str(state)]
    done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
    folder.chmod(0o755)
    told = done.stderr.decode()
    assert said in told
    assert (done.returncode, told.count("\n")) == ((0, 0) if barred is None else (1, 1)), told
