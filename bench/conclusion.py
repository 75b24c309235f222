"""From a measured run to its verdict and its reports."""

import sys
from pathlib import Path

from bench import thresholds, verdict
from bench.metrics import SCENARIOS, unknown
from bench.report import terminal, write
from bench.result import Plan, Run
from bench.scenarios import find
from bench.thresholds import Threshold


def load(path: Path | None, plan: Plan) -> tuple[Threshold, ...]:
    """What a run must hold to; before anything runs.

    Raises:
        ConfigError: the file is not right.
    """
    planned = [find(name).name for name in plan.scenarios]
    if path is not None:
        return thresholds.load(path, tuple(dict.fromkeys([*SCENARIOS, *planned])))
    return thresholds.defaults(planned, unknown(plan))


def conclude(run: Run, asked: tuple[Threshold, ...], out: Path) -> Run:
    """Judge a run, write it and its reports to ``out``, and show it."""
    judged = verdict.judge(run, asked)
    write.write(judged, out)
    terminal.console(interactive=sys.stdout.isatty()).print(terminal.page(judged))
    return judged
