"""``jobctl jobs prune``: forget jobs that have ended."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from jobctl.cli.connect import Json, Target, TokenFile, Url, WaitServer
from jobctl.cli.output import emit, print_json, safe, say
from jobctl.errors import InvalidInput

if TYPE_CHECKING:
    from jobctl.client.session import Session
    from jobctl.client.upkeep import PruneResult


def prune(
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="SPAN", help="Ended longer ago than that: 30d, 12h, 0s.")
    ] = None,
    status: Annotated[
        list[str] | None, typer.Option("--status", metavar="STATUS", help="completed, failed, cancelled; else all.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many there are.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
    json: Json = False,
) -> int:
    """Remove jobs that have ended, with their logs, everybody's. The server does so by itself as [retention] says."""
    from jobctl.durations import parse_span

    if older_than is None:
        raise typer.BadParameter("needs --older-than, such as 30d")
    seconds = parse_span(older_than, field="olderThan")
    statuses = _statuses(status)
    with Target(url, token_file, wait_server).session() as session:
        found = _ask(session, seconds, statuses) if dry_run or not yes else None
        if dry_run and found is not None:
            _tell(found, as_json=json)
            return 0
        if found is not None and found.count and not _agreed(found):
            say("nothing was removed")
            return 0
        _tell(_remove(session, seconds, statuses), as_json=json)
    return 0


def _statuses(given: list[str] | None) -> list[str]:
    known = ("completed", "failed", "cancelled")
    for each in given or ():
        if each not in known:
            raise InvalidInput(f"--status: jobs that have ended are {', '.join(known)}, not {each!r}")
    return given or []


def _ask(session: "Session", seconds: float, statuses: list[str]) -> "PruneResult":
    from jobctl.client import upkeep

    return session.get(upkeep.prune(seconds, statuses=statuses, dry_run=True))


def _agreed(found: "PruneResult") -> bool:
    question = f"remove {_jobs(found)} that ended before {found.finished_before}"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidInput(f"this would {question}; nothing was removed. Give --yes to do it without being asked")
    sys.stderr.write(f"{question}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remove(session: "Session", seconds: float, statuses: list[str]) -> "PruneResult":
    """Ask until nothing is left: the server takes some seconds at a time."""
    from msgspec.structs import replace

    from jobctl.client import upkeep

    done: PruneResult | None = None
    try:
        while done is None or done.more:
            more = session.get(upkeep.prune(seconds, statuses=statuses))
            if done is not None:
                by_status = {each: n + done.by_status.get(each, 0) for each, n in more.by_status.items()}
                more = replace(more, count=done.count + more.count, by_status=done.by_status | by_status)
            done = more
    except BaseException:
        if done is not None:
            say(f"until here, {_jobs(done)} were removed")
        raise
    return done


def _tell(done: "PruneResult", *, as_json: bool) -> None:
    told = f"{_jobs(done)} {'would be removed' if done.dry_run else 'removed'}"
    if as_json:
        from msgspec import json

        print_json(json.encode(done), done="" if done.dry_run else told)
    else:
        emit(safe(told) + "\n", done="" if done.dry_run else told)


def _jobs(done: "PruneResult") -> str:
    parts = ", ".join(f"{n:,} {status}" for status, n in done.by_status.items() if n)
    return f"{done.count:,} {'job' if done.count == 1 else 'jobs'}" + (f" ({parts})" if parts else "")
