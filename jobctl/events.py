"""What the log records: one event a change, in commit order.

An event carries enough to scope and filter it when its job is gone. ``body`` is the JSON of what subscribers see:
the job (large fields omitted) for an update, ``{"id": ...}`` for a deletion. A pruning is the one event about many
jobs: its body is a ``Pruning``, from which each reader is told its own part only.
"""

from collections.abc import Mapping
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


class Pruning(msgspec.Struct, frozen=True, rename="camel"):
    """Body of a ``jobs_pruned``: how many jobs were removed, by owner, queue and status.

    No job of these statuses that ended before ``finished_before`` (wire time) is left, whoever's it was.
    """

    finished_before: str
    counts: Mapping[str, Mapping[str, Mapping[str, int]]]

    def of(self, owner: str | None) -> dict[str, int]:
        """How many of each status ``owner`` (None: everybody) has lost."""
        found: dict[str, int] = {}
        for whose in self.counts if owner is None else (owner,):
            for statuses in self.counts.get(whose, {}).values():
                for status, n in statuses.items():
                    found[status] = found.get(status, 0) + n
        return dict(sorted(found.items()))


_pruning: Final = msgspec.json.Decoder(Pruning)


def pruning_of(event: Event) -> Pruning:
    """What a ``jobs_pruned`` event is about."""
    return _pruning.decode(event.body)


def owners_of(event: Event) -> frozenset[str]:
    """Who, admins aside, may know of an event."""
    return frozenset(pruning_of(event).counts) if event.kind == JOBS_PRUNED else frozenset((event.owner,))


def may_see(event: Event, owner: str | None) -> bool:
    """Whether ``owner`` (None: an admin) may know of an event."""
    return owner is None or event.owner == owner or (event.kind == JOBS_PRUNED and owner in pruning_of(event).counts)


class LogsAppended(msgspec.Struct, frozen=True, gc=False):
    """A job's log has grown up to line ``n``; told after the commit, not part of the event log."""

    job_id: str
    n: int


class CancelAsked(msgspec.Struct, frozen=True, gc=False):
    """A run was asked to stop, that one and none that its job may have later; told after the commit."""

    job_id: str
    run: int


class QueueChanged(msgspec.Struct, frozen=True, gc=False):
    """A queue was made, paused or resumed; told after the commit, not part of the event log."""

    name: str
    paused: bool


class TokenIssued(msgspec.Struct, frozen=True, gc=False):
    """An API token was made: what every server must know to let it in. ``expires_at`` is ms since the epoch."""

    jti: str
    subject: str
    role: str
    expires_at: int


class AccessEnded(msgspec.Struct, frozen=True, gc=False):
    """A token or a session was revoked: ``id`` is a token's ``jti`` or a session's ``sid``. Nothing of it stands."""

    id: str


class Commit(msgspec.Struct, frozen=True):
    """What one transaction changed, handed to listeners in commit order."""

    events: tuple[Event, ...] = ()
    logs: tuple[LogsAppended, ...] = ()
    queues: tuple[QueueChanged, ...] = ()
    cancels: tuple[CancelAsked, ...] = ()
    access: tuple[TokenIssued | AccessEnded, ...] = ()
    """Who may come in from now on, and who no more."""
    work: bool = False
    """Some job became ready, or the time of the next due one moved: the runner should look."""
    looked: bool = False
    """This server's runner has looked already, in this transaction."""
    schedules: bool = False
    """Some schedule is new, has changed or is gone."""
    missed: int | None = None
    """What was written up to this number is not told here: it was pruned already, or not asked for."""
    log_start: int | None = None
    """The log was cut: this is the first number that it has, or will have."""
