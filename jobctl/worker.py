"""A process that runs jobs, as everybody sees it."""

from typing import Literal

from jobctl.model import Wire

Kind = Literal["serve", "work"]
State = Literal["live", "late", "lost"]


class Worker(Wire, frozen=True):
    """A process that runs jobs. ``id`` is what its jobs have as ``processingBy``.

    ``seenAt`` is its last heartbeat; ``late``: one is missing; ``lost``: its lease has ended, and its jobs are tried
    again. ``running`` counts slots in use, at the last heartbeat; ``handlers`` are the names that it can run.
    """

    id: str
    kind: Kind
    host: str
    pid: int
    version: str
    started_at: str
    seen_at: str
    state: State
    slots: int
    running: int
    leader: bool
    handlers: tuple[str, ...] = ()


class WorkerList(Wire, frozen=True):
    """Every process that runs jobs, in the order in which they came."""

    workers: tuple[Worker, ...]
