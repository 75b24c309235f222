"""The live table: a ``View`` as a rich renderable. No I/O but the console's own."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jobctl.cli import lines
from jobctl.cli.output import GLYPHS, duration, safe
from jobctl.cli.view import View
from jobctl.model import Job
from jobctl.states import Status

BAR_CHARS: Final = 10
CHROME_LINES: Final = 4
"""Title, header, footer, and the line that the cursor rests on."""
COLUMNS: Final = (
    ("ID", 9), ("NAME", 16), ("QUEUE", 10), ("STATUS", 11), ("PROGRESS", 15), ("TRY", 5), ("TIME", 7), ("MESSAGE", 9),
)  # fmt: skip

NARROW: Final = (
    (72, ()),
    (56, ("QUEUE", "TRY")),
    (48, ("QUEUE", "TRY", "TIME", "MESSAGE")),
    (40, ("QUEUE", "TRY", "TIME", "MESSAGE", "ID")),
)
"""From how many characters on which columns are left out; below all of them only NAME and STATUS are shown."""


class Screen:
    """Draws a view on the terminal until it is closed.

    Args:
        view: What to draw.
        title: Gives the first line (which server, and the state of the connection), for so many characters.
        lines: At most so many; else the whole height.
    """

    def __init__(
        self, view: View, title: Callable[[int], Text], *, lines: int | None = None, console: Console | None = None
    ) -> None:
        self._lines = lines
        self._view = view
        self._title = title
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop", redirect_stderr=False)
        self._drawn: tuple[int, str, int, int] | None = None

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.draw()
        self._live.stop()

    def draw(self) -> None:
        """Draw, if anything has changed since (or a second has passed)."""
        size = self._console.size
        title = self._title(size.width)
        state = (self._view.updates, title.plain, size.width * 1000 + size.height, int(datetime.now(UTC).timestamp()))
        if state != self._drawn:
            self._drawn = state
            height = min(size.height, self._lines or size.height)
            self._live.update(render(self._view, title, height, datetime.now(UTC), size.width), refresh=True)


def render(view: View, title: Text, height: int, now: datetime, width: int = 80) -> Group:
    """The whole screen, at most ``height`` lines of ``width`` characters."""
    room = max(1, height - CHROME_LINES)
    shown = view.rows(room)
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim", padding=(0, 1))
    columns = _columns(width)
    for name, usual in columns.items():
        if name == "MESSAGE":
            table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1)
        else:
            least = usual if name in ("STATUS", "PROGRESS") else min(usual, 5)
            table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=least, max_width=max(usual, 9) + 8)
    for job in shown:
        cells = _cells(job, now)
        table.add_row(*(cells[name] for name in columns))
    return Group(title, table, _footer(view, len(shown)))


def _columns(width: int) -> dict[str, int]:
    """The columns for which there is room, and how wide they usually are."""
    for least, left_out in NARROW:
        if width >= least:
            return {name: usual for name, usual in COLUMNS if name not in left_out}
    return {name: usual for name, usual in COLUMNS if name in ("NAME", "STATUS")}


def title(address: str, live: bool, words: str, width: int = 80) -> Text:
    """The first line: which server, and how the connection is; only that where there is no room for both."""
    mark = ("● ", "green") if live else ("○ ", "yellow")
    if len(address) + len(words) + 11 > width:
        return Text.assemble(mark, words, no_wrap=True, overflow="ellipsis")
    return Text.assemble(("jobctl ", "bold"), (address + "  ", "dim"), mark, words, no_wrap=True, overflow="ellipsis")


def bar(value: float, width: int = BAR_CHARS) -> Text:
    """Progress as a bar and a figure."""
    value = min(1.0, max(0.0, value))
    full = round(value * width)
    return Text.assemble(("━" * full, "cyan"), ("─" * (width - full), "dim"), f" {value:>4.0%}")


def _cells(job: Job, now: datetime) -> dict[str, Text]:
    glyph, style = GLYPHS[job.status]
    status = "cancelling" if job.cancel_requested and job.status is Status.RUNNING else job.status.value
    progress = bar(job.progress.value) if job.progress is not None and job.status is Status.RUNNING else Text("")
    return {
        "ID": Text("…" + safe(job.id[-8:])),
        "NAME": Text(safe(job.name)),
        "QUEUE": Text(safe(job.queue), style="dim"),
        "STATUS": Text(f"{glyph} {status}", style=style),
        "PROGRESS": progress,
        "TRY": Text(lines.attempt(job), style="dim" if lines.attempt(job).startswith(("0/", "1/")) else "yellow"),
        "TIME": Text(_time(job, now)),
        "MESSAGE": Text(lines.message(job), style="dim" if job.status is Status.RUNNING else "red"),
    }


def _time(job: Job, now: datetime) -> str:
    if job.status in (Status.PENDING, Status.RETRYING):
        if job.scheduled_for is not None:
            wait = (lines.moment(job.scheduled_for) - now).total_seconds()
            return f"in {duration(wait)}" if wait > 0 else "due"
        return duration((now - lines.moment(job.created_at)).total_seconds())
    seconds = lines.run_seconds(job, now)
    return "" if seconds is None else duration(seconds)


def _footer(view: View, shown: int) -> Text:
    footer = Text(no_wrap=True, overflow="ellipsis")
    found = lines.counts(view.stats) if view.stats is not None else view.counts()
    for name, count in found.items():
        if count:
            footer.append(f"{GLYPHS[name][0]} {count:,} {name}", style=GLYPHS[name][1])
            footer.append("  ")
    if not footer.plain:
        footer.append("no jobs yet; Ctrl-C leaves", style="dim")
    hidden = len(view.jobs) - shown
    if hidden > 0:
        footer.append(f"({hidden:,} more not shown)", style="dim")
    return footer
