"""How old an update is where it is read: written on one server, watched there and on another of the same database."""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bench.percentile import percentile
from bench.processes import READY_S, Process
from bench.queues.order import Done
from bench.queues.turns import Server, server

WARM: Final = 500
"""Updates before those that count: plans are kept, tasks and buffers are there."""
SLOTS: Final = 10


class Crossing(NamedTuple):
    """From just before the call that enqueues to the update's JSON in the watcher's hands; ms."""

    here_p50: float
    here_p99: float
    elsewhere_p50: float
    elsewhere_p99: float
    took_s: float
    """For all, to see whether the pace was kept."""


def crossing(url: str, *, per_second: int, events: int) -> Crossing:
    """So many jobs are enqueued on one server; none runs: each is one event."""
    with ExitStack() as stack:
        one = stack.enter_context(server(SLOTS, url))
        other = stack.enter_context(server(SLOTS, url))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobctl-crossing-")))
        (folder / "empty").mkdir()
        one.do("pause")
        here, elsewhere = (_listener(stack, folder, each, name, WARM + events) for each, name in
                           ((one, "here"), (other, "elsewhere")))  # fmt: skip
        one.do("pace", WARM, first=per_second)
        took = one.do("pace", events, first=per_second).seconds
        near, far = (sorted(_heard(each)[WARM:]) for each in (here, elsewhere))
    return Crossing(
        here_p50=percentile(near, 0.5), here_p99=percentile(near, 0.99),
        elsewhere_p50=percentile(far, 0.5), elsewhere_p99=percentile(far, 0.99), took_s=took,
    )  # fmt: skip


def _listener(stack: ExitStack, folder: Path, target: Server, name: str, updates: int) -> Process:
    argv = [sys.executable, "-m", "bench.queues.listener", str(target.port), str(updates)]
    process = Process(f"listener {name}", argv, folder, folder / "empty")
    stack.callback(process.end)
    process.say(target.token.encode())
    process.hear(READY_S)
    return process


def _heard(process: Process) -> tuple[float, ...]:
    return msgspec.json.decode(process.hear(READY_S), type=Done).values
