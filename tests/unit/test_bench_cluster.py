"""The benchmark of many processes: what it asks for is judged, and what is no figure ends it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from bench import cluster, queue
from bench.processes import Failed
from bench.queues import contestants, load, peer, places, services
from bench.queues.crossing import Crossing
from bench.queues.fleet import Fleet, Ran
from bench.side_by_side import Run


def measured(rate: float) -> peer.Measured:
    return peer.Measured(single=100.0, batch=0.0, rate=rate, p50=1.0, p99=2.0, rss=10**7, database_us=40.0)


def test_every_figure_that_was_asked_for_is_judged() -> None:
    crossing = Crossing(here_p50=1.0, here_p99=2.0, elsewhere_p50=5.0, elsewhere_p99=120.0, took_s=5.0)
    found: dict[str, list[cluster.Turn]] = {
        cluster._at("jobctl", 1): [Ran(9_000.0, 90.0, 30.0, 10**8)],
        cluster._at("jobctl", 4): [Ran(20_000.0, 90.0, 30.0, 10**8)],
        cluster._at("pgqueuer", 1): [measured(18_000.0)],
        cluster._at("pgqueuer", 4): [measured(19_000.0)],
        cluster._at("procrastinate", 1): [measured(450.0)],
        cluster._at("procrastinate", 4): [measured(2_100.0)],
        cluster._CROSSING: [crossing],
        cluster._CANCEL: [(30.0, 900.0)],
    }
    run = Run("cluster", {"events": 5000})
    cluster._tell(run, found, [1, 4], ["pgqueuer", "procrastinate"])
    cluster._judge(run, found, [1, 4])
    assert {each.what: each.met for each in run.judged} == {
        "jobs run, 1 at work, against pgqueuer": False,
        "jobs run, 1 at work, against procrastinate": True,
        "jobs run, 4 at work, against pgqueuer": True,
        "jobs run, 4 at work, against procrastinate": False,
        "jobs run, best of these": True,
        "age of an update on another server, p99 at 1,000 a second": False,
        "a cancel that reaches another process": True,
    }
    figures = {(each.quantity, each.contestant): each.value.median for each in run.figures}
    assert figures["CPU of the database for each job", "jobctl, 4 processes"] == 30.0
    assert figures["updates written", "jobctl"] == 1000.0
    assert figures["a cancel, until a handler in another process is told", "slowest of a round"] == 900.0


def test_who_is_not_there_is_not_judged() -> None:
    found: dict[str, list[cluster.Turn]] = {cluster._at("jobctl", 1): [Ran(9_000.0, 90.0, 30.0, 10**8)]}
    run = Run("cluster", {"events": 0})
    cluster._tell(run, found, [1], [])
    cluster._judge(run, found, [1])
    assert {each.what: each.met for each in run.judged if each.met is not None} == {"jobs run, best of these": False}


def test_the_queue_on_postgresql_is_measured_beside_peers_of_its_kind() -> None:
    options = queue._parser().parse_args(["--store", "postgres", "--peers", "rq"])
    with pytest.raises(SystemExit, match="no peer 'rq'; there are pgqueuer, procrastinate"):
        queue._present(Run("queue", {"store": "postgres"}), options)
    assert {*places.ON_POSTGRES} <= {*contestants.PEERS}
    assert all(contestants.PEERS[each].service == services.POSTGRES for each in places.ON_POSTGRES)


def test_workers_stand_by_until_all_are_there(tmp_path: Path) -> None:
    code = "from bench.queues import peer; peer.stand_by(); print('gone on', flush=True)"
    environment = os.environ | {peer.MARKS: str(tmp_path / "marks")}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)

    one, other = start(), start()
    letting = threading.Thread(target=peer._let_go, args=([one, other], tmp_path))
    letting.start()
    assert [each.communicate(timeout=30)[0] for each in (one, other)] == [b"gone on\n"] * 2
    letting.join()
    assert len([*tmp_path.glob(f"{peer.READY}*")]) == 2


def test_a_worker_that_ends_before_it_stands_by_ends_the_run(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(30)
    with pytest.raises(SystemExit, match="its worker has ended"):
        peer._let_go([ended], tmp_path)


def test_the_databases_cpu_counts_children_that_have_ended() -> None:
    burn = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as first:  # type: ignore[call-overload]
        assert first.stdout.readline() == b"\n"
        assert not psutil.Process(first.pid).children()
        assert peer.database_cpu_s(first.pid) >= 0.3
        first.communicate(b"\n")
    assert peer.database_cpu_s(0) == 0.0


class Answers:
    """An API that says what it is told to."""

    def __init__(self, completed: int) -> None:
        self._completed = completed

    def call(self, request: bytes) -> bytes:
        if b"/stats" in request:
            return b'\r\n\r\n{"data":{"completed":%d}}' % self._completed
        return b'\r\n\r\n{"data":{}}'


class NoDatabase:
    def cpu_s(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("numbers", "told"),
    [((0, 1, 2), None), ((0, 1, 1), "of 3 jobs 2 were run, 3 runs in all"), ((0, 1, 2, 2), "3 were run, 4 runs")],
)
def test_a_job_that_ran_twice_or_not_at_all_is_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, ...], told: str | None
) -> None:
    monkeypatch.setattr(load, "Caller", lambda _: Answers(completed=3))
    (tmp_path / "marks").write_bytes(b"".join(struct.pack("<qq", n, 10**9 * (i + 1)) for i, n in enumerate(numbers)))
    fleet = Fleet(tmp_path, 0, "token")
    if told is None:
        assert fleet.run(3, NoDatabase()).rate == 1.0  # type: ignore[arg-type]
    else:
        with pytest.raises(Failed, match=told):
            fleet.run(3, NoDatabase())  # type: ignore[arg-type]
