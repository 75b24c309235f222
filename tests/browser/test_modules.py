"""The rules of what is shown, each module by itself: no server is asked, no clock is waited for."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from jobctl.cli.output import duration, safe
from tests.browser.modules_kit import JOB, Js, at

# --- what is shown --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 0.04, 0.96, 3.14, 9.5, 10, 59.9, 60, 185, 3599, 7800, 86399, 86400, 400_000])
def test_durations_are_those_of_the_command_line(js: Js, seconds: float) -> None:
    theirs, ours = js("format", "return m.duration(given);", seconds), duration(seconds)
    assert theirs == ours or (seconds < 10 and abs(float(theirs[:-1]) - float(ours[:-1])) < 0.11)


def test_what_is_made_visible_is_what_the_command_line_makes_visible(js: Js) -> None:
    text = "a\u202eb\u200bc\x1b[31md\x00e\x9ff\xadg\ufeffh\u2066i\nj\tk<b>&amp;é漢🎉"
    assert js("format", "return m.visible(given);", text) == safe(text)


def test_commands_mean_to_a_shell_what_was_typed(js: Js) -> None:
    data = {"text": "it's $HOME `x` \"q\" \\ \n;rm -rf", "--flag": True}
    more = {"data": data, "queue": "slow", "priority": -5, "uniqueKey": "-k", "tags": ["-t", "a b"], "timeout": 60}
    words = shlex.split(js("command", "return m.again(given);", JOB | more))
    assert words[:3] == ["jobctl", "enqueue", "noop"]
    assert json.loads(words[words.index("--data") + 1]) == data
    assert {"--priority=-5", "--unique=-k", "--tag=-t", "--tag=a b"} <= set(words)
    assert words[words.index("--timeout") + 1] == "60"


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("0 * * * *", "every hour"),
        ("5 * * * *", "every hour at minute 5"),
        ("30 2 * * *", "every day at 02:30"),
        ("0 9 * * 1-5", "Monday to Friday at 09:00"),
        ("0 9 * * sun,3", "Sundays, Wednesdays at 09:00"),
        ("0 0 1 * *", "on day 1 of the month at 00:00"),
        ("@daily", "every day at 00:00"),
        ("1,2 3 * * *", None),
        ("0 0 1 1 *", None),
        ("0 0 1 * 1", None),
        ("nonsense", None),
        ("0 0 * * 1#2", None),
    ],
)
def test_plain_cron_in_words(js: Js, cron: str, words: str | None) -> None:
    assert js("cron", "return m.inWords(given);", cron) == words


@pytest.mark.parametrize(
    ("schema", "typed", "value"),
    [
        ({"type": "integer", "minimum": 1}, "7", 7),
        ({"type": "number"}, "1.5", 1.5),
        ({"type": "string"}, "7", "7"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, "x", "x"),
        ({"enum": ["tall", "wide"]}, "1", "wide"),
        ({"$ref": "#/$defs/Size", "$defs": {"Size": {"enum": [1, 2]}}}, "0", 1),
        ({"type": "array", "items": {"type": "string"}}, '["a"]', ["a"]),
        ({"type": "boolean"}, True, True),
        (None, "plain text", "plain text"),
        (None, '{"a": 1}', {"a": 1}),
        ({"type": "string", "format": "date"}, "2026-01-31", "2026-01-31"),
    ],
)
def test_fields_become_values(js: Js, schema: Any, typed: Any, value: Any) -> None:
    field = {"name": "x", "required": True} | ({"schema": schema} if schema else {})
    assert js("fields", "return m.parse(given.field, given.typed);", {"field": field, "typed": typed}) == value
    script = "return m.parse(given.field, m.shown(given.field, given.value));"
    assert js("fields", script, {"field": field, "value": value}) == value


@pytest.mark.parametrize("typed", ["", "1.5", "x"])
def test_a_field_that_cannot_be_is_told_by_name(js: Js, typed: str) -> None:
    field = {"name": "pages", "required": True, "schema": {"type": "integer"}}
    script = "try { return m.parse(given.field, given.typed); } catch (error) { return [error.field, error.message]; }"
    told = js("fields", script, {"field": field, "typed": typed})
    assert told[0] == "pages"
    assert "pages" in told[1]


def test_a_history_is_told_as_attempts(js: Js) -> None:
    steps = [
        {"status": "pending"},
        {"status": "running", "startedAt": at(1)},
        {"status": "running", "startedAt": at(1), "progress": {"value": 0.5, "message": "half"}},
        {"status": "retrying", "startedAt": at(1), "attempts": 1, "error": "boom", "scheduledFor": at(5)},
        {"status": "running", "startedAt": at(5), "attempts": 1},
        {"status": "pending", "attempts": 1},  # given back: the server stopped
        {"status": "running", "startedAt": at(8), "attempts": 1},
        {"status": "running", "startedAt": at(8), "attempts": 1, "cancelRequested": True},
        {"status": "cancelled", "startedAt": at(8), "attempts": 2},
        {"status": "pending"},
        {"status": "cancelled"},
    ]
    updates = [
        {"type": "job_update", "seq": n, "timestamp": at(n), "job": JOB | step | {"version": n}}
        for n, step in enumerate(steps, 1)
    ]
    told = js("timeline", "return m.timeline(given);", updates)
    assert [(each["kind"], each.get("attempt"), each.get("outcome"), each.get("error")) for each in told] == [
        ("created", None, None, None),
        ("attempt", 1, "retrying", "boom"),
        ("attempt", 2, "given back", None),
        ("attempt", 2, "cancelled", None),
        ("asked to stop", None, None, None),
        ("retried", None, None, None),
        ("cancelled", None, None, None),
    ]
    assert told[1]["progress"]["message"] == "half"


def test_time_left_follows_the_pace_so_far(js: Js) -> None:
    running = JOB | {"status": "running", "startedAt": at(0), "progress": {"value": 0.25, "message": None}}
    script = "return m.timeLeft(given.job, given.told, Date.parse(given.now));"
    assert js("timeline", script, {"job": running, "told": at(10), "now": at(12)}) == 28
    assert js("timeline", script, {"job": running | {"progress": None}, "told": at(10), "now": at(12)}) is None


def test_charts_count_ends_and_failures_and_how_long_jobs_waited(js: Js) -> None:
    events = [
        ({"id": "a", "status": "pending"}, 0),
        ({"id": "a", "status": "running", "startedAt": at(2), "version": 2}, 2),
        ({"id": "a", "status": "running", "startedAt": at(2), "version": 3, "progress": {"value": 0.5}}, 3),
        ({"id": "a", "status": "retrying", "version": 4, "attempts": 1, "scheduledFor": at(6)}, 4),
        ({"id": "a", "status": "running", "startedAt": at(7), "version": 5, "attempts": 1}, 7),
        ({"id": "a", "status": "completed", "completedAt": at(8), "version": 6}, 8),
        ({"id": "a", "status": "completed", "completedAt": at(8), "version": 6}, 9),  # told again: not a second end
        ({"id": "b", "status": "failed", "completedAt": at(8), "version": 3}, 8),
        ({"id": "old", "status": "running", "startedAt": at(8), "version": 40, "attempts": 0}, 8),
    ]
    script = """
        const series = new m.Series();
        for (const [job, at] of given.events) series.take(job, at);
        const {completed, failed, wait} = series.lines(Date.parse(given.now));
        const ended = series.ended('default', Date.parse(given.now));
        return [...[completed, failed, wait, ended].map(each => each.slice(-2)), series.ready.size];"""
    given = {"events": [[JOB | fields, at(second)] for fields, second in events], "now": at(9)}
    assert js("series", script, given) == [[0, 0.2], [0.2, 0.2], [2, 1], [0, 0.4], 0]


def test_the_bill_counts_what_polling_would_have_sent(js: Js) -> None:
    script = "const bill = new m.Bill(0); return [0, 29999, 30000, 900000].map(now => bill.polled(now));"
    assert js("api", script) == [3, 3, 6, 93]


def test_filters_survive_the_address(js: Js) -> None:
    lists = {"status": ["failed", "pending"], "name": [], "queue": ["a"], "tag": ["x, y", "é"]}
    given = lists | {"q": "a&b=c", "mine": True}
    script = """
        const text = m.toQuery(given).toString();
        const back = m.fromQuery(new URLSearchParams(text));
        const [api, all] = [m.toApi(given, 'ann'), m.toBulk(m.noFilter(), 'ann')];
        return [back, m.toQuery(back).toString() === text, api.get('createdBy'), all.status.length];"""
    assert js("filter", script, given) == [given, True, "ann", 6]
