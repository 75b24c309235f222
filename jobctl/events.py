"""What the log records: one event a change, in commit order.

An event carries enough to scope and filter it when its job is gone. ``body`` is the JSON of what subscribers see:
the job (large fields omitted) for an update, ``{"id": ...}`` for a deletion.
"""

from typing import Final

import msgspec

JOB_UPDATE: Final = "job_update"
JOB_DELETED: Final = "job_deleted"
JOBS_PRUNED: Final = "jobs_pruned"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One row of the event log.

    ``status_before`` is None for a new job and ``status`` is None for a deleted one. ``at`` is ms since the epoch.
    """

    seq: int
    kind: str
    job_id: str
    at: int
    owner: str
    name: str
    queue: str
    tags: tuple[str, ...]
    status_before: str | None
    status: str | None
    body: bytes


class LogsAppended(msgspec.Struct, frozen=True, gc=False):
    """A job's log has grown up to line ``n``; told after the commit, not part of the event log."""

    job_id: str
    n: int


class QueueChanged(msgspec.Struct, frozen=True, gc=False):
    """A queue was made, paused or resumed; told after the commit, not part of the event log."""

    name: str
    paused: bool


class Commit(msgspec.Struct, frozen=True):
    """What one transaction changed, handed to listeners in commit order."""

    events: tuple[Event, ...] = ()
    logs: tuple[LogsAppended, ...] = ()
    queues: tuple[QueueChanged, ...] = ()
    cancels: tuple[str, ...] = ()
    """Jobs that run and were asked to stop."""
    work: bool = False
    """Some job became ready, or the time of the next due one moved: the runner should look."""
