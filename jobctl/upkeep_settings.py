"""The settings of what the server does by itself: ``[schedules.NAME]`` and ``[retention]``."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from jobctl.cron import Cron
from jobctl.durations import MAX_SPAN_S, parse_span, span_as_written
from jobctl.errors import InvalidInput
from jobctl.model import DEFAULT_QUEUE
from jobctl.scalars import Number, Switch, Whole, as_written, number


class Section(BaseModel):
    """A table of the configuration; what it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _span(value: object) -> object:
    if not isinstance(value, str):
        return number(value)
    if value.strip() == "forever":
        return None
    try:
        return parse_span(value)
    except InvalidInput as error:
        raise ValueError(f"{error}, or forever") from None


def _written(seconds: float | None) -> str:
    return "forever" if seconds is None else span_as_written(seconds)


Span = Annotated[
    Annotated[float, Field(gt=0, le=MAX_SPAN_S)] | None,
    BeforeValidator(_span),
    PlainSerializer(_written, when_used="json"),
]
"""``7d``, ``12h``, a number of seconds, or ``forever``, which is None."""
_NAME = r"^[A-Za-z0-9._:-]{1,100}$"  # pydantic's $ is the end, not also before a last line feed
_DAY = 86400.0


class Retention(Section):
    """How long, and how many, are kept. What has ended goes with its log; jobs that wait or run stay for ever."""

    completed: Span = 7 * _DAY
    failed: Span = 7 * _DAY
    cancelled: Span = 7 * _DAY
    max_finished: Whole = Field(1_000_000, ge=1)
    """Of each of these statuses."""
    events: Span = 7 * _DAY
    """Whoever comes back to the stream later than this fetches lists anew."""
    max_events: Whole = Field(2_000_000, ge=1)
    logs: Span = 3 * _DAY
    """Log lines; the last of a log stays as long as its job."""


class ScheduleSettings(Section):
    """A schedule that belongs to the configuration."""

    cron: str = Field(min_length=1, max_length=200)
    timezone: str = Field("UTC", min_length=1, max_length=100)
    job: str = Field(pattern=_NAME)
    data: Annotated[dict[str, Any], BeforeValidator(as_written)] = {}
    queue: str = Field(DEFAULT_QUEUE, pattern=_NAME)
    priority: Whole = Field(0, ge=-1_000_000, le=1_000_000)
    max_attempts: Whole | None = Field(None, ge=1, le=1000)
    timeout: Number | None = Field(None, gt=0, le=31 * 86400)
    tags: tuple[Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,64}$")], ...] = Field((), max_length=20)
    missed: Literal["skip", "once"] = "skip"
    enabled: Switch = True

    @model_validator(mode="after")
    def _can_run(self) -> "ScheduleSettings":
        try:
            Cron(self.cron, self.timezone)
        except InvalidInput as error:
            raise ValueError(str(error)) from None
        return self
