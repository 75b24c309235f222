"""``jobctl queues``: what waits where, and pausing."""

import sys
from typing import Annotated, Final

import typer

from jobctl.cli.act import check_names
from jobctl.cli.connect import Json, Target, TokenFile, Url, WaitServer
from jobctl.cli.output import emit, print_json, safe
from jobctl.cli.quick import QuickCommand, QuickGroup

app: Final = typer.Typer(
    cls=QuickGroup, help="List, pause and resume queues.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The queue.")]


@app.command("list", cls=QuickCommand)
def list_queues(
    url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """List the queues with how many jobs are in each status."""
    from jobctl.client import api

    call = api.queues()
    with Target(url, token_file, wait_server).session() as session:
        answer = session.send(call)
    if json:
        print_json(answer.data)
        return 0
    columns = ("pending", "running", "retrying", "completed", "failed", "cancelled")
    rows = [("QUEUE", "STATE", "LIMIT", *(name.upper() for name in columns))]
    for queue in api.decode(call, answer).queues:
        state, limit = "paused" if queue.paused else "active", str(queue.concurrency or "-")
        rows.append((safe(queue.name), state, limit, *(str(getattr(queue.counts, name)) for name in columns)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    return 0


@app.command(cls=QuickCommand)
def pause(
    name: Name, url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """Start no more jobs of a queue; those that run go on."""
    return _set(name, Target(url, token_file, wait_server), paused=True, as_json=json)


@app.command(cls=QuickCommand)
def resume(
    name: Name, url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """Start jobs of a queue again."""
    return _set(name, Target(url, token_file, wait_server), paused=False, as_json=json)


def _set(name: str, target: Target, *, paused: bool, as_json: bool) -> int:
    from jobctl.client import api

    check_names("NAME", [name])
    with target.session() as session:
        answer = session.send(api.pause(name) if paused else api.resume(name))
    told = f"{safe(name)} {'paused' if paused else 'active'}"
    if as_json:
        print_json(answer.data, done=told)
    else:
        emit(told + "\n", done=told)
    return 0
