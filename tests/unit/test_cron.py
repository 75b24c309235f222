"""When schedules are due: tables around every change of the clock, and a slow reference that agrees."""

import contextlib
import os
import subprocess
import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from importlib import metadata
from itertools import islice

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from jobctl.cron import Cron, zone
from jobctl.errors import InvalidInput

MINUTE, DAY = 60_000, 86_400_000


def ms(text: str, timezone: str = "UTC") -> int:
    """An ISO time, local to ``timezone`` where it has no offset."""
    found = datetime.fromisoformat(text)
    return int((found if found.tzinfo else found.replace(tzinfo=zone(timezone))).timestamp()) * 1000


def shown(instant: int, timezone: str) -> str:
    return datetime.fromtimestamp(instant / 1000, zone(timezone)).strftime("%m-%d %H:%M %z")


def ticks(expression: str, timezone: str, start: str, n: int) -> list[str]:
    """The first ``n`` ticks after ``start``. Looking back from each finds it again."""
    cron, instant, found = Cron(expression, timezone), ms(start, timezone), []
    for _ in range(n):
        after = cron.after(instant)
        assert after is not None
        assert after > instant
        assert cron.latest(after) == after
        assert cron.latest(after - 1) == (instant if found else cron.latest(ms(start, timezone)))
        instant = after
        found.append(shown(instant, timezone))
    return found


@pytest.mark.parametrize(
    ("expression", "timezone", "start", "expected"),
    [
        # a local time that does not exist: the next instant that does
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-30 02:30 +0200"]),
        ("0 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-30 02:00 +0200"]),
        ("30 2 * * *", "America/New_York", "2026-03-07T12:00", ["03-08 03:00 -0400", "03-09 02:30 -0400"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["10-04 02:30 +1100", "10-05 02:15 +1100"]),
        # several of them are one instant, and one tick
        ("*/20 2 * * *", "Europe/Berlin", "2026-03-29T00:00", ["03-29 03:00 +0200", "03-30 02:00 +0200"]),
        ("59 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00", ["03-29 03:00 +0200", "03-29 03:59 +0200"]),
        ("0 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00", ["03-29 03:00 +0200", "03-30 02:00 +0200"]),
        # a local time that occurs twice: once, the first time
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00", ["11-01 01:30 -0400", "11-02 01:30 -0500"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", ["04-05 01:45 +1100", "04-06 01:45 +1030"]),
        (
            "*/30 2 * * *", "Europe/Berlin", "2026-10-25T00:00",
            ["10-25 02:00 +0200", "10-25 02:30 +0200", "10-26 02:00 +0100"],
        ),
        ("30 1,2,3 * * *", "Europe/Berlin", "2026-10-25T02:00+02:00", ["10-25 02:30 +0200", "10-25 03:30 +0100"]),
        # and when the second time has begun already
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T02:10+01:00", ["10-26 02:30 +0100"]),
        # every hour: steps of time, which go on
        (
            "0 * * * *", "Europe/Berlin", "2026-10-25T01:30",
            ["10-25 02:00 +0200", "10-25 02:00 +0100", "10-25 03:00 +0100"],
        ),
        (
            "0 * * * *", "Europe/Berlin", "2026-03-29T00:30",
            ["03-29 01:00 +0100", "03-29 03:00 +0200", "03-29 04:00 +0200"],
        ),
        (
            "30 * * * *", "America/New_York", "2026-11-01T00:45",
            ["11-01 01:30 -0400", "11-01 01:30 -0500", "11-01 02:30 -0500"],
        ),
        (
            "*/15 * * * *", "Australia/Lord_Howe", "2026-04-05T01:20",
            ["04-05 01:30 +1100", "04-05 01:45 +1100", "04-05 01:30 +1030"],
        ),
        # ordinary days
        ("30 2 * * *", "UTC", "2026-03-28T12:00", ["03-29 02:30 +0000", "03-30 02:30 +0000"]),
        ("0 9 * * MON-FRI", "Europe/Berlin", "2026-01-02T10:00", ["01-05 09:00 +0100", "01-06 09:00 +0100"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["02-29 00:00 +0000", "02-29 00:00 +0000"]),
        ("0 0 L * *", "UTC", "2026-01-15T00:00", ["01-31 00:00 +0000", "02-28 00:00 +0000"]),
        ("@daily", "UTC", "2026-01-15T10:00", ["01-16 00:00 +0000", "01-17 00:00 +0000"]),
        ("@Hourly", "UTC", "2026-01-15T10:20", ["01-15 11:00 +0000", "01-15 12:00 +0000"]),
        ("0 0 13 * FRI", "UTC", "2026-02-10T00:00", ["02-13 00:00 +0000", "02-20 00:00 +0000"]),  # either, as in Debian
    ],
)
def test_the_next_ticks(expression: str, timezone: str, start: str, expected: list[str]) -> None:
    assert ticks(expression, timezone, start, len(expected)) == expected


