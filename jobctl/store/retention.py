"""How a store forgets: in batches, each a transaction that holds the writer for a few milliseconds.

Ages are seconds by the store's clock. Events go only from the start of the log, so that it has no gap; of a log's lines
the last stays as long as its job does, so that their numbers go on.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from jobctl.store.base import Read

JOBS: Final = 100
"""Jobs of a batch: 1 to 2 ms of the writer's time, with the rows of their indexes."""
EVENTS: Final = 500
LINES: Final = 1000
BATCH_BYTES: Final = 512 * 1024
"""Of ``data`` and ``result`` in one batch of jobs: large ones lie in tables of their own, and many pages are freed."""


class Pruned(msgspec.Struct, frozen=True):
    """How many rows of the kind are gone; ``more``: call again, the rest is waiting."""

    count: int
    more: bool


class RetentionStore(Protocol):
    """Methods raise ``StoreUnavailable`` when the database cannot be used."""

    async def prune_jobs(
        self, status: str, *, older_than: float | None = None, keep: int | None = None, limit: int = JOBS
    ) -> Pruned:
        """Remove jobs of a terminal status that ended longer ago, or are not among the ``keep`` latest of it.

        Those that ended first go first; those that ended in the same millisecond as the first to be kept are kept too.
        ``jobs_pruned`` is the event of each batch. With a long log, a batch may remove some of its lines and no job.
        """

    async def prune_events(
        self, *, older_than: float | None = None, keep: int | None = None, limit: int = EVENTS
    ) -> Pruned:
        """Remove from the start of the event log what is older, and what exceeds ``keep`` events."""

    async def prune_logs(self, *, older_than: float, limit: int = LINES) -> Pruned:
        """Remove log lines of jobs that ended longer ago, and older lines of jobs that run; never a log's last."""

    async def tidy(self, *, limit: int = LINES) -> Pruned:
        """Remove what nobody needs: idempotency keys past their time, counters at zero."""

    async def ended_before(self, statuses: Sequence[str], *, older_than: float) -> "Read[Mapping[str, int]]":
        """How many jobs of each status ended longer ago."""
