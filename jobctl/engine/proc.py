"""What ``/proc`` says of processes: whose group they are of, since when, and what stands in their environment.

A pid alone proves nothing, it may have been given to another process since. A live leader of a group is known by its
start time (field 22 of ``/proc/PID/stat``, clock ticks since boot), others by their environment. Standard library only.
"""

import contextlib
import os
import signal
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")


class Stat(NamedTuple):
    """What ``/proc/PID/stat`` says: one letter of state, process group, and start time in clock ticks since boot."""

    state: str
    group: int
    started: int


def available() -> bool:
    """Whether this system can tell."""
    return (PROC / "self" / "stat").exists()


def read_stat(pid: int) -> Stat | None:
    """The process's stat; None when it is gone, or where there is no ``/proc``."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    fields = text.rpartition(b")")[2].split()
    return Stat(fields[0].decode(), int(fields[2]), int(fields[19]))


def start_ticks(pid: int) -> int:
    """When the process started; 0 where that cannot be known."""
    stat = read_stat(pid)
    return stat.started if stat else 0


def environ(pid: int) -> set[bytes]:
    """Its environment, as it was started with."""
    try:
        return {*(PROC / str(pid) / "environ").read_bytes().split(b"\0")}
    except OSError:  # gone, or somebody else's
        return set()


def everybody() -> Iterator[int]:
    """All pids."""
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def members(groups: Mapping[int, int], marks: Collection[bytes]) -> list[int]:
    """Living processes of these groups, by leader and its start time, and all that have a mark in their environment.

    Of a group whose leader is gone only those are known that have a mark.
    """
    found = []
    for pid in everybody():
        stat = read_stat(pid)
        if stat is None or stat.state in "ZX":
            continue
        known = stat.group in groups and start_ticks(stat.group) == groups[stat.group]
        if known or (marks and not environ(pid).isdisjoint(marks)):
            found.append(pid)
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal; those that are gone do not mind."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
