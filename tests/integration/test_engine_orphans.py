"""Commands that outlived their server are ended; processes that only bear their pid are not."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_kit import add_command, engine

from jobctl.engine.proc import start_ticks
from jobctl.engine.processes import end_orphans
from jobctl.engine.registry import Registry
from jobctl.store.base import Orphan

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are told apart by /proc")


class Group:
    """A process group such as a command makes."""

    def __init__(self, script: str, job_id: str = "job-1", run: int = 1) -> None:
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", script],
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "JOBCTL_JOB_ID": job_id, "JOBCTL_RUN": str(run)},
        )
        self.pid = self.process.pid
        self.started = start_ticks(self.pid)
        assert self.process.stdout is not None
        self.child = int(self.process.stdout.readline())

    def orphan(self, job_id: str = "job-1", started: int | None = None) -> Orphan:
        return Orphan(job_id, 1, self.pid, self.started if started is None else started)

    def close(self) -> None:
        for kill, target in ((os.killpg, self.pid), (os.kill, self.child)):
            with contextlib.suppress(ProcessLookupError):
                kill(target, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def groups() -> Iterator[list[Group]]:
    made: list[Group] = []
    yield made
    for each in made:
        each.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_the_whole_group_of_a_left_over_command_is_ended(groups: list[Group]) -> None:
    group = Group("sleep 60 & echo $!; wait")
    groups.append(group)
    assert await end_orphans([group.orphan()]) == 1
    assert not alive(group.pid)
    assert not alive(group.child)


async def test_one_that_ignores_sigterm_is_killed(groups: list[Group]) -> None:
    group = Group("trap '' TERM; sleep 60 & echo $!; wait; sleep 60")
    groups.append(group)
    assert await end_orphans([group.orphan()], grace=0.2) == 1
    assert not alive(group.pid)
    assert not alive(group.child)


async def test_a_pid_that_was_given_to_another_process_is_left_alone(groups: list[Group]) -> None:
    group = Group("sleep 60 & echo $!; wait")
    groups.append(group)
    assert await end_orphans([group.orphan(started=group.started - 1)]) == 0
    assert await end_orphans([group.orphan(started=0)]) == 0
    assert alive(group.pid)
    assert alive(group.child)


async def test_members_without_their_leader_are_known_by_the_jobs_id(groups: list[Group]) -> None:
    mine, other = Group("sleep 60 & echo $!"), Group("sleep 60 & echo $!", job_id="job-12")
    groups += [mine, other]
    for each in (mine, other):
        each.process.wait()
    assert await end_orphans([mine.orphan(), other.orphan()]) == 1
    assert not alive(mine.child)
    assert alive(other.child)


async def test_what_has_gone_is_no_trouble() -> None:
    assert await end_orphans([]) == 0
    assert await end_orphans([Orphan("job-1", 1, 2**22 - 1, 1)]) == 0


async def test_our_own_group_is_never_ended() -> None:
    own = os.getpgrp()
    assert await end_orphans([Orphan("job-1", 1, own, start_ticks(own))]) == 0


async def test_what_a_crash_leaves_is_found_by_the_rescue(tmp_path: Path, groups: list[Group]) -> None:
    registry = Registry()
    add_command(registry, "sleep", "sleep", "60")
    group = Group("sleep 60 & echo $!; wait")
    groups.append(group)
    async with engine(tmp_path, registry, start=False) as e:
        await e.enqueue("sleep")
        claims = await e.store.claim(1, worker="dead", limits={}, busy={})
        (claim,) = claims.claims
        await e.store.record_process(claim.job.id, claim.run, group.pid, group.started)
        rescued = await e.store.rescue()
        assert rescued.orphans == (Orphan(claim.job.id, 1, group.pid, group.started),)
        assert await end_orphans(rescued.orphans) == 1
    assert not alive(group.pid)


async def test_a_command_that_was_started_and_not_yet_recorded_is_found_by_its_environment(groups: list[Group]) -> None:
    """The server may die between the two. What an earlier run of the job has left behind on purpose is left alone."""
    mine, earlier = Group("sleep 60 & echo $!; wait", run=2), Group("sleep 60 & echo $!; wait", run=1)
    groups += [mine, earlier]
    assert await end_orphans([], unrecorded={"job-1": 2}) == 1
    assert not alive(mine.pid)
    assert not alive(mine.child)
    assert alive(earlier.pid)
