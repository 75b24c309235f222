"""The report on a terminal: the verdict first, then what it means, then what it rests on."""

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from bench.report import claims
from bench.report.figures import duration, repeats, scaled_note
from bench.report.look import GLYPHS, OUTCOMES, VERDICTS, Mood, measured, spread
from bench.result import Run
from jobctl.cli.output import safe

_COLOURS = {"good": "green", "bad": "red", "open": "yellow", "warn": "yellow", "plain": "default"}
_TONES = {"push": ("›", "cyan"), "poll": ("‹", "yellow"), "even": ("=", "default"), "note": ("·", "default")}


def page(run: Run) -> RenderableType:
    """The whole report."""
    parts: list[RenderableType] = [_verdict(run), _about(run), Text()]
    if not claims.believed(run):  # what is wrong stands before what was measured
        parts += [_heading("Validity"), _validity(run), Text(), _heading(claims.NOT_BELIEVED.capitalize())]
    parts += [_claim(each) for each in claims.beside_polling(run)]
    parts += [Text(), _heading("Where polling is cheaper")]
    parts += [_claim(each) for each in claims.where_polling_wins(run)]
    if run.thresholds:
        parts += [Text(), _heading(_limits(run)), _thresholds(run)]
    if claims.believed(run):
        parts += [Text(), _heading("Validity"), _validity(run)]
    return Group(*parts)


def _limits(run: Run) -> str:
    return "Thresholds" if claims.believed(run) else f"Thresholds, {claims.NOT_JUDGED}"


def render(run: Run, to: Console) -> None:
    """Print the whole report."""
    to.print(page(run))


def short(run: Run) -> RenderableType:
    """The verdict with what it rests on, without the claims."""
    parts: list[RenderableType] = [_verdict(run)]
    if run.thresholds:
        parts += [_heading(_limits(run)), _thresholds(run)]
    return Group(*parts, _heading("Validity"), _validity(run))


def console(*, interactive: bool) -> Console:
    """Where a report goes: as wide as the terminal, and in a pipe or log as wide as its table needs."""
    return Console(highlight=False, width=None if interactive else 100)


def _verdict(run: Run) -> Text:
    word, mood = VERDICTS[run.conclusion]
    return Text.assemble(
        (f" {GLYPHS[mood]} {word} ", f"bold reverse {_COLOURS[mood]}"), " ", (safe(claims.headline(run)), "bold")
    )


def _about(run: Run) -> Text:
    plan = run.plan
    clients = "/".join(str(each) for each in plan.clients)
    parts = [
        f"profile {plan.profile}", f"{clients} clients", f"a poll each {duration(plan.interval)}", claims.updates(run),
        repeats(plan.repeats), f"seed {plan.seed}", scaled_note(plan.time_scale),
        claims.extrapolated(run), claims.compared_at(run),
        f"against {plan.url}, clients' figures only" if plan.url else "",
    ]  # fmt: skip
    return Text(safe(" · ".join(each for each in parts if each)), style="dim")


def _heading(text: str) -> Rule:
    return Rule(Text(text, style="bold"), align="left", style="dim")


def _claim(claim: claims.Claim) -> Padding:
    glyph, colour = _TONES[claim.tone]
    table = Table.grid(padding=(0, 1))
    table.add_row(Text(glyph, style=colour), Text(safe(claim.text)))
    return Padding(table, (0, 0, 0, 1))


def _thresholds(run: Run) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", padding=(0, 1))
    table.add_column("", no_wrap=True)
    table.add_column("threshold", overflow="fold")
    for name in ("measured", "bound", "95% interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in run.thresholds:
        word, mood = OUTCOMES[each.outcome]
        table.add_row(
            Text(GLYPHS[mood], style=_COLOURS[mood]), Text(safe(each.id)), measured(each), each.bound, spread(each)
        )
        if each.outcome != "pass":
            what = f"{each.metric} of {each.scenario}" + (f" over {each.vs}" if each.vs else "")
            table.add_row("", Text(safe(f"{word}: {what}, {each.detail}"), style="dim"))
    return table


def _validity(run: Run) -> Table:
    table = Table.grid(padding=(0, 1))
    for each in run.checks:
        mood: Mood = "good" if each.passed else "bad"
        where = f" (blocks {', '.join(str(k) for k in each.blocks)})" if each.blocks else ""
        table.add_row(
            Text(f" {GLYPHS[mood]}", style=_COLOURS[mood]),
            Text(safe(each.id)),
            Text(safe(each.detail + where), style="dim"),
        )
    return table
