"""The processes that run jobs, and who of them leads.

Where several processes share a queue, each holds a lease: it renews it with every heartbeat, and whoever does not is
lost, and its runs are tried again elsewhere. All of this goes by one clock, that of the database. One of those whose
lease stands leads: it alone runs schedules, rescue and pruning. That is an economy and no guard: each of these is right
also where two do it at once, for a moment, as every one of their writes checks what it is based on.

A process that owns its store alone needs no lease, and always leads.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from jobctl.worker import Kind, Worker

BEAT_S: Final = 2.0
"""Between two heartbeats: one small statement each, half of what an idle server may ask of the database."""
LATE_S: Final = 3 * BEAT_S
"""Not heard for so long, a process is shown as late."""
TERM_S: Final = 6.0
"""A leader that has not been heard for so long is replaced with the next heartbeat of another: within 8 s."""
SHOWN_S: Final = 600.0
"""How long one that was lost is still shown."""


class NewWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A process that is about to run jobs. ``id`` is new with each lease; ``slots``: runs at once."""

    id: str
    kind: Kind
    host: str
    pid: int
    version: str
    slots: int
    handlers: Sequence[str] = ()


class Beat(NamedTuple):
    """The answer to a heartbeat: whether the lease stands, whether this process leads, and all that are there."""

    alive: bool
    leader: bool
    workers: tuple[Worker, ...]


class WorkerStore(Protocol):
    """Methods raise ``StoreUnavailable`` when the database cannot be used."""

    @property
    def lease_s(self) -> float | None:
        """How long a lease stands without a heartbeat; None: this store has one process, which needs none."""

    async def join(self, worker: NewWorker) -> None:
        """Take a lease, from now on; before the first claim."""

    async def beat(self, worker_id: str, *, running: int, lead: bool) -> Beat:
        """Renew a lease that stands, in one statement with taking or keeping the lead, if ``lead``.

        One that has ended is not renewed: its runs may be others' by now.
        """

    async def leave(self, worker_id: str) -> None:
        """Give the lease up, and the lead with it; harmless where there is none. Runs that are left are rescued."""

    async def all(self) -> tuple[Worker, ...]:
        """Everybody, in the order in which they came; those that were lost for ten minutes."""
