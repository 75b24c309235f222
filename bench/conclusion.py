"""From a measured run to its verdict and its reports."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from rich.console import Console

from bench import driver, thresholds, verdict
from bench.report import html, junit, markdown, terminal
from bench.result import Plan, Run
from bench.scenarios import SCENARIOS, find
from bench.thresholds import Threshold

REPORTS: Final[Mapping[str, Callable[[Run], str]]] = {
    "report.md": markdown.render,
    "junit.xml": junit.render,
    "report.html": html.render,
}
"""Files that a run leaves, beside ``run.json`` and the observations."""


def load(path: Path | None, plan: Plan) -> tuple[Threshold, ...]:
    """What a run must hold to; before anything runs.

    Raises:
        ConfigError: the file is not right.
    """
    planned = [find(name).name for name in plan.scenarios]
    names = tuple(dict.fromkeys([*SCENARIOS, *planned]))
    if path is not None:
        return thresholds.load(path, names)
    claims = thresholds.defaults(planned, server=plan.url is None)
    if plan.url is not None:  # when its updates were committed is not known
        claims = tuple(each for each in claims if not each.metric.startswith(("staleness_s", "updates_")))
    return claims


def conclude(run: Run, asked: tuple[Threshold, ...], out: Path) -> Run:
    """Judge a run, write it and its reports to ``out``, and show it."""
    judged = verdict.judge(run, asked)
    driver.write(judged, out)
    for name, render in REPORTS.items():
        (out / name).write_text(render(judged), encoding="utf-8")
    terminal.render(judged, Console(highlight=False))
    return judged
