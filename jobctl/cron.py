"""When a schedule is due: a cron expression in a time zone, across changes of the clock.

Pure: instants come as arguments (ms since the epoch) and go as results. Expressions have the five fields and the
meaning of Debian's cron (https://manpages.debian.org/crontab.5), read by cronsim, and ``L``, ``#`` as cronsim has
them; or they are a word such as ``@daily``. Where the clock changes:

* A local time that occurs twice is due once, the first time; one that does not exist is due at the next instant that
  does. (All of a gap's local times are that one instant: one tick.)
* A schedule that runs in *every* hour (``*/15 * * * *``) means steps of time rather than local times, and goes on
  through an hour that is repeated: it would otherwise stand still for that hour.
"""

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final

from cronsim import CronSim, CronSimError

from jobctl.errors import InvalidInput

WORDS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_NEAR_S: Final = 3 * 3600
"""Well above what any clock is set back by at the end of summer time."""
_NONE: Final = timedelta()
_START: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - a local time, of no zone
_EVERY_HOUR: Final = frozenset(range(24))


class Cron:
    """A cron expression in a time zone.

    Args:
        expression: Five fields, or a word of ``WORDS``.
        timezone: A name of the IANA database, or ``UTC``.

    Raises:
        InvalidInput: one of them is not of that form, or the expression never comes true; ``field`` is ``cron`` or
            ``timezone``.
    """

    __slots__ = ("_every_hour", "_fields", "_zone")

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        self._fields = WORDS.get(expression.strip().lower()) or " ".join(expression.split())
        self._every_hour = _check(self._fields, expression) == _EVERY_HOUR
        self._zone = zone(timezone)

    def after(self, instant: int) -> int | None:
        """The first tick later than ``instant``; None where there is none within 50 years."""
        second = instant // 1000
        local = self._local(second)
        found = next((due for n in self._from(local) if (due := self._due(n)) > second), None)
        if self._every_hour and (back := self._set_back(second)):
            for n in self._from(local - 2 * back):
                if n > local + 2 * back:
                    break
                again = self._again(n)
                if again is not None and again > second:
                    found = again if found is None else min(found, again)
                    break
        return None if found is None else found * 1000

    def latest(self, instant: int) -> int | None:
        """The last tick at or before ``instant``; None where there is none within 50 years."""
        second = instant // 1000
        local = self._local(second) + timedelta(seconds=1)
        back = self._set_back(second)
        local += back  # the clock has shown times as late as this already
        found = next((due for n in self._back_from(local) if (due := self._due(n)) <= second), None)
        if self._every_hour and back:
            for n in self._back_from(local):
                if n < local - 3 * back:
                    break
                again = self._again(n)
                if again is not None and again <= second:
                    found = again if found is None else max(found, again)
                    break
        return None if found is None else found * 1000

    def between(self, start: int, end: int) -> Iterator[int]:
        """Every tick with ``start < tick <= end``, in order."""
        tick = self.after(start)
        while tick is not None and tick <= end:
            yield tick
            tick = self.after(tick)

    # --- local times and instants (seconds) --------------------------------------------------------------------

    def _from(self, local: datetime) -> Iterator[datetime]:
        return iter(CronSim(self._fields, local))

    def _back_from(self, local: datetime) -> Iterator[datetime]:
        return iter(CronSim(self._fields, local, reverse=True))

    def _local(self, second: int) -> datetime:
        return datetime.fromtimestamp(second, self._zone).replace(tzinfo=None, fold=0)

    def _offset(self, second: int) -> int:
        return round((datetime.fromtimestamp(second, self._zone).utcoffset() or _NONE).total_seconds())

    def _set_back(self, second: int) -> timedelta:
        """By how much the clock is set back, where that happens so near that local times around are not unique."""
        by = self._offset(second - _NEAR_S) - self._offset(second + _NEAR_S)
        near = by > 0 and self._offset(second - 2 * by) > self._offset(second + 2 * by)
        return timedelta(seconds=by) if near else _NONE

    def _instants(self, local: datetime) -> tuple[int, int]:
        first = local.replace(tzinfo=self._zone, fold=0)
        return int(first.timestamp()), int(first.replace(fold=1).timestamp())

    def _due(self, local: datetime) -> int:
        """When it is first ``local`` there; for a time in a gap, the gap's end (PEP 495 tells the three apart)."""
        first, second = self._instants(local)
        if first <= second:
            return first
        low, high = second, first  # the change lies between
        before = self._offset(low)
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle) == before:
                low = middle
            else:
                high = middle
        return high

    def _again(self, local: datetime) -> int | None:
        """When it is ``local`` for the second time; None where it is so once."""
        first, second = self._instants(local)
        return second if second > first else None


@lru_cache(maxsize=256)
def zone(name: str) -> tzinfo:
    """The time zone of that name.

    Raises:
        InvalidInput: there is none; ``field`` is ``timezone``.
    """
    if name == "UTC":
        return UTC  # also where the machine has no time zone database
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        hint = "" if _has_zones() else "; this machine has none at all: install the package tzdata"
        raise InvalidInput(
            f"timezone: there is no time zone {name[:100]!r}; names are like Europe/Zurich{hint}", field="timezone"
        ) from None


def _has_zones() -> bool:
    try:
        zoneinfo.ZoneInfo("UTC")  # in every database
    except (zoneinfo.ZoneInfoNotFoundError, OSError):
        return False
    return True


@lru_cache(maxsize=256)
def _check(fields: str, written: str) -> frozenset[int]:
    """The hours of an expression that comes true at some time."""
    if len(fields.split()) != 5:
        words = ", ".join(WORDS)
        raise InvalidInput(
            f"cron: {written[:200]!r} has not the five fields minute, hour, day of month, month, weekday "
            f"(such as '30 2 * * *'), and is none of {words}",
            field="cron",
        )
    try:
        cron = CronSim(fields, _START)
        hours = frozenset(cron.hours)
        next(cron)
    except (CronSimError, ValueError) as error:
        if _is_well_formed(fields):
            raise _never(written) from None
        what = str(error).removeprefix("Bad ") if isinstance(error, CronSimError) else "number"
        raise InvalidInput(f"cron: {written[:200]!r} has a {what} that cannot be read", field="cron") from None
    except StopIteration:
        raise _never(written) from None
    return hours


def _is_well_formed(fields: str) -> bool:
    """Whether each field is right by itself: cronsim refuses the 31st of February as a bad day."""
    minute, hour, day, month, weekday = fields.split()
    try:
        CronSim(f"{minute} {hour} {day} * {weekday}", _START)
        CronSim(f"{minute} {hour} * {month} {weekday}", _START)
    except (CronSimError, ValueError):
        return False
    return True


def _never(written: str) -> InvalidInput:
    return InvalidInput(f"cron: {written[:200]!r} never comes true: no such day exists", field="cron")
