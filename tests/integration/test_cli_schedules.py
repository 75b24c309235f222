"""``jobctl schedules`` and ``jobctl jobs prune``, as a shell sees them; against a real server."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import os
import pty
import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from cli_kit import Cli, cli  # noqa: F401

from jobctl.cli.schedules import next_run
from jobctl.client import upkeep
from jobctl.engine.registry import Registry
from jobctl.schedule import ScheduleChange, ScheduleSpec, ScheduleState
from tests.kit import Running, StartServer, until


@pytest.fixture
async def server(start_server: StartServer, cli: Cli) -> Running:
    registry = Registry()

    @registry.job("backup")
    async def backup(ctx: Any, depth: int = 1, target: str = "") -> dict[str, Any]:
        return {"depth": depth}

    running = await start_server(
        registry, accept_unknown=False, schedules={"fixed": {"cron": "0 0 1 1 *", "job": "backup", "timezone": "UTC"}}
    )
    cli.url = running.service.url
    return running


# --- the next run in words -----------------------------------------------------------------------------------------

NOW = datetime(2026, 6, 1, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("due", "zone", "words"),
    [
        ("2026-06-01T12:05:00", "Europe/Zurich", "in 2 h 5 min (Mon 14:05 Europe/Zurich)"),
        ("2026-06-01T10:00:30", "UTC", "in 30 s (Mon 10:00 UTC)"),
        ("2026-06-01T10:00:00", "UTC", "now (Mon 10:00 UTC)"),
        ("2026-06-01T09:59:00", "UTC", "now (Mon 09:59 UTC)"),
        ("2026-06-07T23:00:00", "UTC", "in 6 d 13 h (Sun 23:00 UTC)"),
        ("2026-06-08T00:30:00", "UTC", "in 6 d 14 h (Mon 08 Jun 00:30 UTC)"),
        ("2027-01-01T00:00:00", "America/New_York", "in 213 d (Thu 31 Dec 19:00 America/New_York)"),
        ("2028-02-29T00:00:00", "UTC", "in 637 d (Tue 29 Feb 2028 00:00 UTC)"),
        ("2026-06-01T12:00:00", "No/Where", "in 2 h (Mon 12:00 UTC)"),
        ("2026-06-01T12:00:00", "\x1b[2J", "in 2 h (Mon 12:00 UTC)"),
    ],
)
def test_the_next_run_is_told_in_words(due: str, zone: str, words: str) -> None:
    at = int(datetime.fromisoformat(due).replace(tzinfo=UTC).timestamp() * 1000)
    assert next_run(shown(timezone=zone, next_run=at), NOW) == words


def shown(*, next_run: int | None, enabled: bool = True, timezone: str = "UTC") -> Any:
    spec = ScheduleSpec(name="a", cron="@daily", timezone=timezone, job_name="b", enabled=enabled)
    return ScheduleState(
        spec=spec, source="api", created_by="root", created_at=0, updated_at=0, version=1, next_run=next_run
    ).shown(inline=False)


def test_one_that_does_not_run_says_so() -> None:
    assert next_run(shown(next_run=None, enabled=False), NOW) == "disabled"
    assert next_run(shown(next_run=None), NOW) == "never"


def test_what_a_schedule_says_can_be_sent_back_as_it_is() -> None:
    fields = upkeep.said(shown(next_run=None))
    assert fields.keys() == set(ScheduleChange.__struct_encode_fields__)


# --- schedules -----------------------------------------------------------------------------------------------------


async def test_a_schedule_from_its_making_to_its_end(cli: Cli, server: Running) -> None:
    made = await cli(
        "schedules", "add", "nightly", "depth:=2", "target=/srv", "--cron", "30 2 * * *", "--job", "backup",
        "--timezone", "Europe/Zurich", "--queue", "night", "--priority", "3", "--max-attempts", "2", "--timeout", "60",
        "--tag", "a", "--tag", "b", "--missed", "once",
    )  # fmt: skip
    assert made.code == 0, made.err
    assert re.fullmatch(r"nightly: next run in .+ \(\w{3} 02:30 Europe/Zurich\)\n", made.out)
    (told,) = (await cli("schedules", "show", "nightly", "--json")).json
    assert told["data"] == {"depth": 2, "target": "/srv"}
    assert (told["queue"], told["priority"], told["maxAttempts"], told["timeout"]) == ("night", 3, 2, 60.0)
    assert (told["tags"], told["missed"], told["timezone"]) == (["a", "b"], "once", "Europe/Zurich")

    listed = await cli("schedules", "list")
    assert [line.split()[0] for line in listed.lines] == ["NAME", "fixed", "nightly"]
    assert "(Fri 01 Jan 2027 00:00 UTC)" in listed.out or "01 Jan" in listed.out
    as_json = (await cli("schedules", "list", "--json")).json[0]
    assert [each["name"] for each in as_json["schedules"]] == ["fixed", "nightly"]

    changed = await cli("schedules", "edit", "nightly", "depth:=5", "--cron", "0 12 * * *")
    assert "12:00 Europe/Zurich" in changed.out
    (told,) = (await cli("schedules", "show", "nightly", "--json")).json
    assert told["data"] == {"depth": 5, "target": "/srv"}, "a field alone is changed"
    assert (told["tags"], told["maxAttempts"], told["missed"]) == (["a", "b"], 2, "once"), "the rest stays"
    assert (await cli("schedules", "edit", "nightly", "--data", "{}", "--json")).json[0]["data"] == {}

    assert (await cli("schedules", "disable", "nightly")).out == "nightly: disabled\n"
    assert "nightly" in (await cli("schedules", "list")).out
    triggered = await cli("schedules", "trigger", "nightly")
    job_id = triggered.out.strip()
    await until(lambda: server.service.runner.live == ())
    assert (await cli("jobs", "show", job_id, "--json")).json[0]["createdBy"] == "schedule:nightly"
    assert (await cli("schedules", "enable", "nightly")).out.startswith("nightly: next run in ")
    text = (await cli("schedules", "show", "nightly")).out
    assert re.search(r"^runCount +1$", text, re.MULTILINE)
    assert re.search(r"^nextRun +in .* \(.* 12:00 Europe/Zurich\)$", text, re.MULTILINE)
    assert (await cli("schedules", "remove", "nightly")).out == "nightly removed\n"
    assert (await cli("schedules", "show", "nightly")).code == 2


async def test_a_schedule_may_be_made_at_rest(cli: Cli, server: Running) -> None:
    made = await cli("schedules", "add", "a", "--cron", "@daily", "--job", "backup", "--disabled")
    assert (made.code, made.out) == (0, "a: disabled\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "a", "--job", "backup"), "needs --cron and --job"),
        (("add", "a", "--cron", "0 0 31 2 *", "--job", "backup"), "never comes true"),
        (("add", "a", "--cron", "@daily", "--job", "nope"), "this server knows: backup"),
        (("add", "a", "--cron", "@daily", "--job", "backup", "--timezone", "Mars"), "no time zone 'Mars'"),
        (("add", "a", "--cron", "@daily", "--job", "backup", "--missed", "all"), "skip or once"),
        (("add", "a", "depth:=x", "--cron", "@daily", "--job", "backup"), "depth:= is not JSON"),
        (("add", "a", "width:=1", "--cron", "@daily", "--job", "backup"), "width"),
        (("add", "fixed", "--cron", "@daily", "--job", "backup"), "there is a schedule fixed already"),
        (("edit", "fixed", "--cron", "@daily"), r"change [schedules.fixed] there"),
        (("edit", "fixed"), "what is to change?"),
        (("disable", "fixed"), r"change [schedules.fixed] there"),
        (("remove", "fixed"), r"change [schedules.fixed] there"),
        (("show", "nope"), "there is no such schedule"),
        (("trigger", "nope"), "there is no such schedule"),
    ],
)
async def test_what_cannot_be_is_one_line_and_exit_code_2(
    cli: Cli, server: Running, arguments: tuple[str, ...], said: str
) -> None:
    done = await cli("schedules", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1


# --- pruning -------------------------------------------------------------------------------------------------------


async def finished(server: Running, n: int) -> None:
    ids = await server.enqueue(n, name="backup")
    await until(lambda: not server.service.runner.live)

    async def done() -> bool:
        jobs = [(await server.store.job(each, owner=None)).value for each in ids]
        return all(job.status == "completed" for job in jobs)

    await until(done)
    server.store.clock = lambda: int(time.time() * 1000) + 3_600_000  # type: ignore[attr-defined]


async def test_pruning_in_a_script_needs_a_yes(cli: Cli, server: Running) -> None:
    await finished(server, 3)
    asked = await cli("jobs", "prune", "--older-than", "30m")
    assert (asked.code, asked.out) == (2, "")
    assert "would remove 3 jobs (3 completed) that ended before 2" in asked.err
    assert "--yes" in asked.err
    counted = await cli("jobs", "prune", "--older-than", "30m", "--dry-run")
    assert (counted.code, counted.out) == (0, "3 jobs (3 completed) would be removed\n")
    assert (await cli("jobs", "prune", "--older-than", "30m", "--status", "failed", "--yes")).out == "0 jobs removed\n"
    assert (await cli("jobs", "prune", "--older-than", "2h", "--yes")).out == "0 jobs removed\n"
    done = await cli("jobs", "prune", "--older-than", "30m", "--yes", "--json")
    assert (done.json[0]["count"], done.json[0]["byStatus"]["completed"]) == (3, 3)
    assert (await cli("jobs", "prune", "--older-than", "30m")).out == "0 jobs removed\n", "nothing to ask about"


@pytest.mark.parametrize(("answer", "left"), [(b"y\n", 0), (b"n\n", 2), (b"\n", 2)])
async def test_a_person_is_asked_with_the_number(cli: Cli, server: Running, answer: bytes, left: int) -> None:
    await finished(server, 2)
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer)
        with trio.fail_after(30):
            command = cli.start("jobs", "prune", "--older-than", "30m", stdin=theirs, stdout=theirs, stderr=theirs)
            code = await command.ended()
        seen = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert code == 0
    assert "remove 2 jobs (2 completed) that ended before" in seen
    assert ("nothing was removed" in seen) == bool(left)
    assert (await server.store.stats(owner=None)).value.total == left


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "needs --older-than"),
        (("--older-than", "soon"), "write it like 30d"),
        (("--older-than", "1d", "--status", "running"), "completed, failed, cancelled"),
    ],
)
async def test_a_pruning_is_asked_for_clearly(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    done = await cli("jobs", "prune", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


