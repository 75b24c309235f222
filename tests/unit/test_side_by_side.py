"""What is measured beside each other: turns, spreads, ratios within a round, and what was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from bench import side_by_side
from bench.side_by_side import (
    Absent,
    Asked,
    Report,
    Run,
    cpu_ns,
    judge,
    main,
    number,
    others_s,
    ratio,
    resident,
    show,
    spread,
    take_turns,
    verdict,
)


def test_contestants_take_turns() -> None:
    order: list[str] = []
    contestants = {name: lambda name=name: order.append(name) or len(order) for name in "ab"}
    assert take_turns(3, contestants) == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert order == ["a", "b"] * 3


def test_no_round_but_the_first_begins_late() -> None:
    order: list[str] = []
    found = take_turns(5, {"a": lambda: order.append("a")}, late=lambda: len(order) >= 2)
    assert found == {"a": [None, None]}
    assert len(take_turns(5, {"a": lambda: 1}, late=lambda: True)["a"]) == 1


def test_a_spread_keeps_the_rounds_in_their_order() -> None:
    found = spread([3.0, 1.0, 2.0, 10.0])
    assert (found.median, found.low, found.high, found.values) == (2.5, 1.0, 10.0, (3.0, 1.0, 2.0, 10.0))


def test_a_ratio_is_of_values_of_the_same_round() -> None:
    drifted = ratio([2.0, 20.0, 4.0], [1.0, 10.0, 4.0])
    assert drifted.values == (2.0, 2.0, 1.0)  # the medians' ratio would be 1
    assert drifted.median == 2.0
    with pytest.raises(ValueError, match="argument 2"):
        ratio([1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("asked", "values", "met", "missed_by", "told"),
    [
        (Asked("", 2.0, "x"), [1.0, 2.0, 9.0], True, 0.0, "met"),
        (Asked("", 2.0, "x"), [2.0, 2.5, 9.0], False, 0.25, "missed by 25%"),
        (Asked("", 2.0, "x", at_most=False), [1.0, 2.0, 9.0], True, 0.0, "met"),
        (Asked("", 2.0, "x", at_most=False), [1.0, 1.5, 9.0], False, 0.25, "missed by 25%"),
    ],
)
def test_the_median_is_judged(asked: Asked, values: list[float], met: bool, missed_by: float, told: str) -> None:
    found = judge(asked, spread(values))
    assert (found.met, found.missed_by, found.low, found.high) == (met, missed_by, values[0], 9.0)
    assert verdict(found) == told


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    found = judge(Asked("", 2.0, "x"), None, "no node here")
    assert (found.met, found.value, verdict(found)) == (None, None, "no node here")


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (99.94, "99.9"), (2.345, "2.35"), (0.01234, "0.0123"), (0, "0")]
)
def test_numbers_have_three_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text


def test_the_clock_of_a_process_is_its_own_and_read_from_outside() -> None:
    before, ours = cpu_ns(os.getpid()), time.process_time_ns()
    while time.process_time_ns() - ours < 5_000_000:
        pass
    assert 4_000_000 < cpu_ns(os.getpid()) - before < 500_000_000
    assert resident(os.getpid()) > 1_000_000


def test_a_report_names_what_is_missing_and_reads_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = Run("test", {"connections": 5}, packages=("msgspec", "no-such-package"))
    run.add("cost", "us", {"floor": [1.0, 2.0], "ours": [2.0, 3.0]}, versus="floor")
    run.ask(Asked("ours, against the floor", 1.5, "x"), run.figures[1].versus)
    run.ask(Asked("theirs", 1.0, "us"), None, "no node here")
    run.absent.append(Absent("node", "there is no [node] here"))
    report = run.report()
    assert [each.met for each in report.judged] == [False, None]
    assert report.figures[0].versus is None
    assert "msgspec" in report.environment.versions
    assert "no-such-package" not in report.environment.versions

    show(report, as_json=True)
    text = capsys.readouterr().out
    assert msgspec.json.decode(text, type=Report) == report

    (tmp_path / "run.json").write_text(text)
    assert main([str(tmp_path / "run.json")]) == 0
    table = capsys.readouterr().out
    assert "| ours, against the floor | <= 1.50 x | 1.75 (1.50 to 2.00) | missed by 17% |" in table
    assert "| theirs | <= 1.00 us |  | no node here |" in table
    assert "| floor | 1.50 | 1.00 | 2.00 |" in table
    assert "Not measured: node (there is no [node] here)." in table

    show(report, as_json=False)
    shown = capsys.readouterr().out
    assert "not measured: node: there is no [node] here" in shown
    assert "missed by 17%" in shown
    assert "python -m bench.test" in shown


def test_what_others_took_leaves_out_those_of_ours_that_have_ended() -> None:
    burn = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass\n"
    code = f"{burn}print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdin is not None
        assert one.stdout is not None
        before = others_s()
        one.stdout.readline()
        while_it_was_there = others_s()
        one.stdin.write(b"\n")
        one.stdin.flush()
        one.wait(30)
        afterwards = others_s()
    assert while_it_was_there - before > 0.25
    assert while_it_was_there - afterwards > 0.25


@pytest.mark.parametrize(("took", "said"), [(1e6, True), (0.0, False)])
def test_a_report_says_whether_others_were_at_work(took: float, said: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([0.0, took])
    monkeypatch.setattr(side_by_side, "others_s", lambda: next(readings))
    notes = Run("fanout", {}).report().notes
    assert any("others took" in each for each in notes) is said
