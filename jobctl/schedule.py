"""A schedule: a cron expression in a time zone, and the job that each tick enqueues.

What a tick enqueues belongs to ``schedule:NAME``, so that its jobs are found together (``createdBy``) and no user's
token reaches them. A schedule belongs either to the configuration (``source`` config: made, changed and removed with
it at the server's start) or to the API.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from jobctl.model import (
    DEFAULT_ATTEMPTS,
    DEFAULT_QUEUE,
    DEFAULT_TIMEOUT_S,
    MAX_INLINE,
    SCHEDULE_OWNER,
    Attempts,
    Name,
    NewJob,
    Priority,
    Tags,
    Timeout,
    Wire,
    wire_time,
)

MAX_SCHEDULES: Final = 1000
Missed = Literal["skip", "once"]
"""What to do about ticks that fell into a time when no server ran: nothing, or one job for all of them."""
Source = Literal["config", "api"]

CronText = Annotated[str, Meta(min_length=1, max_length=200, description="five fields: minute hour day month weekday")]
ZoneText = Annotated[str, Meta(min_length=1, max_length=100, description="a name such as Europe/Zurich")]


class ScheduleSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a schedule says, checked; ``data`` is JSON text of an object. None: the handler's own, else the default."""

    name: str
    cron: str
    timezone: str
    job_name: str
    data: bytes = b"{}"
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    max_attempts: int | None = None
    timeout: float | None = None
    tags: tuple[str, ...] = ()
    missed: Missed = "skip"
    enabled: bool = True

    def job(self, *, max_attempts: int | None, timeout: float | None) -> NewJob:
        """The job of one tick; the arguments are the handler's wishes, for where the schedule has none of its own."""
        return NewJob(
            name=self.job_name,
            data=self.data,
            queue=self.queue,
            priority=self.priority,
            max_attempts=self.max_attempts or max_attempts or DEFAULT_ATTEMPTS,
            timeout=self.timeout or timeout or DEFAULT_TIMEOUT_S,
            tags=self.tags,
        )


class ScheduleState(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as the store knows it. Times are ms since the epoch; ``next_run`` is None while it is disabled.

    ``run_count``, ``last_run`` and ``last_job`` are about jobs that it made, by a tick or by hand. ``error`` says why
    the last tick could make none.
    """

    spec: ScheduleSpec
    source: Source
    created_by: str
    created_at: int
    updated_at: int
    version: int
    next_run: int | None
    last_run: int | None = None
    last_job: str | None = None
    run_count: int = 0
    error: str | None = None

    @property
    def owner(self) -> str:
        """Whose the jobs are."""
        return SCHEDULE_OWNER + self.spec.name

    def shown(self, *, inline: bool | None = None) -> "Schedule":
        """The schedule on the wire, with its data if ``inline``, else with null for it, named in ``omitted``.

        Where it is not said, small data is shown, as with jobs in lists.
        """
        spec = self.spec
        if inline is None:
            inline = len(spec.data) <= MAX_INLINE
        return Schedule(
            name=spec.name,
            cron=spec.cron,
            timezone=spec.timezone,
            enabled=spec.enabled,
            next_run=None if self.next_run is None else wire_time(self.next_run),
            last_run=None if self.last_run is None else wire_time(self.last_run),
            run_count=self.run_count,
            job_name=spec.job_name,
            data=msgspec.Raw(spec.data) if inline else None,
            queue=spec.queue,
            priority=spec.priority,
            max_attempts=spec.max_attempts,
            timeout=spec.timeout,
            tags=spec.tags,
            missed=spec.missed,
            source=self.source,
            last_job_id=self.last_job,
            error=self.error,
            created_by=self.created_by,
            created_at=wire_time(self.created_at),
            updated_at=wire_time(self.updated_at),
            version=self.version,
            omitted=UNSET if inline else ("data",),
        )


class Schedule(Wire, frozen=True):
    """A schedule as admins see it. ``lastJobId`` may name a job that has been pruned since."""

    name: str
    cron: str
    timezone: str
    enabled: bool
    next_run: str | None
    last_run: str | None
    run_count: int
    job_name: str
    data: Any
    queue: str
    priority: int
    max_attempts: int | None
    timeout: float | None
    tags: tuple[str, ...]
    missed: Missed
    source: Source
    last_job_id: str | None
    error: str | None
    created_by: str
    created_at: str
    updated_at: str
    version: int
    omitted: tuple[str, ...] | UnsetType = UNSET


class ScheduleList(Wire, frozen=True):
    """Every schedule, by name."""

    schedules: tuple[Schedule, ...]


class ScheduleChange(Wire, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PUT /api/jobs/schedules/{name}``: the whole schedule; what is left out takes its default."""

    cron: CronText
    job_name: Name
    timezone: ZoneText = "UTC"
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    queue: Name = DEFAULT_QUEUE
    priority: Priority = 0
    max_attempts: Attempts | None = None
    timeout: Timeout | None = None
    tags: Tags = ()
    missed: Missed = "skip"
    enabled: bool = True


class ScheduleRequest(ScheduleChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /api/jobs/schedules``."""

    name: Name
