"""What schedules enqueue, and the schedules of the configuration."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from jobctl.cron import Cron
from jobctl.errors import ConfigError, InvalidInput
from jobctl.model import MAX_DATA, NewJob
from jobctl.schedule import MAX_SCHEDULES, ScheduleSpec
from jobctl.store.base import Store
from jobctl.store.schedules import Planned

if TYPE_CHECKING:
    from jobctl.upkeep_settings import ScheduleSettings

log = logging.getLogger("jobctl.engine")


class Wish(Protocol):
    """What a handler wants for its jobs; None: the server's default."""

    @property
    def timeout(self) -> float | None:
        """Seconds."""

    @property
    def max_attempts(self) -> int | None:
        """Runs in all."""


class Handlers(Protocol):
    """The registry, as far as schedules need it."""

    def check(self, name: str, data: dict[str, Any]) -> Wish | None:
        """The handler's wishes, if it takes ``data``.

        Raises:
            InvalidInput: there is none of that name, or it does not take this data.
        """


def job_of(spec: ScheduleSpec, handlers: Handlers) -> NewJob:
    """The job of one tick.

    Raises:
        InvalidInput: no handler here takes it (any more).
    """
    wish = handlers.check(spec.job_name, msgspec.json.decode(spec.data, type=dict[str, Any]))
    if wish is None:
        return spec.job(max_attempts=None, timeout=None)
    return spec.job(max_attempts=wish.max_attempts, timeout=wish.timeout)


def next_run(spec: ScheduleSpec, now: int) -> int | None:
    """When it runs next (ms); None while it is disabled.

    Raises:
        InvalidInput: its cron expression or its time zone is wrong.
    """
    found = Cron(spec.cron, spec.timezone).after(now)
    return found if spec.enabled else None


def configured(schedules: "Mapping[str, ScheduleSettings]", handlers: Handlers) -> list[ScheduleSpec]:
    """The schedules of ``[schedules.NAME]``, checked.

    Raises:
        ConfigError: one cannot work; the message names it.
    """
    if len(schedules) > MAX_SCHEDULES:
        raise ConfigError(f"schedules: there are more than {MAX_SCHEDULES}")
    specs = []
    for name, said in schedules.items():
        try:
            spec = ScheduleSpec(
                name=name, cron=said.cron, timezone=said.timezone, job_name=said.job, data=_payload(said.data),
                queue=said.queue, priority=said.priority, max_attempts=said.max_attempts, timeout=said.timeout,
                tags=said.tags, missed=said.missed, enabled=said.enabled,
            )  # fmt: skip
            job_of(spec, handlers)
        except (InvalidInput, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ConfigError(f"schedules.{name}: {error}") from None
        specs.append(spec)
    return specs


def _payload(data: dict[str, Any]) -> bytes:
    payload = msgspec.json.encode(data)
    if len(payload) > MAX_DATA:
        raise InvalidInput(f"data has {len(payload)} bytes as JSON; at most {MAX_DATA}")
    return payload


async def sync(store: Store, specs: list[ScheduleSpec], *, clock: Callable[[], int]) -> None:
    """Make the schedules that belong to the configuration be these; at the server's start, before the API opens."""
    done = await store.schedules.sync([Planned(spec, next_run(spec, clock())) for spec in specs])
    for what, names in (("added", done.added), ("changed", done.changed), ("removed", done.removed)):
        if names:
            log.info("schedules %s with the configuration: %s", what, ", ".join(names))
    for name in done.kept:
        log.warning(
            "[schedules.%s] is not taken: a schedule of that name was made through the API; remove that one "
            "(jobctl schedules remove %s) and start the server again, or choose another name", name, name,
        )  # fmt: skip
