"""The report in Markdown, for the step summary of a CI service: short enough to be read, and to be taken (1 MiB)."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from bench.metrics import METRICS
from bench.report import claims
from bench.report.figures import amount, number, ratios, repeats, scaled_note
from bench.report.look import GLYPHS, OUTCOMES, VERDICTS, measured, spread
from bench.result import Run

_MARKUP: Final = re.compile(r"([\\`*_\[\]#|~$]|^[-+=]|:(?=//)|(?<=www)\.)")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+")


def escaped(text: str) -> str:
    """``text`` from outside, on one line, of which Markdown and HTML make nothing but text."""
    line = _CONTROL.sub(" ", text).strip().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};" if found[0] in ":." else f"\\{found[0]}", line)


def render(run: Run) -> str:
    """The whole page."""
    word, mood = VERDICTS[run.conclusion]
    parts = [f"## {GLYPHS[mood]} jobctl bench: {word}", f"**{escaped(claims.headline(run))}**"]
    about = [
        f"Profile {run.plan.profile}", claims.updates(run), repeats(run.plan.repeats), f"seed {run.plan.seed}",
        scaled_note(run.plan.time_scale), claims.extrapolated(run),
    ]  # fmt: skip
    parts.append(escaped(", ".join(each for each in about if each) + "."))
    if not claims.believed(run):
        parts.append(f"**{claims.NOT_BELIEVED.capitalize()}**:")
    parts.append(_list(each.text for each in claims.beside_polling(run)))
    parts += ["### Where polling is cheaper", _list(each.text for each in claims.where_polling_wins(run))]
    if run.thresholds:
        rows = [
            (
                f"{GLYPHS[OUTCOMES[each.outcome][1]]} {OUTCOMES[each.outcome][0]}", each.id,
                f"{each.metric} of {each.scenario}" + (f" over {each.vs}" if each.vs else ""), each.bound,
                measured(each), spread(each),
            )
            for each in run.thresholds
        ]  # fmt: skip
        parts += [
            "### Thresholds" if claims.believed(run) else f"### Thresholds, {claims.NOT_JUDGED}",
            _table(("", "threshold", "what", "bound", "measured", "95% interval"), rows),
        ]
    checks = [("✔" if each.passed else "✘", each.id, each.detail) for each in run.checks]
    parts += ["### Validity", _table(("", "check", "detail"), checks), _folded("All figures", _figures(run))]
    return "\n\n".join(parts) + "\n"


def _figures(run: Run) -> str:
    shown = [name for name in METRICS if any(each.metric == name for each in run.estimates)]
    scenarios = [name for name in run.plan.scenarios if any(each.scenario == name for each in run.estimates)]
    rows = []
    for name in shown:
        row = [f"{METRICS[name].words} ({METRICS[name].unit})"]
        for scenario in scenarios:
            found = claims.estimate(run, name, scenario)
            row.append(amount(found.mean, name) if found else "")
        rows.append(row)
    compared = [
        (each.metric, f"{each.scenario} over {each.vs}", "" if each.ratio is None else number(each.ratio),
         ratios(each.low, each.high), "yes" if claims.differ(each) else "no")
        for each in run.comparisons
    ]  # fmt: skip
    return "\n\n".join((
        _table(("figure", *scenarios), rows),
        _table(("metric", "compared", "ratio", "95% interval", "a difference"), compared),
    ))  # fmt: skip


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(each)}" for each in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head)]
    text = [" | ".join(each if each == "---" else escaped(each) for each in line) for line in (*lines, *rows)]
    return "\n".join(f"| {line} |" for line in text)


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"
