"""``jobctl schedules``: jobs that come again and again."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from jobctl.cli.connect import Json, Target, TokenFile, Url, WaitServer
from jobctl.cli.output import emit, print_json, safe
from jobctl.cli.quick import QuickCommand, QuickGroup
from jobctl.errors import InvalidInput

if TYPE_CHECKING:
    from jobctl.client.api import Call
    from jobctl.schedule import Schedule

app: Final = typer.Typer(
    cls=QuickGroup, help="List, add, change and run schedules.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule.")]
Fields = Annotated[
    list[str] | None, typer.Argument(metavar="[k=v | k:=JSON ...]", help="Fields of the jobs' data.")
]
Cron = Annotated[
    str | None, typer.Option("--cron", metavar="EXPR", help="Minute, hour, day, month, weekday: '30 2 * * *'; @daily.")
]
Zone = Annotated[
    str | None, typer.Option("--timezone", metavar="ZONE", help="Where it is that time: Europe/Zurich [UTC].")
]
JobName = Annotated[str | None, typer.Option("--job", metavar="NAME", help="The handler.")]
Data = Annotated[str | None, typer.Option("--data", metavar="JSON", help="The jobs' data, an object.")]
Queue = Annotated[str | None, typer.Option("--queue", metavar="NAME", help="[default]")]
Priority = Annotated[int | None, typer.Option("--priority", metavar="N", help="Higher runs first [0].")]
Attempts = Annotated[int | None, typer.Option("--max-attempts", metavar="N", help="Runs in all [3].")]
Timeout = Annotated[float | None, typer.Option("--timeout", metavar="S", help="Seconds for one run [3600].")]
Tag = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="May be repeated.")]
Missed = Annotated[
    str | None,
    typer.Option("--missed", metavar="skip|once", help="Runs missed while no server ran: none, or one for all [skip]."),
]


@app.command("list", cls=QuickCommand)
def list_schedules(
    url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """List the schedules, with when they run next."""
    from jobctl.client import api, upkeep

    call = upkeep.schedules()
    with Target(url, token_file, wait_server).session() as session:
        answer = session.send(call)
    if json:
        print_json(answer.data)
        return 0
    now = datetime.now(UTC)
    rows = [("NAME", "CRON", "JOB", "RUNS", "NEXT RUN")]
    for each in api.decode(call, answer).schedules:
        error = f"; last: {safe(each.error)}" if each.error else ""
        rows.append(
            (safe(each.name), safe(each.cron), safe(each.job_name), str(each.run_count), next_run(each, now) + error)
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    return 0


@app.command(cls=QuickCommand)
def show(
    name: Name, url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """Show one schedule, whole."""
    from jobctl.client import upkeep

    return _send(upkeep.schedule(name), Target(url, token_file, wait_server), as_json=json, tell=_details)


@app.command(cls=QuickCommand)
def add(
    name: Name,
    fields: Fields = None,
    cron: Cron = None,
    job: JobName = None,
    timezone: Zone = None,
    data: Data = None,
    queue: Queue = None,
    priority: Priority = None,
    max_attempts: Attempts = None,
    timeout: Timeout = None,
    tag: Tag = None,
    missed: Missed = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Let it rest for now.")] = False,
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
    json: Json = False,
) -> int:
    """Add a schedule: enqueue a job whenever the cron expression comes true.

    k=v gives a text, k:=JSON any value: jobctl schedules add nightly --cron '30 2 * * *' --job backup depth:=2
    """
    from jobctl.cli.enqueue import parse_data
    from jobctl.client import upkeep

    if cron is None or job is None:
        raise typer.BadParameter("needs --cron and --job")
    given = _given(cron, job, timezone, queue, priority, max_attempts, timeout, tag, missed)
    call = upkeep.add_schedule(name, {**given, "data": parse_data(data, fields or []), "enabled": not disabled})
    return _send(call, Target(url, token_file, wait_server), as_json=json, tell=_line)


@app.command(cls=QuickCommand)
def edit(
    name: Name,
    fields: Fields = None,
    cron: Cron = None,
    job: JobName = None,
    timezone: Zone = None,
    data: Data = None,
    queue: Queue = None,
    priority: Priority = None,
    max_attempts: Attempts = None,
    timeout: Timeout = None,
    tag: Tag = None,
    missed: Missed = None,
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
    json: Json = False,
) -> int:
    """Change a schedule; what is not given stays. k=v changes single fields of its data, --data all of them."""
    from jobctl.cli.enqueue import parse_data
    from jobctl.client import upkeep

    given = _given(cron, job, timezone, queue, priority, max_attempts, timeout, tag, missed)
    if not given and data is None and not fields:
        raise typer.BadParameter("what is to change?")
    changed = parse_data(data, fields or [])
    target = Target(url, token_file, wait_server)
    with target.session() as session:
        before = upkeep.said(session.get(upkeep.schedule(name)))
        kept = before["data"] if data is None else {}
        answer = session.send(upkeep.replace_schedule(name, {**before, **given, "data": {**kept, **changed}}))
    return _tell(answer.data, as_json=json, tell=_line)


@app.command(cls=QuickCommand)
def enable(
    name: Name, url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """Let a schedule run from now on."""
    from jobctl.client import upkeep

    return _send(upkeep.enable_schedule(name), Target(url, token_file, wait_server), as_json=json, tell=_line)


@app.command(cls=QuickCommand)
def disable(
    name: Name, url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """Let a schedule rest."""
    from jobctl.client import upkeep

    return _send(upkeep.disable_schedule(name), Target(url, token_file, wait_server), as_json=json, tell=_line)


@app.command(cls=QuickCommand)
def trigger(
    name: Name, url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """Enqueue its job now, and print the job's id. When it runs next stays as it is."""
    from jobctl.client import api, upkeep

    call = upkeep.trigger_schedule(name)
    with Target(url, token_file, wait_server).session() as session:
        answer = session.send(call)
    job_id = api.decode(call, answer).id
    done = f"the job is enqueued: {job_id}"
    if json:
        print_json(answer.data, done=done)
    else:
        emit(f"{safe(job_id)}\n", done=done)
    return 0


