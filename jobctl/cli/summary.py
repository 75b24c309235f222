"""``enqueue --wait --summary FILE``: what became of the jobs, as Markdown, for the page that a CI run leaves behind."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jobctl.cli import lines
from jobctl.cli.output import GLYPHS, duration, safe, shorten
from jobctl.errors import ConfigError
from jobctl.model import Job

MAX_ROWS: Final = 100
"""Jobs that get a row, those that went wrong first. GitHub keeps 1 MiB of a step's summary."""
MAX_TEXT: Final = 300
_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|~@:$])")
_ORDER: Final = ("failed", "cancelled", "running", "retrying", "pending", "deleted", "completed")


def check_writable(path: Path) -> None:
    """See that ``path`` can be added to, before anything is enqueued.

    Raises:
        ConfigError: it cannot.
    """
    try:
        with path.open("a"):
            pass
    except OSError as error:
        raise ConfigError(f"cannot write the summary {path}: {error.strerror}") from None


def append(path: Path, text: str) -> None:
    """Add ``text`` to the file: other steps may have written to it before.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write the summary {path}: {error.strerror}") from None


def chosen(statuses: Mapping[str, str]) -> list[str]:
    """Ids of the jobs that get a row, of all in ``statuses``: what went wrong first, else in their order."""
    ranked = sorted(statuses, key=lambda job_id: _ORDER.index(statuses[job_id]))
    return ranked[:MAX_ROWS]


def markdown(statuses: Mapping[str, str], jobs: Mapping[str, Job]) -> str:
    """A heading with the counts, and a table.

    Args:
        statuses: Of every job that was waited for, by id; ``deleted`` for one that is gone.
        jobs: As much as is known of those that get a row.
    """
    counts = Counter(statuses.values())
    text = [f"### jobctl: {_list(counts) or 'no jobs'}", ""]
    rows = chosen(statuses)
    if rows:
        text += ["| | job | name | status | runs | took | error |", "|---|---|---|---|---|---|---|"]
        text += [_row(job_id, statuses[job_id], jobs.get(job_id)) for job_id in rows]
    if len(statuses) > len(rows):
        left = counts - Counter(statuses[job_id] for job_id in rows)
        text += ["", f"and {_list(left)} more"]
    return "\n".join([*text, "", ""])


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[status]:,} {status}" for status in reversed(_ORDER) if counts[status])


def _row(job_id: str, status: str, job: Job | None) -> str:
    glyph = GLYPHS.get(status, ("-", ""))[0]
    if job is None:
        return f"| {glyph} | `{job_id}` | | {status} | | | |"
    seconds = lines.run_seconds(job)
    took = duration(seconds) if seconds is not None else ""
    cells = (glyph, f"`{job_id}`", _text(job.name), status, f"{job.attempts}/{job.max_attempts}", took, _error(job))
    return f"| {' | '.join(cells)} |"


def _error(job: Job) -> str:
    return _text(job.error.strip().partition("\n")[0]) if job.error else ""


def _text(text: str) -> str:
    """Text from outside, as text: no markup, no HTML, no mention of anybody, on one line."""
    shown = _MARKUP.sub(r"\\\1", shorten(safe(text), MAX_TEXT))
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
