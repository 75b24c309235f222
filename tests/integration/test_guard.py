"""The guard ends the programs of a process whose lease is over, whatever state that process is in."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from jobctl.engine import guard as guards
from jobctl.engine import proc
from jobctl.engine.guard import EARLY_S, GRACE_S, LEASE, Guard, steady

pytestmark = pytest.mark.skipif(not proc.available(), reason="this system has no /proc")
NAP = [sys.executable, "-c", "import time; time.sleep(60)"]
DEAF = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"]


class Program:
    def __init__(self, argv: list[str], lease: str, *, clean: bool = False, new_group: bool = True) -> None:
        env = {} if clean else {**os.environ, LEASE: lease}
        self.process = subprocess.Popen(argv, env=env, start_new_session=new_group)
        self.pid, self.started = self.process.pid, proc.start_ticks(self.process.pid)

    def ends(self, within: float) -> bool:
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    made: list[Program] = []
    yield made
    for each in made:
        each.process.kill()
        each.process.wait()


@pytest.fixture
def guard(request: pytest.FixtureRequest) -> Iterator[Guard]:
    made = Guard()
    made.lease(request.node.name, steady() + 3600)
    made.start()
    yield made
    made.stop()


def start(programs: list[Program], guard: Guard, lease: str, argv: list[str] = NAP, **how: Any) -> Program:
    programs.append(Program(argv, lease, **how))
    guard.began(programs[-1].pid, programs[-1].started)
    return programs[-1]


def test_a_program_is_killed_before_its_lease_ends(
    guard: Guard, programs: list[Program], request: pytest.FixtureRequest
) -> None:
    lease = request.node.name
    program = start(programs, guard, lease, DEAF)
    until = steady() + EARLY_S + 1.0
    guard.lease(lease, until)
    assert program.ends(10)
    assert program.process.returncode == -signal.SIGKILL
    assert steady() < until + 5, "a busy machine is late, not ten seconds"


def test_a_program_goes_on_as_long_as_the_lease_is_renewed(
    guard: Guard, programs: list[Program], request: pytest.FixtureRequest
) -> None:
    lease = request.node.name
    program = start(programs, guard, lease)
    for _ in range(4):
        guard.lease(lease, steady() + EARLY_S + 20)
        assert not program.ends(0.3)


def test_a_program_that_has_left_its_group_is_known_by_its_environment(
    guard: Guard, programs: list[Program], request: pytest.FixtureRequest
) -> None:
    lease = request.node.name
    programs.append(Program(NAP, lease))  # nobody has told of it
    guard.lease(lease, steady() + EARLY_S + 0.5)
    assert programs[0].ends(10)


def test_a_program_that_has_thrown_its_environment_away_is_known_by_its_group(
    guard: Guard, programs: list[Program], request: pytest.FixtureRequest
) -> None:
    program = start(programs, guard, request.node.name, clean=True)
    guard.lease(request.node.name, steady() + EARLY_S + 0.5)
    assert program.ends(10)


def test_one_that_is_frozen_is_replaced_by_one_that_knows_what_runs(
    guard: Guard, programs: list[Program], request: pytest.FixtureRequest
) -> None:
    lease = request.node.name
    program = start(programs, guard, lease, clean=True)
    frozen = guard._process
    assert frozen is not None
    frozen.send_signal(signal.SIGSTOP)
    told = 0
    while guard._process is frozen:
        guard.lease(lease, steady() + 3600)
        told += 1
        assert told < 100_000, "the pipe is never full"
    assert frozen.returncode == -signal.SIGKILL, "it would end what is wanted when it goes on"
    assert not program.ends(0.3)
    guard.lease(lease, steady() + EARLY_S + 0.5)
    assert program.ends(10)


def test_one_that_was_frozen_hears_first_what_it_was_told_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time passes between two looks, while its server goes on and renews the lease."""
    here, there = os.pipe()
    os.write(there, b"lease a 100\n")
    ended: list[float] = []
    times = iter((0.0, 200.0, 200.0))

    def now() -> float:
        at = next(times)
        if len(told) == 1:
            os.write(there, b"lease a 1000\n")
        told.append(at)
        if len(told) == 3:
            os.close(there)
        return at

    told: list[float] = []
    monkeypatch.setattr(guards, "steady", now)
    monkeypatch.setattr(guards.Watch, "end_all", lambda _, *, grace=0.0: ended.append(grace))
    with os.fdopen(here, "rb", buffering=0) as pipe:
        guards.watch(pipe)
    assert ended == [GRACE_S], "only as its server has gone"


