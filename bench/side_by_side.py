"""Several things measured beside each other in one run: turns, spreads, ratios, what was asked for, and how to show it.

A machine that others use drifts within seconds. So contestants take turns (A B A B ...), a ratio is of two values of
the same round, and what is said of many rounds is their median, with the lowest and the highest beside it. CPU time is
of the whole process, read from outside on the clock that the kernel keeps for it (ns), so that it is the same for
everybody, in whatever language.

A figure is measured; an ``Asked`` says what it should be, and ``judge`` what came of that. No exit code follows from
it: on another machine, or a busy one, the same code gives other figures.
"""

import datetime as dt
import os
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.result import Environment, Record

SCHEMA: Final = 1
"""Of the JSON object; rises when a reader of the former one would misread."""
ROUNDS: Final = 5
"""Fewer have no spread worth the name."""
WIDTH: Final = 140
"""Columns of a table that goes into a file."""
BUSY: Final = 1.0
"""Load average above which somebody else is at work here."""
OTHERS: Final = 0.5
"""Cores that others may take meanwhile. Some of ours is among it: of a process that nobody has waited for."""

T = TypeVar("T")


# --- turns -------------------------------------------------------------------------------------------------------


def take_turns(
    rounds: int,
    contestants: Mapping[str, Callable[[], T]],
    *,
    told: Callable[[str], None] = lambda _: None,
    late: Callable[[], bool] = lambda: False,
) -> dict[str, list[T]]:
    """Call each once a round, in order, and keep what each gave.

    Args:
        rounds: How many, at most.
        contestants: By name.
        told: Hears whose turn it is.
        late: Whether no further round may begin; the first always does.
    """
    found: dict[str, list[T]] = {name: [] for name in contestants}
    for n in range(rounds):
        if n and late():
            break
        for name, measure in contestants.items():
            told(f"round {n + 1} of {rounds}: {name}")
            found[name].append(measure())
    return found


# --- figures -----------------------------------------------------------------------------------------------------


class Spread(Record, frozen=True):
    """What the rounds gave, in their order, and the three of them that one looks at."""

    median: float
    low: float
    high: float
    values: tuple[float, ...]


