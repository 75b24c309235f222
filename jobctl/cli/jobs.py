"""``jobctl jobs``: look at jobs, and act on them."""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from jobctl.cli import act, prune
from jobctl.cli.connect import Json, Target, TokenFile, Url, WaitServer
from jobctl.cli.output import GLYPHS, duration, paint, print_json, safe, say, shorten
from jobctl.cli.quick import QuickCommand, QuickGroup

if TYPE_CHECKING:
    from jobctl.client.api import Call
    from jobctl.client.session import Session
    from jobctl.model import Job, JobPage

app: Final = typer.Typer(
    cls=QuickGroup, help="List, show, retry, cancel and delete jobs.", no_args_is_help=True, rich_markup_mode=None
)

Id = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
MAX_PAGE: Final = 200


@app.command("list", cls=QuickCommand)
def list_jobs(
    status: act.Statuses = None,
    name: act.Names = None,
    queue: act.Queues = None,
    tag: act.Tags = None,
    created_by: act.CreatedBy = None,
    search: act.Search = None,
    every: Annotated[bool, typer.Option("--all", help="All pages; with --json one job a line.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=200, help="Jobs a page, up to 200.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", metavar="C", help="The page after that one.")] = None,
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
    json: Json = False,
) -> int:
    """List jobs, newest first. Piped: id, status, queue, name, creation time and where it runs, separated by tabs.

    With --all --json it is an export, one job a line; data and result above 4 KiB are null and named in "omitted".
    """
    from jobctl.client import api

    act.check_statuses(status)

    def page_after(cursor: str | None) -> "Call[JobPage]":
        return api.list_jobs(
            statuses=status or (), names=name or (), queues=queue or (), tags=tag or (), created_by=created_by,
            q=search, limit=MAX_PAGE if every else limit, cursor=cursor,
        )  # fmt: skip

    call = page_after(cursor)
    with Target(url, token_file, wait_server).session() as session:
        if every:
            return _export(session, page_after, cursor, as_json=json)
        answer = session.send(call)
    if json:
        print_json(answer.data)
        return 0
    page = api.decode(call, answer)
    now = datetime.now(UTC)
    if sys.stdout.isatty():
        _print_table([_row(job, now) for job in page.jobs])
    else:
        sys.stdout.write("".join(_line(job) for job in page.jobs))
    if page.has_more:
        say(f"there are more: --cursor {page.cursor}")
    return 0


@app.command(cls=QuickCommand)
def show(
    job_id: Id, url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """Show one job, whole."""
    import msgspec

    from jobctl.client import api

    call = api.get_job(job_id)
    with Target(url, token_file, wait_server).session() as session, act.named(job_id):
        answer = session.send(call)
    if json:
        print_json(answer.data)
        return 0
    fields = msgspec.json.decode(answer.data, type=dict[str, Any])
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        if value is None or value in ([], False):
            continue
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        shown = "\n".join(safe(line) for line in text.split("\n")).replace("\n", "\n" + " " * (width + 2))
        sys.stdout.write(f"{name:<{width}}  {paint(shown, text, sys.stdout) if name == 'status' else shown}\n")
    return 0


@app.command(cls=QuickCommand)
def logs(
    job_id: Id,
    after: Annotated[int, typer.Option("--after", metavar="N", min=0, help="Only lines after line N.")] = 0,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job ends; the exit code is the job's.")
    ] = False,
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
    json: Json = False,
) -> int:
    """Print a job's log over all its runs. ``!`` marks what a command wrote to stderr."""
    target = Target(url, token_file, wait_server)
    if follow:
        from jobctl.cli import logs as followed

        return followed.follow(target, job_id, after, as_json=json)
    from jobctl.cli.lines import log_line
    from jobctl.client import api

    with target.session() as session, act.named(job_id):
        while True:
            call = api.logs(job_id, after)
            answer = session.send(call)
            page = api.decode(call, answer)
            if json:
                print_json(answer.data)
            else:
                sys.stdout.write("".join(log_line(line) + "\n" for line in page.lines))
            if not page.has_more or not page.lines:
                return 0
            after = page.lines[-1].n


app.command(cls=QuickCommand)(act.retry)
app.command(cls=QuickCommand)(act.cancel)
app.command(cls=QuickCommand)(act.delete)
app.command("prune", cls=QuickCommand)(prune.prune)


def _export(
    session: "Session", page_after: "Callable[[str | None], Call[JobPage]]", cursor: str | None, *, as_json: bool
) -> int:
    """Every page, printed as it comes; jobs are not read one by one, so that they are printed as the API has them."""
    import msgspec

    from jobctl.client import api

    while True:
        call = page_after(cursor)
        answer = session.send(call)
        page = api.decode(call, answer)
        if as_json:
            members = msgspec.json.decode(answer.data, type=dict[str, msgspec.Raw])
            for job in msgspec.json.decode(members["jobs"], type=list[msgspec.Raw]):
                print_json(bytes(job))
        else:
            sys.stdout.write("".join(_line(job) for job in page.jobs))
            sys.stdout.flush()
        cursor = page.cursor
        if cursor is None:
            return 0


def _line(job: "Job") -> str:
    return "\t".join(map(safe, (job.id, job.status, job.queue, job.name, job.created_at, _place(job)))) + "\n"


def _place(job: "Job") -> str:
    """Where it runs."""
    return (job.processing_by or "") if job.status == "running" else ""


_HEADER: Final = ("ID", "STATUS", "QUEUE", "NAME", "TRY", "AGE", "TIME", "ON", "MESSAGE")


def _row(job: "Job", now: datetime) -> tuple[str, ...]:
    from jobctl.cli import lines

    age = duration((now - lines.moment(job.created_at)).total_seconds())
    took = lines.run_seconds(job, now)
    return (
        safe(job.id), f"{GLYPHS[job.status][0]} {job.status.value}", safe(job.queue), safe(job.name),
        lines.attempt(job), age, "" if took is None else duration(took), safe(_place(job)), lines.message(job),
    )  # fmt: skip


def _print_table(rows: list[tuple[str, ...]]) -> None:
    import shutil

    room = shutil.get_terminal_size().columns
    table = fitting([_HEADER, *rows], room)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        text = shorten("  ".join(cells).rstrip(), room)
        status = row[1].partition(" ")[2]
        sys.stdout.write(text.replace(cells[1], paint(cells[1], status, sys.stdout), 1) + "\n")


def fitting(table: Sequence[tuple[str, ...]], room: int) -> list[tuple[str, ...]]:
    """``table``, its header first, without columns that say nothing, and those that ``room`` characters cannot hold.

    What is left of a line is the message's. Where not even id, status and name fit, the id gives way to its end.
    """
    columns = {column[0]: column for column in zip(*table, strict=True)}
    for name in ("ON", "MESSAGE"):
        if not any(columns[name][1:]):
            del columns[name]

    def taken() -> int:
        widths = [len(name) if name == "MESSAGE" else max(map(len, cells)) for name, cells in columns.items()]
        return sum(widths) + 2 * (len(widths) - 1)

    for name in ("QUEUE", "TRY", "ON", "TIME", "MESSAGE", "AGE"):
        if taken() <= room:
            break
        columns.pop(name, None)
    if taken() > room:
        columns["ID"] = ("ID", *(f"…{job_id[-8:]}" for job_id in columns["ID"][1:]))
    return list(zip(*columns.values(), strict=True))
