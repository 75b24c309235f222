"""Process groups: wait for a leader, signal a group, and end what a former server left running.

A live leader is known by its start time, members whose leader has gone by the job's id in their environment (``proc``).
Elsewhere than on Linux nothing of this can be seen, and left-over commands are only reported.
"""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from jobctl.engine import proc
from jobctl.store.base import Orphan

ORPHAN_GRACE_S: Final = 5.0
"""Between SIGTERM and SIGKILL for a command whose server has died: nobody waits for its result any more."""
_POLL_S: Final = 0.05
_UNKILLABLE_S: Final = 2.0
log = logging.getLogger("jobctl.engine")


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
    if not proc.available():
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
        proc.send(pids, number)


def _living(orphans: Sequence[Orphan]) -> dict[Orphan, list[int]]:
    """The processes, if any, that are certainly each orphan's."""
    groups = _groups({orphan.pid for orphan in orphans} - {os.getpgrp()})
    alive: dict[Orphan, list[int]] = {}
    for orphan in orphans:
        members = groups.get(orphan.pid, {})
        leader = proc.read_stat(orphan.pid)
        if leader is None:
            pids = [pid for pid in members if _belongs(pid, orphan)]
        elif leader.started == orphan.started and leader.group == orphan.pid:
            pids = list(members)
        else:  # the pid is another's now; the kernel gives none away while a group still bears it
            pids = []
        if pids:
            alive[orphan] = pids
    return alive


def _groups(wanted: set[int]) -> dict[int, dict[int, proc.Stat]]:
    """Living members of the wanted groups, in one walk over ``/proc``. Zombies count as gone."""
    groups: dict[int, dict[int, proc.Stat]] = {}
    for pid in proc.everybody():
        stat = proc.read_stat(pid)
        if stat and stat.group in wanted and stat.state not in "ZX":
            groups.setdefault(stat.group, {})[pid] = stat
    return groups


def _look_for(runs: Mapping[str, int]) -> set[Orphan]:
    """Commands of these runs, known by their environment alone."""
    wanted = {f"JOBCTL_JOB_ID={job_id}".encode(): (job_id, run) for job_id, run in runs.items()}
    found = set()
    for pid in proc.everybody():
        environ = proc.environ(pid)
        for mark in wanted.keys() & environ:
            job_id, run = wanted[mark]
            stat = proc.read_stat(pid)
            if stat is not None and f"JOBCTL_RUN={run}".encode() in environ:
                found.add(Orphan(job_id, run, stat.group, proc.start_ticks(stat.group)))
    return found


def _belongs(pid: int, orphan: Orphan) -> bool:
    return f"JOBCTL_JOB_ID={orphan.job_id}".encode() in proc.environ(pid)
