"""What every command prints alike: exit codes, errors, and text that came from outside.

Standard library only: this is on the path of the fastest commands.
"""

import os
import re
import sys
from enum import IntEnum
from typing import Final, TextIO

from jobctl.cli.stdio import OutputFailed
from jobctl.errors import ApiError, JobctlError


class ExitCode(IntEnum):
    """What a command says to the shell."""

    DONE = 0
    FAILED = 1  # a job failed, or a threshold did
    USAGE = 2  # usage or configuration; also what the server refuses to do
    UNREACHABLE = 3  # cannot reach the server, or sign in
    TIMED_OUT = 4
    CANCELLED = 5  # a failure among several wins
    INVALID = 6  # a bench run that is not to be believed
    INCONCLUSIVE = 7  # a bench run that does not tell, and --strict
    INTERNAL = 70  # a defect of jobctl's own (EX_SOFTWARE of sysexits.h), so that it is not taken for a failed job
    OUTPUT = 74  # standard output takes nothing (EX_IOERR)
    INTERRUPTED = 130  # Ctrl-C; other signals likewise, 128 and their number


EXIT_OF: Final[dict[str, ExitCode]] = {
    "unauthorized": ExitCode.UNREACHABLE,
    "forbidden": ExitCode.UNREACHABLE,
    "rate_limited": ExitCode.UNREACHABLE,
    "store_unavailable": ExitCode.UNREACHABLE,
    "client": ExitCode.UNREACHABLE,
    "unreachable": ExitCode.UNREACHABLE,
    "sign_in_failed": ExitCode.UNREACHABLE,
    "wait_timeout": ExitCode.TIMED_OUT,
    "database_damaged": ExitCode.FAILED,  # as `db check` says it
}
"""By an error's code; what is not here is ``USAGE``: the command asked for something that cannot be."""

_OUTCOME: Final = {"completed": ExitCode.DONE, "failed": ExitCode.FAILED, "cancelled": ExitCode.CANCELLED}
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0 (the escape among them), DEL, C1
    "\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # bidi, separators, invisible
    "\ud800-\udfff\U000e0000-\U000e0fff]"  # lone surrogates, tag characters
)
_UNSAFE_IN_JSON: Final = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", ""))
_NOT_ASCII: Final = re.compile("[^\x00-\x7f]")

GLYPHS: Final = {
    "pending": ("·", "blue"),
    "running": ("▶", "cyan"),
    "retrying": ("↻", "yellow"),
    "completed": ("✔", "green"),
    "failed": ("✘", "red"),
    "cancelled": ("∅", "magenta"),
}
"""How a status looks: never by colour alone."""


def exit_of(error: JobctlError) -> ExitCode:
    """The exit code of an error."""
    if isinstance(error, ApiError):
        default = ExitCode.UNREACHABLE if error.status >= 500 or error.status in (401, 403, 429) else ExitCode.USAGE
        return EXIT_OF.get(error.problem_code, default)
    return EXIT_OF.get(error.code, ExitCode.USAGE)


def exit_of_jobs(statuses: "list[str]") -> ExitCode:
    """The exit code of jobs that ended so: a failure wins over a cancellation, and that over success."""
    codes = {_OUTCOME[status] for status in statuses if status in _OUTCOME}
    for code in (ExitCode.FAILED, ExitCode.CANCELLED):
        if code in codes:
            return code
    return ExitCode.DONE


def safe(text: str) -> str:
    r"""``text`` from outside; each control, escape, bidi or invisible character becomes ``\x1b`` or ``\u202e``."""
    return _UNSAFE.sub(_escaped, text)


def safe_json(text: str) -> str:
    """JSON text for a terminal: the same value, its invisible characters as JSON escapes."""
    return _UNSAFE_IN_JSON.sub(_json_escaped, text)


def emit(text: str, *, done: str = "") -> None:
    """Write ``text`` to stdout, at once.

    Args:
        text: Whole lines.
        done: What the command has done by now, in words: said where its result cannot be written.

    Raises:
        OutputFailed: it cannot.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OutputFailed as error:
        raise OutputFailed(error.reason, gone=error.gone, done=done) from None


def print_json(text: str | bytes, *, done: str = "") -> None:
    """One JSON value on a line of stdout, as it came; on a terminal with its invisible characters escaped.

    See ``emit`` for ``done``.
    """
    line = text.decode() if isinstance(text, bytes) else text
    if not (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf"):
        line = _NOT_ASCII.sub(_json_escaped, line)
    emit((safe_json(line) if sys.stdout.isatty() else line) + "\n", done=done)


def say(message: str) -> None:
    """One line to the person, on stderr."""
    sys.stderr.write(f"jobctl: {safe(message)}\n")
    sys.stderr.flush()


def hint(message: str) -> None:
    """A line that only a person at a terminal is meant to see."""
    if sys.stderr.isatty() and sys.stdout.isatty():
        say(message)


def drawable(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal on which a line can be written over."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def colour(stream: TextIO) -> bool:
    """Whether ``stream`` takes colours (https://no-color.org)."""
    return drawable(stream) and not os.environ.get("NO_COLOR")


def paint(text: str, status: str, stream: TextIO) -> str:
    """``text`` in the colour of a status, where ``stream`` takes colours."""
    codes = {"blue": 34, "cyan": 36, "yellow": 33, "green": 32, "red": 31, "magenta": 35}
    if status not in GLYPHS or not colour(stream):
        return text
    return f"\x1b[{codes[GLYPHS[status][1]]}m{text}\x1b[0m"


def shorten(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def duration(seconds: float) -> str:
    """Seconds for a person: ``0.4s``, ``12s``, ``3m05s``, ``2h10m``, ``4d03h``."""
    whole = int(seconds)
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s"
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return {10: "\\n", 9: "\\t", 13: "\\r"}.get(code) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


def _json_escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
