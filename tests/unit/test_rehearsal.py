"""What `config check` finds without starting: files, folders, the address."""

from pathlib import Path
from typing import Any

import pytest

from jobctl.errors import ConfigError, StartupError
from jobctl.rehearsal import rehearse
from jobctl.settings import load
from jobctl.store.sqlite import open_store


def settings(tmp_path: Path, **changed: Any) -> Any:
    return load(None, **{"db": tmp_path / "jobs.db", "state_dir": tmp_path / "state", **changed})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("no folder\n")
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "secret").write_text("short")
    (tmp_path / "other.db").write_bytes(b"SQLite format 3\0" + b"\0" * 84)
    return tmp_path


def files(folder: Path) -> set[str]:
    return {str(each.relative_to(folder)) for each in folder.rglob("*")}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("db", "nosuch/jobs.db", "db: files cannot be made in {}/nosuch: No such file"),
        ("db", "file/jobs.db", "db: files cannot be made in {}/file: Not a directory"),
        ("db", "short", "db: {}/short is no file"),
        ("db", "file", "db: {}/file is something else than a database of jobctl"),
        ("db", "other.db", "db: {}/other.db is something else than a database of jobctl"),
        ("state_dir", "file", "state_dir: files cannot be made in {}/file: Not a directory"),
        ("state_dir", "file/state/deep", "state_dir: files cannot be made in {}/file/state/deep: Not a directory"),
        ("state_dir", "short", "the secret in {}/short/secret has 5 bytes"),
        ("backup_dir", "nosuch", "backup_dir: files cannot be made in {}/nosuch: No such file"),
        ("backup_dir", "file", "backup_dir: files cannot be made in {}/file: Not a directory"),
    ],
)
def test_a_path_that_a_start_could_not_use_is_named(folder: Path, name: str, value: str, said: str) -> None:
    before = files(folder)
    with pytest.raises(StartupError) as caught:
        rehearse(settings(folder, **{name: folder / value}))
    assert said.format(folder) in str(caught.value)
    assert files(folder) == before


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"cannot listen on 192\.0\.2\.1: .* choose another with --host"):
        rehearse(settings(tmp_path, host="192.0.2.1"))


def test_too_many_queues_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="queues: a server has at most 1000"):
        rehearse(settings(tmp_path, queues={f"q{n}": {} for n in range(1001)}))


def test_what_a_start_would_make_is_not_made(tmp_path: Path) -> None:
    rehearse(settings(tmp_path, state_dir=tmp_path / "a" / "b", backup_dir=tmp_path))
    assert files(tmp_path) == set()


async def test_a_database_that_a_server_has_now_is_fine(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    async with open_store(chosen.db, state_dir=chosen.state_dir):
        rehearse(chosen)  # what it is stands in the log beside it yet
    rehearse(chosen)
