"""A whole run: every block in its order, the checks, and ``run.json``. What is there when Ctrl-C comes is kept."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from bench import block, folders, machine, validity
from bench.interrupts import Attended
from bench.plan import Cell, cells, seconds_left
from bench.result import SCHEMA, Check, Plan, Run, encode
from bench.scenarios import find
from bench.validity import Evidence
from jobctl.errors import JobctlError

RUN_FILE: Final = "run.json"
RAW: Final = "blocks"
"""Below the output folder: what each block's processes wrote."""


class Ended(NamedTuple):
    """A run, and whether it was Ctrl-C that ended it, or something that failed."""

    run: Run
    interrupted: bool
    failure: str | None = None
    """What broke it off."""


class Watcher(Protocol):
    """Is told how a run goes."""

    def begins(self, cell: Cell, done: int, total: int, left: float) -> None:
        """A block begins; ``left``: seconds that the run still takes, about."""

    def ended(self, found: Evidence, done: int, total: int) -> None:
        """It is over."""


def run(
    plan: Plan, out: Path, watcher: Watcher, *, command: Sequence[str] = (), play: Callable[..., Evidence] = block.run,
    signals: Attended | None = None,
) -> Ended:  # fmt: skip
    """Run a plan; ``run.json`` and the raw observations are in ``out``.

    Interrupted (Ctrl-C, SIGTERM), or when a block cannot be run, it returns what has been measured, with ``complete``
    False, and leaves no process.

    Args:
        plan: What to do.
        out: A folder, made if it is not there.
        watcher: Is told how it goes.
        command: That repeats it.
        play: Runs one block.
        signals: Entered by a caller who has more to do that is not to be interrupted.
    """
    with Attended() if signals is None else nullcontext(signals) as attended:
        return _run(plan, out, watcher, command, play, attended)


def _run(
    plan: Plan, out: Path, watcher: Watcher, command: Sequence[str], play: Callable[..., Evidence], signals: Attended
) -> Ended:
    started, began = datetime.now(UTC), time.monotonic()
    planned = cells(plan)
    server_cpus, load_cpus = machine.split_cores()
    out.mkdir(parents=True, exist_ok=True)
    folders.sweep()
    found: list[Evidence] = []
    failure: str | None = None
    interrupted = False
    try:
        with signals.measuring():
            for cell in planned:
                watcher.begins(cell, len(found), len(planned), seconds_left(
                    plan, len(found), time.monotonic() - began, len(planned)))  # fmt: skip
                keep = out / RAW / f"{cell.order:03d}-{cell.scenario.name}"
                found.append(play(cell, keep, server_cpus, load_cpus))
                watcher.ended(found[-1], len(found), len(planned))
    except KeyboardInterrupt:
        interrupted = True
    except JobctlError as error:
        failure = str(error)
    except OSError as error:
        failure = f"a block could not be run: {error.strerror or error}"
    done = Run(
        schema=SCHEMA,
        started_at=started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        seconds=time.monotonic() - began,
        complete=len(found) == len(planned),
        command=tuple(command),
        plan=msgspec.structs.replace(plan, scenarios=tuple(find(name).name for name in plan.scenarios)),
        environment=machine.environment(server_cpus, load_cpus),
        blocks=tuple(each.block for each in found),
        checks=_checks(found, failure),
    )
    write(done, out)
    return Ended(done, interrupted, failure)


def _checks(found: Sequence[Evidence], failure: str | None) -> tuple[Check, ...]:
    """Of all blocks. Where the run broke off, why it did comes first: all else follows from that."""
    if failure is not None:
        return Check("processes", False, failure), *validity.checks(found)
    return *validity.checks(found), Check("processes", True, f"the processes of {len(found)} blocks did their part")


def write(done: Run, out: Path) -> Path:
    """Write ``run.json``; where it is."""
    path = out / RUN_FILE
    path.write_bytes(encode(done))
    return path