@app.command(cls=QuickCommand)
def remove(
    name: Name, url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """Remove a schedule; jobs that it has made stay."""
    from jobctl.client import upkeep

    with Target(url, token_file, wait_server).session() as session:
        answer = session.send(upkeep.remove_schedule(name))
    told = f"{safe(name)} removed"
    if json:
        print_json(answer.data, done=told)
    else:
        emit(told + "\n", done=told)
    return 0


def next_run(schedule: "Schedule", now: datetime) -> str:
    """``in 2 h 5 min (Mon 14:05 Europe/Zurich)``; the day's date too where it is more than six days away."""
    from jobctl.cli.lines import moment
    from jobctl.durations import span_in_words

    if not schedule.enabled:
        return "disabled"
    if schedule.next_run is None:
        return "never"
    due = moment(schedule.next_run)
    there, zone = _local(due, schedule.timezone)
    today = _local(now, schedule.timezone)[0]
    days = (there.date() - today.date()).days
    form = "%a %H:%M" if 0 <= days < 7 else "%a %d %b %H:%M" if there.year == today.year else "%a %d %b %Y %H:%M"
    left = (due - now).total_seconds()
    when = "now" if left < 1 else f"in {span_in_words(left)}"
    return f"{when} ({there.strftime(form)} {safe(zone)})"


def _local(instant: datetime, zone: str) -> tuple[datetime, str]:
    import zoneinfo

    try:
        return instant.astimezone(UTC if zone == "UTC" else zoneinfo.ZoneInfo(zone)), zone
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # the server knows it, this machine does not
        return instant.astimezone(UTC), "UTC"


def _given(
    cron: str | None, job: str | None, timezone: str | None, queue: str | None, priority: int | None,
    max_attempts: int | None, timeout: float | None, tags: list[str] | None, missed: str | None,
) -> dict[str, Any]:  # fmt: skip
    if missed not in (None, "skip", "once"):
        raise InvalidInput("--missed is skip or once")
    fields = {
        "cron": cron, "jobName": job, "timezone": timezone, "queue": queue, "priority": priority,
        "maxAttempts": max_attempts, "timeout": timeout, "tags": tags or None, "missed": missed,
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value is not None}


def _send(
    call: "Call[Schedule]", target: Target, *, as_json: bool, tell: "Callable[[Schedule, datetime], str]"
) -> int:
    with target.session() as session:
        answer = session.send(call)
    return _tell(answer.data, as_json=as_json, tell=tell)


def _tell(data: bytes, *, as_json: bool, tell: "Callable[[Schedule, datetime], str]") -> int:
    import msgspec

    from jobctl.schedule import Schedule

    schedule = msgspec.json.decode(data, type=Schedule)
    done = f"it is done: {_line(schedule, datetime.now(UTC))}" if tell is _line else ""
    if as_json:
        print_json(data, done=done)
    else:
        emit(tell(schedule, datetime.now(UTC)) + "\n", done=done)
    return 0


def _line(schedule: "Schedule", now: datetime) -> str:
    what = next_run(schedule, now)
    return f"{safe(schedule.name)}: {what if what == 'disabled' else f'next run {what}'}"


def _details(schedule: "Schedule", now: datetime) -> str:
    import msgspec

    fields = msgspec.to_builtins(schedule)
    fields["nextRun"] = next_run(schedule, now)
    width = max(map(len, fields))
    lines = []
    for name, value in fields.items():
        if value is None or value in ([], ()):
            continue
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        lines.append(f"{name:<{width}}  {safe(text)}")
    return "\n".join(lines)
