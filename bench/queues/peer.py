"""What all peers of the queue benchmark do: enqueue one by one, have their worker run all of it, and be probed idle.

A handler writes its number and the time into one file, by which everybody is counted alike. What they promise differs;
``contestants`` says how.
"""

import functools
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import psutil

from bench.conversation import say
from bench.percentile import percentile

MARKS: Final = "JOBCTL_BENCH_MARKS"
URL: Final = "JOBCTL_BENCH_URL"
PROBES: Final = 60
PROBE_GAP_S: Final = 0.02
SETTLE_S: Final = 1.0
"""After the last job, before the worker counts as idle."""
PATIENCE_S: Final = 90.0
LOOK_EVERY_S: Final = 0.003
BATCH: Final = 500
_RECORD: Final = struct.Struct("<qq")


class PeerOrder(msgspec.Struct, frozen=True):
    """What a peer is to do. ``url``: of the service that it needs, which is wiped."""

    folder: str
    jobs: int
    url: str = ""


class Measured(msgspec.Struct, frozen=True):
    """What came of it. Rates per second; ``p50`` and ``p99`` in ms; ``rss``: bytes of all of its worker's processes."""

    single: float
    batch: float
    """0 where it has no call for many."""
    rate: float
    """From the first start to the last."""
    p50: float
    p99: float
    rss: int


@functools.cache
def _file() -> int:
    return os.open(os.environ[MARKS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def mark(n: int) -> None:
    """What a handler does."""
    os.write(_file(), _RECORD.pack(n, time.monotonic_ns()))


def order() -> PeerOrder:
    """What this process was started with; the worker finds the same in its environment."""
    found = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=PeerOrder)
    os.environ[MARKS] = str(Path(found.folder) / "marks")
    os.environ[URL] = found.url
    return found


def script(name: str) -> str:
    """A command that its package has installed beside Python."""
    return str(Path(sys.executable).with_name(name))


def compete(
    task: PeerOrder,
    worker: Sequence[str],
    single: Callable[[Sequence[int]], object],
    many: Callable[[Sequence[int]], object] | None = None,
    *,
    drained: Callable[[], bool] = lambda: True,
) -> None:
    """Do all of it, and say what it took."""
    marks = Path(os.environ[MARKS])
    marks.touch(0o600)
    alone = task.jobs if many is None else task.jobs // 4
    single_s = _timed(lambda: single(range(alone)))
    many_s = 0.0
    if many is not None:
        many_s = _timed(lambda: [many(range(n, min(n + BATCH, task.jobs))) for n in range(alone, task.jobs, BATCH)])
    with (Path(task.folder) / "worker.log").open("wb") as log:
        process = subprocess.Popen(worker, stdout=log, stderr=log, stdin=subprocess.DEVNULL)  # noqa: S603
    try:
        _until(process, marks, task.jobs, drained)
        times = sorted(at for _, at in _read(marks))
        latencies = sorted(_probe(process, marks, task.jobs, single))
        rss = sum(each.memory_info().rss for each in _tree(process.pid))
    finally:
        for each in _tree(process.pid):
            each.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
    say(
        Measured(
            single=alone / single_s,
            batch=(task.jobs - alone) / many_s if many is not None else 0.0,
            rate=(len(times) - 1) / (times[-1] - times[0]) * 1e9,
            p50=percentile(latencies, 0.5),
            p99=percentile(latencies, 0.99),
            rss=rss,
        )
    )


def _probe(
    process: subprocess.Popen[bytes], marks: Path, first: int, single: Callable[[Sequence[int]], object]
) -> list[float]:
    """Ms from just before the enqueue call to the handler, of an idle worker."""
    time.sleep(SETTLE_S)
    sent = {}
    for n in range(first, first + PROBES):
        time.sleep(PROBE_GAP_S)
        sent[n] = time.monotonic_ns()
        single((n,))
    _until(process, marks, first + PROBES, lambda: True)
    return [(at - sent[n]) / 1e6 for n, at in _read(marks) if n in sent]


def _until(process: subprocess.Popen[bytes], marks: Path, jobs: int, drained: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while marks.stat().st_size < jobs * _RECORD.size or not drained():
        if process.poll() is not None:
            raise SystemExit("its worker has ended")
        if time.monotonic() > until:
            raise SystemExit(f"its worker did not run {jobs} jobs within {PATIENCE_S:.0f} s")
        time.sleep(LOOK_EVERY_S)


def _read(marks: Path) -> list[tuple[int, int]]:
    return list(_RECORD.iter_unpack(marks.read_bytes()))


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return []
    return [root, *root.children(recursive=True)]


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
