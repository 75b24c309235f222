"""What all peers of the queue benchmark do: enqueue one by one, have their worker run all of it, and be probed idle.

A handler writes its number and the time into one file, by which everybody is counted alike. What they promise differs;
``contestants`` says how.
"""

import contextlib
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

MARKS: Final = "BENCH_MARKS"
URL: Final = "BENCH_URL"
PROBES: Final = 60
PROBE_GAP_S: Final = 0.02
SETTLE_S: Final = 1.0
"""After the last job, before the worker counts as idle."""
PATIENCE_S: Final = 90.0
LOOK_EVERY_S: Final = 0.003
BATCH: Final = 500
ALONE: Final = 2000
"""At most so many are enqueued one by one where the rest can be enqueued at once."""
READY: Final = "ready-"
GO: Final = "go"
Processes = Sequence[subprocess.Popen[bytes]]
WARMING: Final = 0.2
"""The share of all runs that comes first and does not count: in it V8 reaches some 60% of its later pace."""
RECORD: Final = struct.Struct("<qq")
"""Of one run, in the file of marks."""


class PeerOrder(msgspec.Struct, frozen=True):
    """What a peer is to do. ``url``: of the service that it needs, which is wiped; ``database``: its process id.

    ``workers``: processes that run jobs; those of PostgreSQL's peers all stand by before the first job is run.
    """

    folder: str
    jobs: int
    url: str = ""
    database: int = 0
    workers: int = 1


class Measured(msgspec.Struct, frozen=True):
    """What came of it. Rates per second; ``p50`` and ``p99`` in ms; ``rss``: bytes of all of its worker's processes."""

    single: float
    batch: float
    """0 where it has no call for many."""
    rate: float
    """See ``rate``."""
    p50: float
    p99: float
    rss: int
    database_us: float = 0.0
    """CPU of the database's processes for each job, from the first start to the last end; where it was asked for."""


@functools.cache
def _file() -> int:
    return os.open(os.environ[MARKS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def mark(n: int) -> None:
    """What a handler does."""
    os.write(_file(), RECORD.pack(n, time.monotonic_ns()))


def order() -> PeerOrder:
    """What this process was started with; the worker finds the same in its environment."""
    found = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=PeerOrder)
    os.environ[MARKS] = str(Path(found.folder) / "marks")
    os.environ[URL] = found.url
    return found


def stand_by() -> None:
    """In a worker: say that it is connected, and wait until all are."""
    folder = Path(os.environ[MARKS]).parent
    (folder / f"{READY}{os.getpid()}").touch()
    while not (folder / GO).exists():
        time.sleep(LOOK_EVERY_S)


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
    gated: bool = False,
) -> None:
    """Do all of it, and say what it took.

    Args:
        task: From ``order``.
        worker: Starts one process that runs jobs.
        single: Enqueues jobs of these numbers one by one.
        many: Enqueues them at once.
        drained: Whether the last job has been noted as done.
        gated: The worker calls ``stand_by``.
    """
    marks = Path(os.environ[MARKS])
    marks.touch(0o600)
    alone = task.jobs if many is None else min(task.jobs // 4, ALONE)
    single_s = _timed(lambda: single(range(alone)))
    many_s = 0.0
    if many is not None:
        many_s = _timed(lambda: [many(range(n, min(n + BATCH, task.jobs))) for n in range(alone, task.jobs, BATCH)])
    with (Path(task.folder) / "worker.log").open("wb") as log:
        processes = [
            subprocess.Popen(worker, stdout=log, stderr=log, stdin=subprocess.DEVNULL)  # noqa: S603
            for _ in range(task.workers)
        ]
    try:
        if gated:
            _let_go(processes, Path(task.folder))
        spent = database_cpu_s(task.database)
        _until(processes, marks, task.jobs, drained)
        spent = database_cpu_s(task.database) - spent
        times = sorted(at for _, at in read(marks))
        latencies = sorted(_probe(processes, marks, task.jobs, single))
        rss = sum(each.memory_info().rss for one in processes for each in _tree(one.pid))
    finally:
        for one in processes:
            for each in _tree(one.pid):
                each.terminate()
        for one in processes:
            _reap(one)
    say(
        Measured(
            single=alone / single_s,
            batch=(task.jobs - alone) / many_s if many is not None else 0.0,
            rate=rate(times),
            p50=percentile(latencies, 0.5),
            p99=percentile(latencies, 0.99),
            rss=rss,
            database_us=spent / task.jobs * 1e6,
        )
    )


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _let_go(processes: Processes, folder: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while sum(1 for _ in folder.glob(f"{READY}*")) < len(processes):
        _look(processes, until, "stand by")
        time.sleep(LOOK_EVERY_S)
    (folder / GO).touch()


def database_cpu_s(pid: int) -> float:
    """Seconds of CPU that PostgreSQL, whose first process this is, has taken so far; 0 where there is none.

    A process that has ended is in the time of the children of the first, which has waited for it.
    """
    if not pid:
        return 0.0
    first = psutil.Process(pid)
    took = first.cpu_times()
    total: float = took.user + took.system + took.children_user + took.children_system
    for each in first.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            took = each.cpu_times()
            total += took.user + took.system
    return total


def _probe(
    processes: Processes, marks: Path, first: int, single: Callable[[Sequence[int]], object]
) -> list[float]:
    """Ms from just before the enqueue call to the handler, of an idle worker."""
    time.sleep(SETTLE_S)
    sent = {}
    for n in range(first, first + PROBES):
        time.sleep(PROBE_GAP_S)
        sent[n] = time.monotonic_ns()
        single((n,))
    _until(processes, marks, first + PROBES, lambda: True)
    return [(at - sent[n]) / 1e6 for n, at in read(marks) if n in sent]


def _until(processes: Processes, marks: Path, jobs: int, drained: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while marks.stat().st_size < jobs * RECORD.size or not drained():
        _look(processes, until, f"run {jobs} jobs")
        time.sleep(LOOK_EVERY_S)


def _look(processes: Processes, until: float, what: str) -> None:
    if any(each.poll() is not None for each in processes):
        raise SystemExit("its worker has ended")
    if time.monotonic() > until:
        raise SystemExit(f"its worker did not {what} within {PATIENCE_S:.0f} s")


def rate(times: Sequence[int]) -> float:
    """Runs per second, of workers that are warm.

    Args:
        times: When each was started, ns, in rising order.
    """
    first = int(len(times) * WARMING)
    return (len(times) - 1 - first) / (times[-1] - times[first]) * 1e9


def read(marks: Path) -> list[tuple[int, int]]:
    """What handlers have noted: a number, and when (CLOCK_MONOTONIC, ns)."""
    return list(RECORD.iter_unpack(marks.read_bytes()))


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
