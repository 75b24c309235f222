"""How a run goes, for who waits: a bar with the time left on a terminal, a line a block elsewhere."""

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from bench.plan import Cell, describe, length
from bench.validity import Evidence


class Shown(AbstractContextManager["Shown"]):
    """A ``driver.Watcher`` on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(),
                TextColumn("about {task.fields[left]} left"), console=self._console, transient=True,
                refresh_per_second=2,  # it shares its core with the load generator
            )  # fmt: skip
        self._task = None if self._bar is None else self._bar.add_task("", total=None, left="?")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begins(self, cell: Cell, done: int, total: int, left: float) -> None:
        """A block begins."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=describe(cell), completed=done, total=total, left=length(left))

    def ended(self, found: Evidence, done: int, total: int) -> None:
        """It is over."""
        line = f"{done:>3}/{total} {describe(found.cell)}: {summary(found)}"
        if self._bar is not None:
            self._bar.console.print(Text(line))
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


def summary(found: Evidence) -> str:
    """A block in a line."""
    block = found.block
    parts = [f"{block.client.total} requests, {block.client.connections} connections"] if block.clients else []
    if block.server is not None:
        parts.append(f"{block.server.cpu_s:.2f} s CPU, {block.server.db_queries} reads")
    if block.staleness is not None:
        parts.append(f"stale p50 {block.staleness.p50 * 1000:.1f} ms")
    return ", ".join(parts) or "measured"
