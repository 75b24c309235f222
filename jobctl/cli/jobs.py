"""``jobctl jobs``: look at jobs, and act on them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from jobctl.cli.connect import Json, Target, TokenFile, Url, WaitServer
from jobctl.cli.output import GLYPHS, duration, exit_of, paint, print_json, safe, say, shorten
from jobctl.cli.quick import QuickCommand, QuickGroup
from jobctl.errors import ApiError

if TYPE_CHECKING:
    from jobctl.client.api import Call
    from jobctl.model import Job

app: Final = typer.Typer(
    cls=QuickGroup, help="List, show, retry, cancel and delete jobs.", no_args_is_help=True, rich_markup_mode=None
)

Many = list[str] | None
Id = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID ...", help="The jobs' ids.")]


@app.command("list", cls=QuickCommand)
def list_jobs(
    status: Annotated[Many, typer.Option("--status", metavar="STATUS", help="May be repeated.")] = None,
    name: Annotated[Many, typer.Option("--name", metavar="NAME", help="May be repeated.")] = None,
    queue: Annotated[Many, typer.Option("--queue", metavar="NAME", help="May be repeated.")] = None,
    tag: Annotated[Many, typer.Option("--tag", metavar="TAG", help="May be repeated.")] = None,
    created_by: Annotated[str | None, typer.Option("--created-by", metavar="NAME", help="Who enqueued it.")] = None,
    search: Annotated[str | None, typer.Option("--search", metavar="TEXT", help="In name, id or a tag.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=200, help="Jobs a page, up to 200.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", metavar="C", help="The page after that one.")] = None,
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
    json: Json = False,
) -> int:
    """List jobs, newest first. Piped: id, status, queue, name and creation time, separated by tabs."""
    from jobctl.client import api

    call = api.list_jobs(
        statuses=status or (), names=name or (), queues=queue or (), tags=tag or (), created_by=created_by,
        q=search, limit=limit, cursor=cursor,
    )  # fmt: skip
    with Target(url, token_file, wait_server).session() as session:
        answer = session.send(call)
    if json:
        print_json(answer.data)
        return 0
    page = api.decode(call, answer)
    now = datetime.now(UTC)
    if sys.stdout.isatty():
        _print_table([_row(job, now) for job in page.jobs])
    else:
        for job in page.jobs:
            sys.stdout.write("\t".join((job.id, job.status, job.queue, safe(job.name), job.created_at)) + "\n")
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
    with Target(url, token_file, wait_server).session() as session, _named(job_id):
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
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
    json: Json = False,
) -> int:
    """Print a job's log over all its runs. ``!`` marks what a command wrote to stderr."""
    from jobctl.cli.lines import log_line
    from jobctl.client import api

    with Target(url, token_file, wait_server).session() as session, _named(job_id):
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


@app.command(cls=QuickCommand)
def retry(
    ids: Ids, url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """Run jobs that have ended again, with all their attempts."""
    from jobctl.client import api

    return _act(api.retry, ids, Target(url, token_file, wait_server), as_json=json)


@app.command(cls=QuickCommand)
def cancel(
    ids: Ids, url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """Cancel jobs; one that runs is asked to stop first."""
    from jobctl.client import api

    return _act(api.cancel, ids, Target(url, token_file, wait_server), as_json=json)


@app.command(cls=QuickCommand)
def delete(
    ids: Ids, url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """Delete jobs and their logs; one that runs has to be cancelled first."""
    from jobctl.client import api

    return _act(api.delete, ids, Target(url, token_file, wait_server), as_json=json)


def _act(make: "Callable[[str], Call[Any]]", ids: list[str], target: Target, *, as_json: bool) -> int:
    """One call a job; what is refused is said, and the others are done."""
    from jobctl.client import api

    code = 0
    with target.session() as session:
        for job_id in ids:
            call = make(job_id)
            try:
                with _named(job_id):
                    answer = session.send(call)
            except ApiError as error:
                say(str(error))
                code = max(code, exit_of(error))
                continue
            if as_json:
                print_json(answer.data)
                continue
            job = None if make is api.delete else api.decode(call, answer)
            state = "deleted" if job is None else "cancelling" if job.cancel_requested else job.status.value
            sys.stdout.write(f"{job_id} {state}\n")
    return code


@contextmanager
def _named(job_id: str) -> Iterator[None]:
    """Say which job was refused."""
    try:
        yield
    except ApiError as error:
        text = f"there is no job {job_id}" if error.status == 404 else f"{job_id}: {error}"
        raise ApiError(error.status, {**error.problem, "detail": text}) from None


def _row(job: "Job", now: datetime) -> tuple[str, ...]:
    from jobctl.cli import lines

    age = duration((now - lines.moment(job.created_at)).total_seconds())
    took = lines.run_seconds(job, now)
    return (
        job.id, f"{GLYPHS[job.status][0]} {job.status.value}", safe(job.queue), safe(job.name),
        lines.attempt(job), age, "" if took is None else duration(took), lines.message(job),
    )  # fmt: skip


def _print_table(rows: list[tuple[str, ...]]) -> None:
    import shutil

    header = ("ID", "STATUS", "QUEUE", "NAME", "TRY", "AGE", "TIME", "MESSAGE")
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    room = shutil.get_terminal_size().columns
    for row in (header, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        text = shorten("  ".join(cells).rstrip(), room)
        status = row[1].partition(" ")[2]
        sys.stdout.write(text.replace(cells[1], paint(cells[1], status, sys.stdout), 1) + "\n")
