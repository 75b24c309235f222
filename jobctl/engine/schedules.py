"""What schedules enqueue, and the schedules of the configuration."""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import trio

from jobctl.cron import Cron
from jobctl.errors import ConfigError, InvalidInput, StoreUnavailable, UnknownHandler
from jobctl.finite import encode
from jobctl.model import MAX_DATA, NewJob
from jobctl.schedule import MAX_SCHEDULES, ScheduleSpec
from jobctl.store.base import Store
from jobctl.store.schedules import Planned

if TYPE_CHECKING:
    from jobctl.upkeep_settings import ScheduleSettings

log = logging.getLogger("jobctl.engine")

RETRY_S: Final = 1.0


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


class Anywhere:
    """The handlers of all processes that share the queues: a schedule fires wherever its job can run.

    Args:
        here: Those of this process.
        elsewhere: Names that others can run, or could. It may grow. What their handlers take and want is not known
            here; jobs have the server's defaults.
    """

    def __init__(self, here: Handlers, elsewhere: Collection[str]) -> None:
        self._here, self._elsewhere = here, elsewhere

    def check(self, name: str, data: dict[str, Any]) -> Wish | None:
        """As ``Handlers``."""
        try:
            return self._here.check(name, data)
        except UnknownHandler:
            if name in self._elsewhere:
                return None
            raise


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
    specs = _specs(schedules)
    for spec in specs:
        try:
            job_of(spec, handlers)
        except InvalidInput as error:
            raise ConfigError(f"schedules.{spec.name}: {error}") from None
    return specs


def _specs(schedules: "Mapping[str, ScheduleSettings]") -> list[ScheduleSpec]:
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
        except (InvalidInput, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ConfigError(f"schedules.{name}: {error}") from None
        specs.append(spec)
    return specs


def _payload(data: dict[str, Any]) -> bytes:
    payload = encode(data, "data")  # TOML has nan and inf
    if len(payload) > MAX_DATA:
        raise InvalidInput(f"data has {len(payload)} bytes as JSON; at most {MAX_DATA}")
    return payload


async def sync(
    store: Store, specs: list[ScheduleSpec], *, clock: Callable[[], int], untouched: Collection[str] = ()
) -> None:
    """Make the schedules that belong to the configuration be these; those named in ``untouched`` stay as they are."""
    planned = [Planned(spec, next_run(spec, clock())) for spec in specs]
    done = await store.schedules.sync(planned, untouched=untouched)
    for what, names in (("added", done.added), ("changed", done.changed), ("removed", done.removed)):
        if names:
            log.info("schedules %s with the configuration: %s", what, ", ".join(names))
    for name in done.kept:
        log.warning(
            "[schedules.%s] is not taken: a schedule of that name was made through the API; remove that one "
            "(jobctl schedules remove %s) and send SIGHUP or start the server again, or choose another name",
            name, name,
        )  # fmt: skip


class Resync:
    """Takes over the schedules of a configuration that is read again while the server runs.

    Args:
        store: Where they are.
        handlers: What jobs can be run; these stay the same until the server is started again.
        clock: The wall clock, ms since the epoch.
    """

    def __init__(self, store: Store, handlers: Handlers, *, clock: Callable[[], int]) -> None:
        self._store = store
        self._handlers = handlers
        self._clock = clock
        self._wanted: list[ScheduleSpec] = []
        self._due = trio.Event()

    @staticmethod
    def check(schedules: "Mapping[str, ScheduleSettings]") -> list[ScheduleSpec]:
        """What the configuration says. Raises ConfigError where that can never work."""
        return _specs(schedules)

    def want(self, specs: list[ScheduleSpec]) -> None:
        """Have the schedules be these soon; what was wanted before and is not done yet is forgotten."""
        self._wanted = specs
        self._due.set()

    async def run(self) -> None:
        """Do what is wanted, until it is cancelled. Not at once by whoever wants it: a disk may keep it waiting."""
        while True:
            await self._due.wait()
            self._due = trio.Event()
            taken, left = self._sorted(self._wanted)
            try:
                await sync(self._store, taken, clock=self._clock, untouched=left)
            except StoreUnavailable as error:
                log.warning("the schedules of the configuration wait to be taken over: %s", error)
                self._due.set()
                await trio.sleep(RETRY_S)

    def _sorted(self, specs: list[ScheduleSpec]) -> tuple[list[ScheduleSpec], set[str]]:
        """Those that this server's handlers take, and the names of those that may need others: they are named."""
        taken, left = [], set()
        for spec in specs:
            try:
                job_of(spec, self._handlers)
            except InvalidInput as error:
                left.add(spec.name)
                log.warning("[schedules.%s] is not taken over, it may need a restart: %s", spec.name, error)
            else:
                taken.append(spec)
        return taken, left
