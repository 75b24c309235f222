"""Process groups: wait for a leader, signal a group, and end what a former server left running.

A pid alone proves nothing, it may have been given to another process since. A live leader is known by its start time
(field 22 of ``/proc/PID/stat``, clock ticks since boot); members whose leader has gone by the job's id in their
environment. Elsewhere than on Linux nothing of this can be seen, and left-over commands are only reported.
"""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import trio

from jobctl.store.base import Orphan

ORPHAN_GRACE_S: Final = 5.0
"""Between SIGTERM and SIGKILL for a command whose server has died: nobody waits for its result any more."""
_POLL_S: Final = 0.05
_UNKILLABLE_S: Final = 2.0
_PROC: Final = Path("/proc")
log = logging.getLogger("jobctl.engine")


class Stat(NamedTuple):
    """What ``/proc/PID/stat`` says: one letter of state, process group, and start time in clock ticks since boot."""

    state: str
    group: int
    started: int


def read_stat(pid: int) -> Stat | None:
    """The process's stat; None when it is gone, or where there is no ``/proc``."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    fields = text.rpartition(b")")[2].split()
    return Stat(fields[0].decode(), int(fields[2]), int(fields[19]))


def start_ticks(pid: int) -> int:
    """When the process started; 0 where that cannot be known."""
    stat = read_stat(pid)
    return stat.started if stat else 0


def signal_group(leader: int, number: signal.Signals) -> None:
    """Send ``number`` to the whole group; nothing happens when it has gone.

    The caller makes sure that ``leader`` has not been reaped, for only that keeps its pid from being given away.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


async def leader_exit(process: trio.Process) -> None:
    """Wait until the process has ended, without reaping it: so long its pid stays its own, and its group's."""
    if sys.platform == "linux":
        try:
            handle = os.pidfd_open(process.pid)
        except OSError:  # a kernel before 5.3, or a sandbox without the call
            pass
        else:
            try:
                await trio.lowlevel.wait_readable(handle)
            finally:
                trio.lowlevel.notify_closing(handle)
                os.close(handle)
            return
    if hasattr(os, "waitid"):
        with contextlib.suppress(ChildProcessError):
            await trio.to_thread.run_sync(
                os.waitid, os.P_PID, process.pid, os.WEXITED | os.WNOWAIT, abandon_on_cancel=True
            )
    else:  # macOS before Python 3.13: reaped here, so that in theory its group's number could be another's at once
        await process.wait()


async def end_orphans(
    orphans: Sequence[Orphan], *, unrecorded: Mapping[str, int] | None = None, grace: float = ORPHAN_GRACE_S
) -> int:
    """End the groups of commands that outlived the server that had started them: SIGTERM, after ``grace`` SIGKILL.

    To be called before ``Store.rescue``, which forgets them, so that no job runs twice at once. ``unrecorded``: runs,
    by job, whose command is to be looked for: the server may have died right after it had started it.

    Returns:
        How many of them were still alive.
    """
    if not orphans and not unrecorded:
        return 0
    if not (_PROC / "self" / "stat").exists():
        pids = [orphan.pid for orphan in orphans]
        log.warning("commands of a former server may still run, this system cannot tell: %s", pids)
        return 0
    if unrecorded:
        orphans = [*orphans, *await trio.to_thread.run_sync(_look_for, unrecorded)]
    alive = await trio.to_thread.run_sync(_living, orphans)
    for orphan, members in alive.items():
        log.warning("ending a command that outlived its server: job %s, processes %s", orphan.job_id, members)
    found = len(alive)
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, _UNKILLABLE_S)):
        _signal_all(alive, number)
        with trio.move_on_after(patience):
            while alive:
                await trio.sleep(_POLL_S)
                alive = await trio.to_thread.run_sync(_living, orphans)
    for orphan in alive:
        log.error("a left-over command cannot be ended: job %s, process %d", orphan.job_id, orphan.pid)
    return found


def _signal_all(alive: dict[Orphan, list[int]], number: signal.Signals) -> None:
    for pids in alive.values():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def _living(orphans: Sequence[Orphan]) -> dict[Orphan, list[int]]:
    """The processes, if any, that are certainly each orphan's."""
    groups = _groups({orphan.pid for orphan in orphans} - {os.getpgrp()})
    alive: dict[Orphan, list[int]] = {}
    for orphan in orphans:
        members = groups.get(orphan.pid, {})
        leader = read_stat(orphan.pid)
        if leader is None:
            pids = [pid for pid in members if _belongs(pid, orphan)]
        elif leader.started == orphan.started and leader.group == orphan.pid:
            pids = list(members)
        else:  # the pid is another's now; the kernel gives none away while a group still bears it
            pids = []
        if pids:
            alive[orphan] = pids
    return alive


def _groups(wanted: set[int]) -> dict[int, dict[int, Stat]]:
    """Living members of the wanted groups, in one walk over ``/proc``. Zombies count as gone."""
    groups: dict[int, dict[int, Stat]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            pid = int(entry.name)
            stat = read_stat(pid)
            if stat and stat.group in wanted and stat.state not in "ZX":
                groups.setdefault(stat.group, {})[pid] = stat
    return groups


def _look_for(runs: Mapping[str, int]) -> set[Orphan]:
    """Commands of these runs, known by their environment alone."""
    wanted = {f"JOBCTL_JOB_ID={job_id}".encode(): (job_id, run) for job_id, run in runs.items()}
    found = set()
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            environ = _environ(int(entry.name))
            for mark in wanted.keys() & environ:
                job_id, run = wanted[mark]
                stat = read_stat(int(entry.name))
                if stat is not None and f"JOBCTL_RUN={run}".encode() in environ:
                    found.add(Orphan(job_id, run, stat.group, start_ticks(stat.group)))
    return found


def _belongs(pid: int, orphan: Orphan) -> bool:
    return f"JOBCTL_JOB_ID={orphan.job_id}".encode() in _environ(pid)


def _environ(pid: int) -> set[bytes]:
    try:
        return {*(_PROC / str(pid) / "environ").read_bytes().split(b"\0")}
    except OSError:  # gone, or somebody else's
        return set()
