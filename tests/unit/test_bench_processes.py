"""What is said of a process of a block that does not do its part, and of a scenario whose own code fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bench
from bench import processes
from bench.processes import Failed, Process

HOME = Path(bench.__file__).parent.parent


def process(folder: Path, code: str) -> Process:
    (folder / "empty").mkdir()
    return Process("load generator", [sys.executable, "-c", code], folder, folder / "empty")


def test_an_early_end_is_told_with_its_cause(tmp_path):
    early = process(tmp_path, "import sys; sys.exit('...\\nModuleNotFoundError: nosuch')")
    try:
        with pytest.raises(Failed, match=r"^the load generator ended early: ModuleNotFoundError: nosuch$"):
            early.await_file(tmp_path / "never", 30)
    finally:
        early.end()


def test_a_time_out_is_told_with_the_last_that_was_said(tmp_path):
    code = "import sys, time; print('no port is free', file=sys.stderr); print('-', flush=True); time.sleep(60)"
    stuck = process(tmp_path, code)
    try:
        assert stuck.hear(30) == b"-"
        with pytest.raises(Failed, match=r"did not answer within 0 s: no port is free$"):
            stuck.hear(0.01)
        with pytest.raises(Failed, match=r"did not come to its end within 0 s: no port is free$"):
            stuck.await_file(tmp_path / "never", 0)
    finally:
        stuck.end()


RAISES = """
from types import SimpleNamespace
from locust.exception import StopUser
from bench.load.record import Recorder
from bench.locustfiles import scenario

class Mine(scenario.BenchUser):
    def behave(self):
        raise KeyError("a typo of mine")

recorder, hung_up = Recorder(), []
user = SimpleNamespace(
    behave=lambda: Mine.behave(None),
    client=SimpleNamespace(fail=lambda error: recorder.failed(0, repr(error)), hang_up=lambda: hung_up.append(1)),
)
scenario.BLOCK.take_number()
try:
    Mine.once(user)
except StopUser:
    print(scenario.BLOCK.left, recorder.errors, hung_up)
"""


def test_a_scenario_of_ones_own_that_raises_is_recorded_and_ends(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RAISES], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False, env={"PYTHONPATH": str(HOME), processes.ENVIRONMENT: str(tmp_path)},
    )  # fmt: skip
    assert done.stdout == """0 ["KeyError('a typo of mine')"] [1]\n""", done.stderr