def test_the_29th_of_february_comes_in_leap_years_only() -> None:
    found = Cron("0 0 29 2 *").between(ms("2026-01-01"), ms("2040-01-01"))
    assert [datetime.fromtimestamp(each / 1000, UTC).year for each in found] == [2028, 2032, 2036]


def test_between_leaves_out_its_start_and_has_its_end() -> None:
    start = ms("2026-01-01T00:00")
    assert list(Cron("* * * * *").between(start, start + 3 * MINUTE)) == [start + n * MINUTE for n in (1, 2, 3)]
    assert list(Cron("* * * * *").between(start, start)) == []


def test_a_tick_is_not_after_itself_nor_after_a_moment_of_its_own_second() -> None:
    noon = ms("2026-01-01T12:00")
    cron = Cron("0 12 * * *")
    assert cron.after(noon - 1) == noon
    assert cron.after(noon) == cron.after(noon + 999) == noon + DAY
    assert cron.latest(noon - 1) == noon - DAY
    assert cron.latest(noon) == cron.latest(noon + 999) == noon


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0 0 31 2 *", "never comes true"),
        ("0 0 30 2 *", "never comes true"),
        ("0 0 31 4,6,9,11 *", "never comes true"),
        ("61 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day-of-month"),
        ("* * * 13 *", "month"),
        ("* * * * 9", "day-of-week"),
        ("* * * * MON#6", "day-of-week"),
        ("*/0 * * * *", "minute"),
        ("5-1 * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("٣ * * * *", "minute"),
        ("* * * *", "five fields"),
        ("0 * * * * *", "five fields"),
        ("", "five fields"),
        ("@often", "@daily"),
        ("9" * 190 + " * * * *", "minute"),
        ("30 2 * * * \x1b[2J", "five fields"),
    ],
)
def test_an_expression_that_cannot_be_is_refused(expression: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        Cron(expression)
    assert caught.value.field == "cron"
    assert "\x1b" not in str(caught.value)


NO_ZONES = ["Mars/Base", "Europe", "../../etc/passwd", "/etc/passwd", "a\0b", "\ud800", "", "x" * 300]


@pytest.mark.parametrize("name", NO_ZONES)
def test_a_time_zone_that_is_none_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoneinfo.available_timezones", None)  # it opens every file of the database: 170 ms
    with pytest.raises(InvalidInput, match="there is no time zone") as caught:
        Cron("* * * * *", name)
    assert caught.value.field == "timezone"


def test_utc_needs_no_time_zone_database(monkeypatch: pytest.MonkeyPatch) -> None:
    zone.cache_clear()
    monkeypatch.setattr("zoneinfo.ZoneInfo", None)
    assert Cron("@daily", "UTC").after(0) == DAY


def test_a_machine_without_a_time_zone_database_has_all_zones_all_the_same() -> None:
    """As in a slim container: what the zones are comes with jobctl's own dependencies."""
    code = "from jobctl.cron import Cron; print(Cron('0 3 * * *', 'Europe/Zurich').after(1_782_000_000_000))"
    nowhere = {**os.environ, "PYTHONTZPATH": ""}
    found = subprocess.run([sys.executable, "-c", code], env=nowhere, capture_output=True, text=True, check=True)
    assert int(found.stdout) == ms("2026-06-21T01:00:00+00:00")  # summer time


def test_zones_are_among_the_dependencies() -> None:
    assert any(each.startswith("tzdata") and "extra" not in each for each in metadata.requires("jobctl") or ())


def test_a_machine_without_a_time_zone_database_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    zone.cache_clear()
    monkeypatch.setattr("zoneinfo.ZoneInfo", none)
    with pytest.raises(InvalidInput, match="install the package tzdata"):
        Cron("@daily", "Europe/Zurich")


# --- the same, found by looking at every minute's local time ---------------------------------------------------------

CHANGES = [
    ("Europe/Berlin", "2026-03-29"), ("Europe/Berlin", "2026-10-25"), ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"), ("Australia/Lord_Howe", "2026-04-05"), ("Australia/Lord_Howe", "2026-10-04"),
    ("Antarctica/Troll", "2026-10-25"), ("America/Havana", "2026-11-01"), ("Asia/Beirut", "2026-03-29"),
    ("Pacific/Apia", "2011-12-30"), ("UTC", "2026-03-29"),
]  # fmt: skip
EXPRESSIONS = [
    "*/7 * * * *", "0 * * * *", "45 * * * *", "30 2 * * *", "*/20 1-3 * * *", "0 0 * * *", "5 */3 * * *", "0 0 1 * *",
]  # fmt: skip


def reference(expression: str, timezone: str, start: int, end: int) -> list[int]:
    """Every local time that the expression names, put on the line of time one by one."""
    there = zone(timezone)
    every_hour = CronSim(expression, datetime(2000, 1, 1)).hours == set(range(24))  # noqa: DTZ001 - a local time
    found: set[int] = set()
    local = datetime.fromtimestamp(start / 1000, there).replace(tzinfo=None) - timedelta(days=1)
    for n in CronSim(expression, local):
        first = int(n.replace(tzinfo=there).timestamp())
        second = int(n.replace(tzinfo=there, fold=1).timestamp())
        if min(first, second) * 1000 > end + DAY:
            return sorted(each * 1000 for each in found if start < each * 1000 <= end)
        if second >= first:
            found.update((first, second) if every_hour else (first,))
            continue
        offset = datetime.fromtimestamp(second, there).utcoffset()
        while datetime.fromtimestamp(second, there).utcoffset() == offset:
            second += 60
        found.add(second)
    raise AssertionError


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EXPRESSIONS), st.sampled_from(CHANGES), st.integers(-30 * 3600, 0), st.data())
def test_ticks_around_a_change_of_the_clock_are_those_of_the_reference(
    expression: str, change: tuple[str, str], offset: int, data: st.DataObject
) -> None:
    timezone, day = change
    start = ms(day) + offset * 1000
    end = start + 40 * 3_600_000
    expected = reference(expression, timezone, start, end)
    cron = Cron(expression, timezone)
    assert list(cron.between(start, end)) == expected
    now = data.draw(st.integers(start, end))
    before = [each for each in expected if each <= now]
    if before:
        assert cron.latest(now) == before[-1]


@given(st.text(max_size=60) | st.text(alphabet="0123456789*/,-#LW MONFRI@", max_size=40))
def test_any_text_is_an_expression_or_is_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert list(islice(Cron(text).between(ms("2026-01-01"), ms("2099-01-01")), 3))


def test_the_zones_of_the_tables_exist_here() -> None:
    assert {timezone for timezone, _ in CHANGES} <= zoneinfo.available_timezones()