def spread(values: Iterable[float]) -> Spread:
    """Of at least one value."""
    found = tuple(values)
    return Spread(statistics.median(found), min(found), max(found), found)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Round by round, ours divided by theirs: what drifted weighed on both. ``theirs`` are above 0."""
    return spread(a / b for a, b in zip(ours, theirs, strict=True))


class Figure(Record, frozen=True):
    """One quantity of one contestant. ``quantity`` and ``unit`` are for people; rows of one table share them."""

    quantity: str
    contestant: str
    unit: str
    value: Spread
    versus: Spread | None = None
    """The ratio to whatever the table compares with."""
    note: str = ""


class Asked(Record, frozen=True):
    """What a figure should be: at most ``limit``, or at least."""

    what: str
    limit: float
    unit: str
    at_most: bool = True


class Judged(Record, frozen=True):
    """What came of it. ``value`` is None where it was not measured; ``why`` says why."""

    what: str
    limit: float
    unit: str
    at_most: bool
    value: float | None
    low: float | None
    high: float | None
    met: bool | None
    missed_by: float
    """The share of the limit; 0 where it was met, or not measured."""
    why: str = ""


def judge(asked: Asked, value: Spread | None, why: str = "") -> Judged:
    """Whether the median is within the limit, and by how much it is not."""
    if value is None:
        return Judged(asked.what, asked.limit, asked.unit, asked.at_most, None, None, None, None, 0.0, why)
    over = value.median - asked.limit if asked.at_most else asked.limit - value.median
    return Judged(
        asked.what, asked.limit, asked.unit, asked.at_most, value.median, value.low, value.high,
        met=over <= 0, missed_by=max(0.0, over / asked.limit), why=why,
    )  # fmt: skip


class Absent(Record, frozen=True):
    """A contestant that could not be measured, and why: never dropped without a word."""

    name: str
    why: str


class Report(Record, frozen=True):
    """Everything that one run of a benchmark gave; the one JSON object."""

    schema: int
    bench: str
    at: str
    """When it began, RFC 3339."""
    seconds: float
    command: str
    environment: Environment
    settings: dict[str, int | float | str]
    figures: tuple[Figure, ...]
    judged: tuple[Judged, ...]
    absent: tuple[Absent, ...] = ()
    notes: tuple[str, ...] = ()


class Run:
    """Collects what a benchmark finds. Made at its beginning.

    Args:
        bench: Its name, as in ``python -m bench.NAME``.
        settings: What was asked for.
        packages: Whose versions bear on the figures, besides the project's own.
    """

    def __init__(
        self, bench: str, settings: Mapping[str, int | float | str], *, packages: Sequence[str] = ()
    ) -> None:
        self.server_cpus, self.load_cpus = machine.split_cores()
        self.figures: list[Figure] = []
        self.judged: list[Judged] = []
        self.absent: list[Absent] = []
        self.notes: list[str] = []
        self.versions: dict[str, str] = {}
        self._bench = bench
        self.settings = dict(settings)
        self._packages = packages
        self._at = dt.datetime.now(dt.UTC)
        self._began = time.monotonic()
        self._others_before = others_s()
        if not self.server_cpus:
            self.notes.append("server and load share a core: figures are of this machine alone")
        if (load := os.getloadavg()[0]) > BUSY:
            self.notes.append(f"the machine was busy when this began (load average {load:.1f}): measure again")

    def add(self, quantity: str, unit: str, found: Mapping[str, Sequence[float]], *, versus: str | None = None) -> None:
        """Take one quantity of several contestants, with the ratio to ``versus`` where that is among them."""
        base = found.get(versus) if versus is not None else None
        for name, values in found.items():
            compared = ratio(values, base) if base is not None and name != versus else None
            self.figures.append(Figure(quantity, name, unit, spread(values), compared))

    def ask(self, asked: Asked, value: Spread | None, why: str = "not measured") -> None:
        """Judge a figure."""
        self.judged.append(judge(asked, value, "" if value is not None else why))

    def late(self, minutes: float) -> bool:
        """Whether so much time has passed that another round would not fit."""
        return time.monotonic() - self._began > minutes * 60

    def report(self) -> Report:
        """All of it; by then the processes that were measured have ended."""
        seconds = time.monotonic() - self._began
        if (cores := (others_s() - self._others_before) / max(seconds, 1.0)) > OTHERS:  # it is kept in ticks of 10 ms
            self.notes.append(f"others took {cores:.1f} cores while this ran: measure again")
        environment = machine.environment(self.server_cpus, self.load_cpus)
        versions = {**environment.versions, **self.versions}
        for name in self._packages:
            if (found := installed(name)) is not None:
                versions[name] = found
        return Report(
            schema=SCHEMA,
            bench=self._bench,
            at=self._at.isoformat(timespec="seconds"),
            seconds=round(seconds, 1),
            command=shlex.join(["python", "-m", f"bench.{self._bench}", *sys.argv[1:]]),
            environment=msgspec.structs.replace(environment, versions=versions),
            settings=self.settings,
            figures=tuple(self.figures),
            judged=tuple(self.judged),
            absent=tuple(self.absent),
            notes=tuple(self.notes),
        )


# --- processes ---------------------------------------------------------------------------------------------------


def installed(package: str) -> str | None:
    """Its version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cpu_ns(pid: int) -> int:
    """CPU time that a process has taken so far, all its threads together.

    On Linux from the clock of that process, exact to the ns (clock_getcpuclockid(3); the number is made as glibc makes
    it); elsewhere as exact as psutil has it.
    """
    if sys.platform == "linux":
        return time.clock_gettime_ns((~pid << 3) | 2)
    times = psutil.Process(pid).cpu_times()
    return round((times.user + times.system) * 1e9)


def others_s() -> float:
    """Seconds of CPU that all have taken so far but this process and those of its own that have ended.

    What other virtual machines took of ours is in it. Interrupts are not: they are of those who send.
    """
    whole = psutil.cpu_times()
    took: float = whole.user + whole.nice + whole.system + getattr(whole, "steal", 0.0)
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        ours = resource.getrusage(who)
        took -= ours.ru_utime + ours.ru_stime
    return took