def test_a_guard_that_cannot_be_replaced_is_replaced_later(
    guard: Guard, programs: list[Program], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = request.node.name
    assert guard._process is not None
    guard._process.kill()
    guard._process.wait()

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))  # too many processes

    with monkeypatch.context() as full:
        full.setattr("jobctl.engine.guard.subprocess.Popen", refuse)
        guard.lease(lease, steady() + 3600)
    program = start(programs, guard, lease, clean=True)
    guard.lease(lease, steady() + EARLY_S + 0.5)
    assert program.ends(10)


def test_what_belongs_to_another_lease_or_has_another_start_time_is_let_be(
    guard: Guard, programs: list[Program], request: pytest.FixtureRequest
) -> None:
    lease = request.node.name
    others = Program(NAP, "another:1:abc")
    reused = Program(NAP, "another:1:abc")
    ours = start(programs, guard, lease)
    programs += [others, reused]
    guard.began(reused.pid, reused.started + 1)
    guard.lease(lease, steady() + EARLY_S + 0.5)
    assert ours.ends(10)
    assert not others.ends(0.3)
    assert not reused.ends(0.1)


def test_a_program_that_was_reaped_is_forgotten(
    guard: Guard, programs: list[Program], request: pytest.FixtureRequest
) -> None:
    program = start(programs, guard, request.node.name, clean=True)
    guard.ended(program.pid)
    guard.lease(request.node.name, steady() + EARLY_S + 0.3)
    assert not program.ends(1.5)


def test_the_next_lease_is_guarded_too(guard: Guard, programs: list[Program], request: pytest.FixtureRequest) -> None:
    first = start(programs, guard, f"{request.node.name}:1")
    guard.lease(f"{request.node.name}:1", steady() + EARLY_S + 0.3)
    assert first.ends(10)
    second = start(programs, guard, f"{request.node.name}:2")
    guard.lease(f"{request.node.name}:2", steady() + EARLY_S + 30)
    assert not second.ends(0.5)
    guard.lease(f"{request.node.name}:2", steady() + EARLY_S + 0.3)
    assert second.ends(10)


SERVER = """
import os, subprocess, sys, time
from jobctl.engine import proc
from jobctl.engine.guard import LEASE, Guard, steady
guard = Guard()
guard.lease("server:1", steady() + 3600)
guard.start()
program = subprocess.Popen(sys.argv[1:], env={**os.environ, LEASE: "server:1"}, start_new_session=True)
guard.began(program.pid, proc.start_ticks(program.pid))
print(program.pid, guard._process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("argv", [NAP, DEAF], ids=["obedient", "deaf"])
def test_the_programs_of_a_server_that_was_killed_end_at_once_and_the_guard_with_them(argv: list[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", SERVER, *argv], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pid, guard = map(int, server.stdout.readline().split())
        assert proc.read_stat(pid)
        server.kill()
    gone(pid)
    gone(guard)


def test_a_signal_to_all_ends_the_server_and_the_guard_only_after_it(programs: list[Program]) -> None:
    made = Guard()
    made.lease("signal:1", steady() + 3600)
    made.start()
    program = start(programs, made, "signal:1")
    assert made._process is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        made._process.send_signal(number)
    made.lease("signal:1", steady() + EARLY_S + 0.5)
    assert program.ends(10)
    made.stop()


def test_a_guard_that_has_died_is_replaced_and_told_of_the_lease(
    guard: Guard, programs: list[Program], request: pytest.FixtureRequest
) -> None:
    assert guard._process is not None
    guard._process.kill()
    guard._process.wait()
    guard.lease(request.node.name, steady() + EARLY_S + 0.5)
    program = start(programs, guard, request.node.name)
    guard.lease(request.node.name, steady() + EARLY_S + 0.5)
    assert program.ends(10)


def gone(pid: int) -> None:
    until = time.monotonic() + GRACE_S + 15
    while (stat := proc.read_stat(pid)) is not None and stat.state not in "ZX":
        assert time.monotonic() < until
        time.sleep(0.05)
