"""``jobctl enqueue``: one job, or a file of them.

Without ``--wait`` this path imports neither trio, rich nor httpx2: it is started by shell loops and cron.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from jobctl.cli.connect import Json, Target, TokenFile, Url, WaitServer
from jobctl.cli.interrupts import exit_of_interrupt
from jobctl.cli.output import ExitCode, emit, hint, print_json, say
from jobctl.errors import ApiError, InvalidInput, Unreachable

if TYPE_CHECKING:
    from jobctl.cli.ndjson import Batch
    from jobctl.client.session import Session


def enqueue(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The handler; --file's lines may name their own.")
    ] = None,
    fields: Annotated[
        list[str] | None, typer.Argument(metavar="[k=v | k:=JSON ...]", help="Fields of the job's data.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="JSON", help="The job's data, an object.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="F.ndjson", help="Many jobs, a JSON object each line; - is stdin.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", metavar="NAME", help="[default]")] = None,
    priority: Annotated[int | None, typer.Option("--priority", metavar="N", help="Higher runs first [0].")] = None,
    delay: Annotated[float | None, typer.Option("--delay", metavar="S", help="Not before S seconds.")] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="Not before, RFC 3339 with a zone.")] = None,
    unique: Annotated[
        str | None, typer.Option("--unique", metavar="KEY", help="While a job with KEY is live, that one is meant.")
    ] = None,
    max_attempts: Annotated[int | None, typer.Option("--max-attempts", metavar="N", help="Runs in all [3].")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", metavar="S", help="Seconds for one run [3600].")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="May be repeated.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; the exit code is the job's.")] = False,
    wait_timeout: Annotated[
        float | None, typer.Option("--wait-timeout", metavar="S", min=0, help="Stop waiting after S seconds (exit 4).")
    ] = None,
    summary: Annotated[
        Path | None, typer.Option("--summary", metavar="FILE", help="Add a Markdown table of the jobs' ends to FILE.")
    ] = None,
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
    json: Json = False,
) -> int:
    """Enqueue a job and print its id.

    k=v gives a text, k:=JSON any value: jobctl enqueue resize path=a.png width:=640
    """
    from jobctl.client import api

    if delay is not None and at is not None:
        raise typer.BadParameter("--delay and --at exclude each other")
    if wait_timeout is not None and not wait:
        raise typer.BadParameter("needs --wait", param_hint="--wait-timeout")
    if summary is not None:
        if not wait:
            raise typer.BadParameter("needs --wait", param_hint="--summary")
        from jobctl.cli.summary import check_writable

        check_writable(summary)
    if name is None and file is None:
        raise typer.BadParameter("which handler? give NAME, or --file", param_hint="NAME")
    options = api.job_fields(
        name or "", queue=queue, priority=priority, delay=delay, scheduled_for=at, unique_key=unique,
        max_attempts=max_attempts, timeout=timeout, tags=tag or None,
    )  # fmt: skip
    if name is None:
        del options["name"]
    if file is not None and (fields or data is not None):
        raise typer.BadParameter("the data of --file's jobs stands in its lines", param_hint="--file")
    target = Target(url, token_file, wait_server)
    waiting = _Waiting(wait_timeout, summary) if wait else None
    if file is not None:
        return _submit(target, _Lines(file, options), waiting, as_json=json)
    fields_and_data = {**options, "data": parse_data(data, fields or [])}
    return _submit(target, _One(fields_and_data), waiting, as_json=json)


def parse_data(text: str | None, fields: list[str]) -> dict[str, Any]:
    """The job's data from ``--data`` and ``k=v | k:=JSON``; a field given both ways is taken from the latter.

    Raises:
        InvalidInput: something is not of that form.
    """
    from jobctl.cli.values import parse_json

    data: Any = {} if text is None else parse_json(text, "--data")
    if not isinstance(data, dict):
        raise InvalidInput('--data is a JSON object, such as {"path": "a.png"}')
    seen: set[str] = set()
    for each in fields:
        key, sign, value = each.partition("=")
        if not sign or key in ("", ":"):
            raise InvalidInput(f"{each!r}: a field is written k=text or k:=JSON")
        raw = key.endswith(":")
        key = key.removesuffix(":")
        if key in seen:
            raise InvalidInput(f"the field {key!r} is given twice")
        seen.add(key)
        data[key] = parse_json(value, f"{key}:=") if raw else value
    return data


class _Waiting(NamedTuple):
    """How ``--wait`` is meant."""

    timeout: float | None
    summary: Path | None


def _submit(target: Target, work: "_One | _Lines", wait: _Waiting | None, *, as_json: bool) -> int:
    from jobctl.client import api

    ids: list[str] = []
    position = None
    try:
        with target.session() as session:
            position = session.send(api.stats()).position if wait is not None else None
            for data, more in work.send(session):
                ids += more
                if wait is None or not as_json:
                    _print(data, more, as_json=as_json)
        if wait is not None:
            from jobctl.cli.waiting import wait as wait_for

            return wait_for(target, ids, position, wait.timeout, as_json=as_json, report=wait.summary)
    except KeyboardInterrupt as error:
        if ids:
            these = ids[0] if len(ids) == 1 else f"--since {position}" if position else ""
            say(f"detached, nothing was cancelled; come back with: jobctl watch {these} --until-done")
        return exit_of_interrupt(error)
    if len(ids) == 1:
        hint(f"enqueued; to see it run: jobctl watch {ids[0]}")
    return ExitCode.DONE


class _One(NamedTuple):
    """One job."""

    fields: dict[str, Any]

    def send(self, session: "Session") -> Iterator[tuple[bytes, list[str]]]:
        """What the API says, and the id."""
        from jobctl.client import api

        call = api.enqueue(self.fields)
        answer = session.send(call)
        if answer.status == 200:
            hint("a job with this --unique key is live already; that one is meant")
        yield answer.data, [api.decode(call, answer).id]


class _Lines(NamedTuple):
    """The jobs of a file; ``defaults`` fill in what a line leaves out."""

    path: Path
    defaults: dict[str, Any]

    def send(self, session: "Session") -> Iterator[tuple[bytes, list[str]]]:
        """What the API says, and the ids, of each batch. All lines are checked before the first is sent."""
        from jobctl.cli import ndjson
        from jobctl.client import api

        done = 0
        with ndjson.opened(self.path, sys.stdin.buffer) as file:
            total = sum(1 for _ in ndjson.jobs(file, self.defaults))
            if not total:
                raise InvalidInput(f"{self.path} holds no job")
            file.seek(0)
            for batch in ndjson.batches(ndjson.jobs(file, self.defaults)):
                call = api.enqueue_batch(batch.lines)
                try:
                    answer = session.send(call)
                except (ApiError, Unreachable) as error:
                    raise _with_lines(error, batch, done) from None
                done += len(batch.lines)
                yield answer.data, list(api.decode(call, answer).ids)
                if sys.stderr.isatty():
                    sys.stderr.write(f"\r{done:,} of {total:,} enqueued" + ("\n" if done == total else ""))
                    sys.stderr.flush()


def _with_lines(error: ApiError | Unreachable, batch: "Batch", before: int) -> ApiError | Unreachable:
    """The server names a job by its place in the batch; a person looks for its line in the file."""
    told = f" (the {before:,} jobs before these lines are enqueued)" if before else ""
    lines = f"lines {batch.numbers[0]} to {batch.numbers[-1]}"
    if isinstance(error, Unreachable):
        return Unreachable(f"{error}; whether {lines} arrived is not known{told}")
    found = re.match(r"jobs\[(\d+)\]", str(error.problem.get("field", "")))
    if found and int(found[1]) < len(batch.numbers):
        lines = f"line {batch.numbers[int(found[1])]}"
    message = re.sub(r"^line [0-9]+: ", "", str(error))
    return ApiError(error.status, {**error.problem, "detail": f"{lines}: {message}{told}"})


def _print(data: bytes, ids: list[str], *, as_json: bool) -> None:
    done = f"the job is enqueued: {ids[0]}" if len(ids) == 1 else f"{len(ids):,} jobs are enqueued"
    if as_json:
        print_json(data, done=done)
    else:
        emit("".join(f"{job_id}\n" for job_id in ids), done=done)