def resident(pid: int) -> int:
    """Bytes of memory that a process has resident."""
    return int(psutil.Process(pid).memory_info().rss)


def pin(cores: Sequence[int]) -> None:
    """Keep this process on ``cores``, where the system can."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


# --- to be read --------------------------------------------------------------------------------------------------


def show(report: Report, *, as_json: bool) -> None:
    """Print one JSON object, or tables for a person."""
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    for quantity, rows in _tables(report):
        console.print(_figures(quantity, rows))
    if report.judged:
        console.print(_judged(report.judged))
    for missing in report.absent:
        console.print(f"not measured: {missing.name}: {missing.why}", markup=False)
    for note in report.notes:
        console.print(f"note: {note}", markup=False)
    console.print(f"{report.command} ({report.seconds:.0f} s, {report.at}; {_machine(report)})", markup=False)


def _tables(report: Report) -> Iterable[tuple[str, list[Figure]]]:
    """Figures by quantity, in the order in which these came."""
    for quantity in dict.fromkeys(each.quantity for each in report.figures):
        yield quantity, [each for each in report.figures if each.quantity == quantity]


def _figures(quantity: str, rows: Sequence[Figure]) -> Table:
    table = Table(title=f"{quantity} ({rows[0].unit})", title_justify="left", title_style="bold")
    table.add_column("")
    for heading in ("median", "low", "high", "ratio", "low", "high"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for row in rows:
        values = [number(each) for each in (row.value.median, row.value.low, row.value.high)]
        ratios = ["", "", ""]
        if row.versus is not None:
            ratios = [f"{each:.2f}" for each in (row.versus.median, row.versus.low, row.versus.high)]
        table.add_row(row.contestant, *values, *ratios, row.note)
    return table


def _judged(rows: Sequence[Judged]) -> Table:
    table = Table(title="asked for", title_justify="left", title_style="bold")
    for heading in ("", "limit", "median", "low", "high"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_column("")
    for row in rows:
        limit = f"{'<=' if row.at_most else '>='} {number(row.limit)} {row.unit}".rstrip()
        values = ["" if each is None else number(each) for each in (row.value, row.low, row.high)]
        table.add_row(row.what, limit, *values, verdict(row))
    return table


def verdict(row: Judged) -> str:
    """``met``, or by how much it was not."""
    if row.met is None:
        return row.why
    return "met" if row.met else f"missed by {row.missed_by:.0%}"


def number(value: float) -> str:
    """With three digits that mean something."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.1 else f"{value:.3g}"


def markdown(report: Report) -> str:
    """What was asked for and what came of it, as a table for a README."""
    lines = ["| figure | asked for | measured | |", "|---|---|---|---|"]
    for each in report.judged:
        limit = f"{'<=' if each.at_most else '>='} {number(each.limit)} {each.unit}"
        span = "" if each.low is None or each.high is None else f" ({number(each.low)} to {number(each.high)})"
        measured = "" if each.value is None else f"{number(each.value)}{span}"
        lines.append(f"| {each.what} | {limit} | {measured} | {verdict(each)} |")
    for quantity, rows in _tables(report):
        lines += ["", f"{quantity} ({rows[0].unit}):", "", "| | median | low | high |", "|---|---|---|---|"]
        for row in rows:
            values = (number(each) for each in (row.value.median, row.value.low, row.value.high))
            lines.append(f"| {row.contestant} | {' | '.join(values)} |")
    lines += ["", *(f"Not measured: {each.name} ({each.why})." for each in report.absent)]
    return "\n".join([*lines, f"`{report.command}`, {report.at[:10]}, {report.seconds:.0f} s; {_machine(report)}."])


def _machine(report: Report) -> str:
    where = report.environment
    return f"{where.cpus} cores, {where.processor}, {where.python}, {where.platform}"


def main(paths: Sequence[str]) -> int:
    """``python -m bench.side_by_side REPORT.json ...``: reports that were kept, as Markdown."""
    for path in paths:
        print(markdown(msgspec.json.decode(Path(path).read_bytes(), type=Report)), end="\n\n")
    return 0


def progress(text: str) -> None:
    """Say on stderr what is being done; only on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
