"""A run that does not come to its end: signals, what fails, and what is left in the temporary folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import bench
from bench import block, conclusion, folders, plan, result
from bench.interrupts import Attended
from bench.plan import Cell
from bench.processes import Failed
from bench.validity import Evidence
from jobctl.cli import main
from tests.unit import bench_kit

HOME = Path(bench.__file__).parent.parent
CAUSE = "the load generator ended early: ModuleNotFoundError: nosuch"


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Signals as at a terminal, also where the tests run in the background of a shell."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def measured(cell: Cell) -> Evidence:
    return Evidence(cell, bench_kit.block(cell.scenario.name, cell.repeat, cell.order, 3), planned=1, finished=3)


def run(tmp_path: Path) -> tuple[int, result.Run]:
    code = main._guarded(["bench", "--seed", "1", "--out", str(tmp_path / "out")])
    return code, result.decode((tmp_path / "out" / "run.json").read_bytes())


def test_three_quick_ctrl_c_leave_a_partial_run_with_its_reports(tmp_path, monkeypatch, capsys):
    def play(cell: Cell, *_: object) -> Evidence:
        if cell.order == 0:
            return measured(cell)
        try:
            interrupt()
            return pytest.fail("it went on")
        finally:
            interrupt()
            cleaned.append(cell.order)

    def write(run: result.Run, out: Path) -> list[Path]:
        interrupt()
        return usual(run, out)

    cleaned: list[int] = []
    usual = conclusion.write.write
    monkeypatch.setattr(block, "run", play)
    monkeypatch.setattr(conclusion.write, "write", write)
    code, kept = run(tmp_path)
    assert (code, cleaned) == (130, [1])
    assert (kept.complete, kept.conclusion, len(kept.blocks)) == (False, "invalid", 1)
    assert {each.name for each in (tmp_path / "out").iterdir()} == {"run.json", "report.html", "report.md", "junit.xml"}
    assert capsys.readouterr().err.splitlines()[-1] == f"jobctl: stopped; what was measured is in {tmp_path / 'out'}"


def test_a_signal_that_came_before_stops_what_is_measured_next():
    with Attended() as signals:
        interrupt()
        with pytest.raises(KeyboardInterrupt), signals.measuring():
            pytest.fail("it went on")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_that_are_ignored_stay_so():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Attended() as signals, signals.measuring():
        os.kill(os.getpid(), signal.SIGHUP)
    assert not signals.interrupted


@pytest.mark.parametrize(
    ("error", "cause"),
    [(Failed(CAUSE), CAUSE), (OSError(28, "No space left on device"), "a block could not be run: No space left")],
)
def test_what_broke_a_run_off_is_said_first(error, cause, tmp_path, monkeypatch, capsys):
    def play(cell: Cell, *_: object) -> Evidence:
        if cell.order == 0:
            return measured(cell)
        raise error

    monkeypatch.setattr(block, "run", play)
    code, kept = run(tmp_path)
    assert (code, len(kept.blocks)) == (6, 1)
    assert (kept.checks[0].id, kept.checks[0].passed) == ("processes", False)
    assert kept.checks[0].detail.startswith(cause)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"jobctl: it broke off: {cause}")
    assert last.endswith(f"; what was measured is in {tmp_path / 'out'}")


def test_a_run_that_came_to_its_end_says_where_all_of_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(block, "run", lambda cell, *_: measured(cell))
    _, kept = run(tmp_path)
    assert len(kept.blocks) == len(plan.cells(kept.plan))
    assert capsys.readouterr().err.splitlines()[-1] == f"jobctl: all of it is in {tmp_path / 'out'}"


HOLD = "from bench import folders\nwith folders.held() as folder:\n    print(folder, flush=True)\n    input()"


def test_the_folder_of_a_killed_driver_is_swept_and_that_of_a_living_one_is_not(temporary):
    driver = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(HOME), "TMPDIR": str(temporary)},
    )  # fmt: skip
    assert driver.stdout is not None
    with driver, folders.held() as mine:
        folder = Path(driver.stdout.readline().strip())
        try:
            assert folders.sweep() == []
            assert {*temporary.iterdir()} == {folder, mine}
        finally:
            driver.kill()
            driver.wait()
        assert folders.sweep() == [folder]
        assert {*temporary.iterdir()} == {mine}
    assert [*temporary.iterdir()] == []


def test_what_is_no_folder_of_a_block_is_not_touched(temporary, tmp_path):
    (temporary / "jobctl-bench-results").mkdir()  # a run's own output, in the temporary folder
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / folders.LOCK).touch()
    (temporary / "jobctl-bench-link").symlink_to(tmp_path / "other")
    assert folders.sweep() == []
    assert (tmp_path / "other" / folders.LOCK).exists()
