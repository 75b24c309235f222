"""What is said last does not keep a process from ending, though nobody reads it."""

import logging
import os
import subprocess
import sys
import threading

import pytest

from jobctl.engine import watchdog as watchdogs
from jobctl.engine.last_words import briefly
from jobctl.engine.lease import EX_TEMPFAIL
from jobctl.engine.watchdog import BEAT_S, Watchdog
from jobctl.metrics import Metrics

LEAVES = """
import logging
from jobctl.engine.lease import _leave
logging.basicConfig()
_leave("the lease is over")
"""


def test_it_is_waited_for_where_it_is_heard() -> None:
    heard: list[str] = []
    briefly(lambda: heard.append("it"))
    assert heard == ["it"]


def test_a_process_leaves_and_says_why() -> None:
    left = subprocess.run([sys.executable, "-c", LEAVES], capture_output=True, timeout=60, check=False)
    assert left.returncode == EX_TEMPFAIL
    assert b"ends itself: the lease is over" in left.stderr


def test_a_process_leaves_though_nobody_reads_its_standard_error() -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writes, b"x" * 4096)
    os.set_blocking(writes, True)
    try:
        left = subprocess.run([sys.executable, "-c", LEAVES], stderr=writes, timeout=60, check=False)
    finally:
        os.close(reads)
        os.close(writes)
    assert left.returncode == EX_TEMPFAIL


def test_a_process_leaves_though_there_are_no_more_threads() -> None:
    none = "import threading\n\ndef start(_):\n    raise RuntimeError\n\nthreading.Thread.start = start\n"
    left = subprocess.run([sys.executable, "-c", none + LEAVES], capture_output=True, timeout=60, check=False)
    assert left.returncode == EX_TEMPFAIL


def test_the_watchdog_looks_on_though_what_it_said_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            go_on.wait()

    now, go_on, told = [1000.0], threading.Event(), []
    monkeypatch.setattr(watchdogs.log, "handlers", [Deaf()])
    monkeypatch.setattr(watchdogs.log, "propagate", False)
    dog = Watchdog(Metrics(), max_lag=1.0, clock=lambda: now[0])
    dog.stuck = lambda: told.append(now[0])
    try:
        for _ in range(20):
            now[0] += BEAT_S
            dog.look()
        assert told[-1] == now[0]
    finally:
        go_on.set()
