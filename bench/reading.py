"""Reads a ``run.json`` from a file that may be anything. Each error is one line that says what is wrong with it."""

from pathlib import Path

import msgspec

from bench import thresholds, verdict
from bench.metrics import SCENARIOS, unknown
from bench.result import SCHEMA, Run, decode
from bench.thresholds import Threshold
from jobctl.errors import InvalidInput


class _Version(msgspec.Struct):
    schema: int


def read(path: Path) -> Run:
    """The run of a file.

    Raises:
        InvalidInput: it cannot be read, or is no run that this version knows.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from None
    try:
        version = msgspec.json.decode(raw, type=_Version).schema
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise InvalidInput(f"{path} is no run.json of `jobctl bench`") from None
    if version != SCHEMA:
        newer = "a newer jobctl wrote it" if version > SCHEMA else "it is of an older jobctl"
        raise InvalidInput(f"{path} is of schema {version}, this program reads {SCHEMA}: {newer}")
    try:
        run = decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is no run.json of `jobctl bench`: {error}") from None
    if run.plan.time_scale <= 0 or any(each.seconds <= 0 or each.clients < 0 for each in run.blocks):
        raise InvalidInput(f"{path} is no run.json of `jobctl bench`: times and clients are above 0")
    return run


def judged(run: Run, asked: tuple[Threshold, ...] | None = None) -> Run:
    """The run judged by ``asked``, else by the project's own claims.

    Raises:
        InvalidInput: it holds figures that no run can have.
    """
    own = thresholds.defaults(run.plan.scenarios, unknown(run.plan))
    try:
        return verdict.judge(run, own if asked is None else asked)
    except (ArithmeticError, ValueError) as error:
        raise InvalidInput(f"the run holds figures that cannot be: {error}") from None


def load_thresholds(path: Path, run: Run) -> tuple[Threshold, ...]:
    """The thresholds of a file, which may speak of scenarios of the user's own in ``run``. Raises ``ConfigError``."""
    return thresholds.load(path, tuple(dict.fromkeys((*SCENARIOS, *run.plan.scenarios))))
