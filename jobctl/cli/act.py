"""``jobctl jobs retry|cancel|delete``: on the jobs that are named, or on all that match."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from jobctl.cli.connect import Json, Target, TokenFile, Url, WaitServer
from jobctl.cli.output import ExitCode, emit, exit_of, print_json, say, shorten
from jobctl.errors import ApiError, InvalidInput

if TYPE_CHECKING:
    from jobctl.client.api import BulkDone, Call
    from jobctl.client.session import Session
    from jobctl.model import Job

Many = list[str] | None
Ids = Annotated[Many, typer.Argument(metavar="ID", help="The jobs' ids; else all that match the options.")]
Statuses = Annotated[Many, typer.Option("--status", metavar="STATUS", help="May be repeated.")]
Names = Annotated[Many, typer.Option("--name", metavar="NAME", help="May be repeated.")]
Queues = Annotated[Many, typer.Option("--queue", metavar="NAME", help="May be repeated.")]
Tags = Annotated[Many, typer.Option("--tag", metavar="TAG", help="May be repeated.")]
CreatedBy = Annotated[str | None, typer.Option("--created-by", metavar="NAME", help="Who enqueued it.")]
Search = Annotated[str | None, typer.Option("--search", metavar="TEXT", help="In name, id or a tag.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before acting on all that match.")]

_DONE: Final = {"retry": "put back in the queue", "cancel": "cancelled, or asked to stop", "delete": "deleted"}


def retry(
    ids: Ids = None,
    status: Statuses = None,
    name: Names = None,
    queue: Queues = None,
    tag: Tags = None,
    created_by: CreatedBy = None,
    search: Search = None,
    yes: Yes = False,
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
    json: Json = False,
) -> int:
    """Run jobs that have ended again, with all their attempts: those named, or all that match."""
    wanted = _filter(status, name, queue, tag, created_by, search)
    return _Order("retry", Target(url, token_file, wait_server), yes=yes, as_json=json).run(ids or [], wanted)


def cancel(
    ids: Ids = None,
    status: Statuses = None,
    name: Names = None,
    queue: Queues = None,
    tag: Tags = None,
    created_by: CreatedBy = None,
    search: Search = None,
    yes: Yes = False,
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
    json: Json = False,
) -> int:
    """Cancel jobs; one that runs is asked to stop first: those named, or all that match."""
    wanted = _filter(status, name, queue, tag, created_by, search)
    return _Order("cancel", Target(url, token_file, wait_server), yes=yes, as_json=json).run(ids or [], wanted)


def delete(
    ids: Ids = None,
    status: Statuses = None,
    name: Names = None,
    queue: Queues = None,
    tag: Tags = None,
    created_by: CreatedBy = None,
    search: Search = None,
    yes: Yes = False,
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
    json: Json = False,
) -> int:
    """Delete jobs and their logs; one that runs has to be cancelled first: those named, or all that match."""
    wanted = _filter(status, name, queue, tag, created_by, search)
    return _Order("delete", Target(url, token_file, wait_server), yes=yes, as_json=json).run(ids or [], wanted)


def _filter(
    statuses: Many, names: Many, queues: Many, tags: Many, created_by: str | None, search: str | None
) -> dict[str, Any]:
    from jobctl.client import api

    check_statuses(statuses)
    return api.job_filter(
        statuses=statuses or (), names=names or (), queues=queues or (), tags=tags or (), created_by=created_by,
        q=search,
    )  # fmt: skip


def check_statuses(given: Many) -> None:
    """See that they exist.

    Raises:
        InvalidInput: one does not; the message has those that do.
    """
    from jobctl.states import Status

    for each in given or ():
        if each not in {*Status}:
            raise InvalidInput(f"--status: {shorten(each, 40)!r} is none; there are: {', '.join(Status)}")


def check_names(option: str, given: Many) -> None:
    """See that a queue or a handler may be called so.

    Raises:
        InvalidInput: one may not.
    """
    from jobctl.model import NAME

    for each in given or ():
        if not re.fullmatch(NAME, each):
            raise InvalidInput(f"{option}: {shorten(each, 40)!r} can be no name: 1 to 100 of A-Z a-z 0-9 . _ : -")


@dataclass(frozen=True, slots=True)
class _Order:
    """What to do, and how to say it."""

    action: str
    target: Target
    yes: bool
    as_json: bool

    def run(self, ids: list[str], wanted: dict[str, Any]) -> int:
        """Do it; the exit code."""
        from jobctl.client import api

        if bool(ids) == bool(wanted):
            raise typer.BadParameter("name jobs, or say which with --status, --queue, --name, --tag; not both")
        makers: dict[str, Callable[[str], Call[Any]]] = {
            "retry": api.retry, "cancel": api.cancel, "delete": api.delete,
        }  # fmt: skip
        with self.target.session() as session:
            return self._each(session, makers[self.action], ids) if ids else self._all(session, wanted)

    def _each(self, session: "Session", make: "Callable[[str], Call[Any]]", ids: list[str]) -> int:
        """One call a job; what is refused is said, and the others are done."""
        from jobctl.client import api

        code = 0
        for job_id in ids:
            call = make(job_id)
            try:
                with named(job_id):
                    answer = session.send(call)
            except ApiError as error:
                say(str(error))
                code = max(code, exit_of(error))
                continue
            job = None if make is api.delete else api.decode(call, answer)
            state = "deleted" if job is None else _state(job)
            done = f"until here, the last one: {job_id} {state}"
            if self.as_json:
                print_json(answer.data, done=done)
            else:
                emit(f"{job_id} {state}\n", done=done)
        return code

    def _all(self, session: "Session", wanted: dict[str, Any]) -> int:
        """All that match, after a look at how many that are."""
        from jobctl.client import api

        if not self.yes:
            found = session.get(api.bulk(self.action, wanted, dry_run=True))
            if found.changed and not self._agreed(found):
                say("nothing was done")
                return ExitCode.DONE
            if not found.changed:
                self._tell(found)
                return ExitCode.DONE
        done: BulkDone | None = None
        try:
            while done is None or done.cursor is not None:
                more = session.get(api.bulk(self.action, wanted, cursor=done.cursor if done else None))
                done = api.added(done, more)
        except BaseException:
            if done is not None:
                say(f"until here, {done.changed:,} jobs were {_DONE[self.action]}")
            raise
        self._tell(done)
        return ExitCode.DONE

    def _agreed(self, found: "BulkDone") -> bool:
        question = f"{self.action} {_jobs(found.changed)} ({_by_status(found)})"
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise InvalidInput(f"this would {question}; nothing was done. Give --yes to do it without being asked")
        sys.stderr.write(f"{question}? [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _tell(self, done: "BulkDone") -> None:
        told = f"{_jobs(done.changed)} {_DONE[self.action]}"
        if self.as_json:
            from msgspec import json

            print_json(json.encode(done), done=told if done.changed else "")
            return
        or_key = " or a live job has their unique key" if self.action == "retry" else ""
        skipped = f"; {done.skipped:,} skipped, their status does not allow it{or_key}" if done.skipped else ""
        emit(f"{told}{skipped}\n", done=told if done.changed else "")


@contextmanager
def named(job_id: str) -> Iterator[None]:
    """Say which job was refused."""
    try:
        yield
    except ApiError as error:
        shown = shorten(job_id, 80)
        text = f"there is no job {shown}" if error.status == 404 else f"{shown}: {error}"
        raise ApiError(error.status, {**error.problem, "detail": text}) from None


def _state(job: "Job") -> str:
    """What a job is after it was acted on: one that runs is only asked to stop."""
    return "cancelling" if job.status == "running" and job.cancel_requested else job.status.value


def _jobs(n: int) -> str:
    return f"{n:,} job" if n == 1 else f"{n:,} jobs"


def _by_status(found: "BulkDone") -> str:
    parts = [f"{n:,} {status}" for status, n in found.by_status.items()]
    return ", ".join(parts) + (f"; {found.skipped:,} of them are skipped" if found.skipped else "")
