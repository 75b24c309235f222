"""What a store keeps of schedules. When one is due is not its business: whoever plans gives it the next time.

A tick's job, the note that this tick has had it, and the time of the next are one transaction: whatever becomes of the
process or the clock, no tick has two. Every change is told in ``Commit.schedules``.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from jobctl.model import Job, NewJob
from jobctl.schedule import ScheduleSpec, ScheduleState

if TYPE_CHECKING:
    from jobctl.store.base import Read


class Due(NamedTuple):
    """Schedules whose next run has come, those longest due first; ``next_run`` (ms) is the next one after ``now``."""

    schedules: tuple[ScheduleState, ...]
    next_run: int | None


class Planned(NamedTuple):
    """A schedule of the configuration, and when it would run next if it were new (ms; None: it is disabled)."""

    spec: ScheduleSpec
    next_run: int | None


class Synced(NamedTuple):
    """What ``sync`` did, by name. ``kept``: made through the API, so that the configuration's own was not taken."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...]


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of a schedule that was planned at ``version`` while its next run stood at ``expected``.

    ``next_run`` is set in any case; an ``error`` is noted; else, with a ``tick``, its ``job`` is enqueued. Times: ms.
    """

    name: str
    version: int
    expected: int | None
    next_run: int | None
    tick: int | None = None
    job: NewJob | None = None
    error: str | None = None


class ScheduleStore(Protocol):
    """Schedules by name. Methods raise ``StoreUnavailable`` when the database cannot be used."""

    async def all(self) -> "Read[tuple[ScheduleState, ...]]":
        """Every schedule, by name."""

    async def one(self, name: str) -> "Read[ScheduleState]":
        """One schedule. Raises NotFound."""

    async def due(self, now: int, *, limit: int) -> Due:
        """Up to ``limit`` schedules that are due at ``now`` (ms)."""

    async def add(self, spec: ScheduleSpec, *, created_by: str, next_run: int | None) -> ScheduleState:
        """A new schedule.

        Raises:
            Conflict: there is one of that name.
            TooLarge: there are 1,000 already.
        """

    async def replace(self, spec: ScheduleSpec, *, next_run: int | None) -> ScheduleState:
        """Change one that belongs to the API. Its next run stays where its times and its being enabled stay.

        Raises:
            NotFound: there is none of that name.
            Conflict: it belongs to the configuration.
        """

    async def set_enabled(self, name: str, enabled: bool, *, next_run: int | None) -> ScheduleState:
        """Enable or disable one that belongs to the API; raises as ``replace``. ``next_run`` is for one enabled now."""

    async def remove(self, name: str) -> None:
        """Remove one that belongs to the API; raises as ``replace``. Its jobs stay."""

    async def sync(self, planned: Sequence[Planned], *, untouched: Collection[str] = ()) -> Synced:
        """Make the configuration's schedules be exactly these; those named in ``untouched`` stay as they are."""

    async def fire(self, firings: Sequence[Firing]) -> tuple[str | None, ...]:
        """Carry out plans, in one transaction; the id of each job that was enqueued.

        A plan that the schedule has moved on from changes nothing, and a tick that has had its job gets no other.
        """

    async def trigger(self, name: str, job: NewJob) -> Job:
        """Enqueue ``job`` now, as one of the schedule's. Its next run stays. Raises NotFound, TooLarge."""
