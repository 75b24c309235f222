"""A whole run: every block in its order, the checks, and ``run.json``. What is there when Ctrl-C comes is kept."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

from bench import block, machine, validity
from bench.plan import Cell, cells, seconds_left
from bench.processes import Failed
from bench.result import SCHEMA, Check, Plan, Run, encode
from bench.scenarios import find
from bench.validity import Evidence

RUN_FILE: Final = "run.json"
RAW: Final = "blocks"
"""Below the output folder: what each block's processes wrote."""


class Ended(NamedTuple):
    """A run, and whether it was Ctrl-C that ended it."""

    run: Run
    interrupted: bool


class Watcher(Protocol):
    """Is told how a run goes."""

    def begins(self, cell: Cell, done: int, total: int, left: float) -> None:
        """A block begins; ``left``: seconds that the run still takes, about."""

    def ended(self, found: Evidence, done: int, total: int) -> None:
        """It is over."""


def run(
    plan: Plan, out: Path, watcher: Watcher, *, command: Sequence[str] = (), play: Callable[..., Evidence] = block.run
) -> Ended:
    """Run a plan; ``run.json`` and the raw observations are in ``out``.

    Interrupted (Ctrl-C, SIGTERM), or when a process of a block fails, it returns what has been measured, with
    ``complete`` False, and leaves no process.

    Args:
        plan: What to do.
        out: A folder, made if it is not there.
        watcher: Is told how it goes.
        command: That repeats it.
        play: Runs one block.
    """
    started, began = datetime.now(UTC), time.monotonic()
    planned = cells(plan)
    server_cpus, load_cpus = machine.split_cores()
    out.mkdir(parents=True, exist_ok=True)
    found: list[Evidence] = []
    failure: Failed | None = None
    interrupted = False
    try:
        with _terminated():
            for cell in planned:
                watcher.begins(cell, len(found), len(planned), seconds_left(
                    plan, len(found), time.monotonic() - began, len(planned)))  # fmt: skip
                keep = out / RAW / f"{cell.order:03d}-{cell.scenario.name}"
                found.append(play(cell, keep, server_cpus, load_cpus))
                watcher.ended(found[-1], len(found), len(planned))
    except KeyboardInterrupt:
        interrupted = True
    except Failed as error:
        failure = error
    done = Run(
        schema=SCHEMA,
        started_at=started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        seconds=time.monotonic() - began,
        complete=len(found) == len(planned),
        command=tuple(command),
        plan=msgspec.structs.replace(plan, scenarios=tuple(find(name).name for name in plan.scenarios)),
        environment=machine.environment(server_cpus, load_cpus),
        blocks=tuple(each.block for each in found),
        checks=(*validity.checks(found), _processes(failure, len(found))),
    )
    write(done, out)
    return Ended(done, interrupted)


def _processes(failure: Failed | None, blocks: int) -> Check:
    told = f"the processes of {blocks} blocks did their part" if failure is None else str(failure)
    return Check("processes", failure is None, told)


def write(done: Run, out: Path) -> Path:
    """Write ``run.json``; where it is."""
    path = out / RUN_FILE
    path.write_bytes(encode(done))
    return path


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM and a closed terminal end a run as Ctrl-C does: no process outlives it, and what was measured stays."""

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM, signal.SIGHUP]
    before = [signal.signal(number, leave) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
