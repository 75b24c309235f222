"""Whether a log goes on: the rule and the mark. What a whole store makes of it is in tests/store."""

import os
import stat
from pathlib import Path

import pytest

from jobctl.errors import ConfigError
from jobctl.store.epoch import Mark, continues, fresh, mark_path, read_mark, write_mark

META = {"epoch": "e", "boot": "b", "clean": "1", "durability": "full"}


@pytest.mark.parametrize(
    ("meta", "mark", "seq", "goes_on"),
    [
        (META, Mark("e", "b", 5), 5, True),
        (META, Mark("e", "b", 4), 5, True),
        (META, Mark("e", "b", 6), 5, False),
        (META, Mark("e", "other", 5), 5, False),
        (META, Mark("other", "b", 5), 5, False),
        (META, None, 5, False),
        ({}, Mark("e", "b", 0), 0, False),
        ({"epoch": "e"}, Mark("e", "b", 0), 0, False),
        (META | {"clean": "0"}, Mark("e", "b", 5), 5, True),
        (META | {"clean": "0", "durability": "normal"}, Mark("e", "b", 5), 5, False),
        (META | {"clean": "1", "durability": "normal"}, Mark("e", "b", 5), 5, True),
        (META | {"clean": "0", "durability": ""}, Mark("e", "b", 5), 5, False),
        ({"epoch": "e", "boot": "b", "clean": "0"}, Mark("e", "b", 5), 5, False),
    ],
)
def test_a_log_goes_on_only_where_nothing_speaks_against_it(
    meta: dict[str, str], mark: Mark | None, seq: int, goes_on: bool
) -> None:
    assert continues(meta, mark, seq) == goes_on


def test_a_mark_reads_as_it_was_written(tmp_path: Path) -> None:
    path = mark_path(tmp_path / "state", tmp_path / "jobs.db")
    assert read_mark(path) is None
    for mark in (Mark("e", "b", 5), Mark("e", "b", 6)):
        write_mark(path, mark)
        assert read_mark(path) == mark
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_names_of_one_file_have_one_mark(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").touch()
    (tmp_path / "link.db").symlink_to(tmp_path / "jobs.db")
    marks = {mark_path(tmp_path, tmp_path / name) for name in ("jobs.db", "link.db", "x/../jobs.db")}
    assert len(marks) == 1
    assert mark_path(tmp_path, tmp_path / "other.db") not in marks


def test_a_mark_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(ConfigError, match="set state_dir"):
        write_mark(mark_path(tmp_path / "state", tmp_path / "jobs.db"), Mark("e", "b", 1))


def test_a_failed_write_leaves_the_old_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mark_path(tmp_path, tmp_path / "jobs.db")
    write_mark(path, Mark("e", "b", 1))

    def full(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ConfigError, match="No space left"):
        write_mark(path, Mark("e", "b", 2))
    assert read_mark(path) == Mark("e", "b", 1)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_epochs_do_not_repeat() -> None:
    assert len({fresh() for _ in range(1000)}) == 1000
