"""``jobctl bench report|compare|check``: what is done with a run that is there. They need no load, and no server."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from jobctl.cli.output import print_json, safe, say
from jobctl.cli.quick import QuickCommand
from jobctl.errors import ConfigError, InvalidInput

if TYPE_CHECKING:
    from rich.table import Table

    from bench.compared import Change
    from bench.result import Run

EXTRA: Final = "pip install 'jobctl[bench]'"

RunFile = Annotated[Path, typer.Argument(metavar="RUN.json", help="The run.json of a `jobctl bench run`.")]
Thresholds = Annotated[
    Path | None, typer.Option("--thresholds", metavar="F", help="TOML thresholds; else what jobctl claims of itself.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Write run.json, report.html, report.md, junit.xml there."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 7 where the run does not tell.")]


def attach(app: typer.Typer) -> None:
    """Put the commands into the group ``bench``."""
    for command in (report, compare, check):
        app.command(command.__name__, cls=QuickCommand)(command)


def report(
    run_file: RunFile,
    out: Out = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole run, with all that follows from it.")] = False,
) -> int:
    """Show a run: the verdict, what was found, where polling is cheaper, and whether it may be believed."""
    from bench import reading, result

    run = reading.read(run_file)
    if not run.estimates:  # its blocks alone
        run = reading.judged(run)
    if out is not None:
        for path in write(run, out):
            say(f"wrote {path}")
    if json:
        print_json(result.encode(run).rstrip(b"\n"))
        return 0
    show(run)
    return 0


def check(
    run_file: RunFile,
    thresholds: Thresholds = None,
    strict: Strict = False,
    out: Out = None,
    json: Annotated[bool, typer.Option("--json", help="Print {conclusion, exitCode, thresholds, checks}.")] = False,
) -> int:
    """Judge a run by thresholds. Exit code 0, 1 (one failed), 6 (the run is invalid) or, with --strict, 7."""
    from bench import reading, verdict
    from bench.report import terminal

    run = reading.read(run_file)
    asked = reading.load_thresholds(thresholds, run) if thresholds is not None else None
    run = reading.judged(run, asked)
    code = verdict.exit_code(run, strict=strict)
    if out is not None:
        write(run, out)
    if json:
        _print(conclusion=run.conclusion, exitCode=code, thresholds=run.thresholds, checks=run.checks)
        return code
    terminal.console(interactive=sys.stdout.isatty()).print(terminal.short(run))
    return code


def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="A run.json.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="Another one, later.")],
    json: Annotated[bool, typer.Option("--json", help="Print {caveats, changes}.")] = False,
) -> int:
    """Show what changed from one run to another, and what of it is more than noise. Exit code 0."""
    from bench import compared, reading

    runs = [reading.judged(reading.read(path)) for path in (before, after)]
    caveats, changes = list(compared.caveats(*runs)), compared.changes(*runs)
    if not changes:
        raise InvalidInput("the two runs have no figure in common")
    if json:
        _print(caveats=caveats, changes=[_plain(each) for each in changes])
        return 0
    from bench.report import terminal

    for each in caveats:
        say(each)
    terminal.console(interactive=sys.stdout.isatty()).print(_changes(changes))
    return 0


def show(run: "Run") -> None:
    """The report of a run on stdout."""
    from bench.report import terminal

    terminal.console(interactive=sys.stdout.isatty()).print(terminal.page(run))


def write(run: "Run", folder: Path) -> list[Path]:
    """The files of a report. Raises ``ConfigError`` where the folder or the extra ``bench`` is not there."""
    try:
        from bench.report import write as files
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("hdrh", "jinja2", "junitparser", "markupsafe"):
            raise
        raise ConfigError(f"reports need {error.name}: {EXTRA}") from None
    try:
        return files.write(run, folder)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {folder}: {error.strerror or error}; choose another folder with --out"
        ) from None
    except ValueError as error:
        raise InvalidInput(f"the run cannot be drawn: {error}") from None


def _print(**told: Any) -> None:
    import msgspec

    print_json(msgspec.json.encode(told))


def _plain(change: "Change") -> dict[str, Any]:
    ratio = change.ratio
    return {
        "scenario": change.scenario, "metric": change.metric, "before": change.before.mean, "after": change.after.mean,
        "ratio": ratio.value, "low": ratio.low, "high": ratio.high, "resolvable": ratio.resolvable,
        "better": change.better, "note": ratio.note or None,
    }  # fmt: skip


def _changes(changes: "list[Change]") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from bench.report.figures import amount, number, ratios

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("figure", overflow="fold")
    for name in ("first", "second", "ratio", "95% interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    words = {True: ("better", "green"), False: ("worse", "red"), None: ("", "default")}
    scenario = ""
    for each in (each for each in changes if any((*each.before.values, *each.after.values))):
        if each.scenario != scenario:
            scenario = each.scenario
            table.add_row(Text(safe(scenario), style="bold"))
        word, colour = words[each.better]
        ratio = each.ratio
        varies = ratios(ratio.low, ratio.high) if ratio.low != ratio.high else ""
        table.add_row(
            f"  {each.metric}", amount(each.before.mean, each.metric), amount(each.after.mean, each.metric),
            "" if ratio.value is None else number(ratio.value), varies,
            Text(word, style=colour),
        )  # fmt: skip
    return table
