"""The command line of the bench: what it says repeats a run, and what it costs those who do not run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import driver, plan
from jobctl.cli import bench as command
from jobctl.cli import main
from jobctl.errors import ConfigError


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What a command line comes to, without running it: the plan, and the words that repeat it."""
    found = []

    def run(chosen, thresholds, out, words, target, *, strict):
        found.append((chosen, words))
        return 0

    monkeypatch.setattr(command, "_run", run)
    monkeypatch.chdir(tmp_path)
    return found


def test_without_a_command_it_runs_the_smoke_profile(asked):
    assert main._guarded(["bench"]) == 0
    assert main._guarded(["bench", "--profile", "smoke", "--seed", "3"]) == 0
    assert main._guarded(["bench", "run", "--seed", "3"]) == 0
    (bare, _), (short, _), (long, _) = asked
    assert bare.scenarios == ("idle", "poll", "ws")
    assert short == long == plan.make("smoke", seed=3)


def test_the_words_that_repeat_a_run_come_to_the_same_plan(asked):
    sizes = ["--clients", "5", "--clients", "9", "--updates", "0.5", "--time-scale", "90", "--repeats", "2"]
    assert main._guarded(["bench", "run", "--profile", "ci", "--scenario", "idle", "--scenario", "ws", *sizes]) == 0
    chosen, words = asked[0]
    assert main._guarded(list(words[1:])) == 0
    assert asked[1] == (chosen, words)
    assert (chosen.clients, chosen.updates, chosen.time_scale, chosen.repeats) == ((5, 9), (0.5,), 90.0, 2)


def test_what_cannot_be_planned_is_a_usage_error(asked, capsys):
    assert main._guarded(["bench", "--scenario", "pol"]) == 2
    assert "there is no scenario 'pol'" in capsys.readouterr().err
    assert main._guarded(["bench", "--url", "http://127.0.0.1:1", "--scenario", "idle"]) == 2
    assert main._guarded(["bench", "--token-file", "t"]) == 2
    assert main._guarded(["bench", "--url", "http://127.0.0.1:1", "--updates", "1"]) == 2
    assert "leave out one of the two" in capsys.readouterr().err
    assert main._guarded(["bench", "--clients", "5001"]) == 2
    assert capsys.readouterr().err == "jobctl: --clients is at most 5,000 (it is 5,001)\n"
    assert not asked


def test_a_foreign_server_is_asked_for_what_it_can_answer(asked):
    assert main._guarded(["bench", "--url", "http://127.0.0.1:1", "--profile", "ci"]) == 0
    assert asked[0][0].scenarios == ("ws-idle", "poll", "poll-etag", "ws")


def test_the_words_that_repeat_a_run_keep_who_signs_in_and_how_strict_it_is(asked):
    away = ["--url", "http://127.0.0.1:1", "--token-file", "my token", "--strict"]
    assert main._guarded(["bench", *away]) == 0
    assert asked[0][1][-5:] == ("--url", "http://127.0.0.1:1", "--token-file", "my token", "--strict")
    assert main._guarded(list(asked[0][1][1:])) == 0
    assert asked[1] == asked[0]


def test_other_commands_do_not_pay_for_it():
    heavy = "{name.split('.')[0] for name in sys.modules} & {'bench', 'locust', 'psutil'}"
    code = f"import sys, jobctl.cli.main; sys.exit(len({heavy}))"
    home = str(Path(command.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False, env={"PYTHONPATH": home})
    assert done.returncode == 0


THRESHOLD = 'schema = 1\n[[threshold]]\nid = "mine"\nmetric = "{metric}"\nscenario = "{scenario}"\nmax = 1\n'


@pytest.mark.parametrize(
    ("metric", "scenario", "options", "said"),
    [
        ("requests_per_client", "ws-churn", [], "is about ws-churn, and this run measures idle, poll, ws"),
        ("db_queries", "ws", ["--url", "http://127.0.0.1:1"], "only the clients' figures are known"),
    ],
)
def test_a_threshold_about_what_is_not_measured_is_refused_before_anything_runs(
    metric, scenario, options, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(driver, "run", lambda *_, **__: pytest.fail("it ran"))
    (tmp_path / "t.toml").write_text(THRESHOLD.format(metric=metric, scenario=scenario))
    monkeypatch.setattr(command, "_there", lambda target: None)
    assert main._guarded(["bench", "--thresholds", "t.toml", *options]) == 2
    assert said in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["t.toml"]


def test_a_long_run_says_how_long_before_it_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(driver, "run", lambda *_, **__: (_ for _ in ()).throw(ConfigError("enough")))
    for profile in ("smoke", "full"):
        assert main._guarded(["bench", "--profile", profile, "--out", str(tmp_path / profile)]) == 2
    assert capsys.readouterr().err.count("this takes about 2") == 1


def test_help_names_every_exit_code_and_says_what_url_leaves_out(capsys):
    assert main._guarded(["bench", "run", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for said in ("0 passed, 1 a threshold failed, 2 usage or a wrong file, 6 the run", "7 undecided", "130 Ctrl-C"):
        assert said in text
    assert "drives no updates" in text
