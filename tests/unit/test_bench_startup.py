"""The start-up benchmark: what is judged, and a run of one round."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from bench import startup
from bench.processes import Failed
from bench.side_by_side import Report, Run

FOUND = {
    startup.PYTHON: [10.0, 10.0],
    startup.HELP: [100.0, 140.0],
    "celery --help": [250.0, 250.0],
    "rq --help": [100.0, 200.0],
    "huey_consumer --help": [200.0, 300.0],
    startup.ENQUEUE: [200.0, 500.0],
    startup.SERVE: [900.0, 900.0],
}


def test_help_is_set_against_the_median_of_the_others_of_the_same_round() -> None:
    run = Run("startup", {})
    startup._judge(run, FOUND)
    against, alone, enqueue, serve = run.judged
    assert (against.low, against.high, against.met) == (100 / 200, 140 / 250, True)
    assert (alone.value, alone.met) == (120.0, True)
    assert (enqueue.value, enqueue.met, enqueue.missed_by) == (350.0, False, pytest.approx(1 / 6))
    assert serve.met


def test_without_all_of_the_others_there_is_no_verdict() -> None:
    run = Run("startup", {})
    startup._judge(run, {name: found for name, found in FOUND.items() if name != "rq --help"})
    assert (run.judged[0].met, run.judged[0].why) == (None, "not all of them are installed")


def test_a_command_that_fails_has_no_time() -> None:
    code = "import sys; sys.exit('it went wrong')"
    with pytest.raises(Failed, match="ended with 1: it went wrong"):
        startup._command([sys.executable, "-c", code], {})()


@pytest.mark.slow
def test_one_round_measures_every_command_and_names_who_is_missing() -> None:
    argv = [sys.executable, "-m", "bench.startup", "--rounds", "1", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode(done.stdout, type=Report)
    measured = {each.contestant for each in report.figures}
    assert {startup.PYTHON, startup.HELP, startup.ENQUEUE, startup.SERVE} <= measured
    assert measured | {each.name for each in report.absent} == set(FOUND)
    assert all(each.value.median > 0 for each in report.figures)
