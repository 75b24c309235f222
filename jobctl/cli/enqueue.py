"""``jobctl enqueue``: one job, or a file of them.

Without ``--wait`` this path imports neither trio, rich nor httpx2: it is started by shell loops and cron.
"""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobctl.cli.connect import Json, Target, TokenFile, Url, WaitServer
from jobctl.cli.output import ExitCode, hint, print_json, say
from jobctl.errors import ApiError, InvalidInput

if TYPE_CHECKING:
    from jobctl.client.session import Session
    from jobctl.model import Position


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
    values = None if file is not None else parse_data(data, fields or [])
    target = Target(url, token_file, wait_server)
    with target.session() as session:
        position = session.send(api.stats()).position if wait else None
        quiet = json and wait
        if file is not None:
            ids = _send_file(session, file, options, as_json=json, quiet=quiet)
        else:
            ids = [_send_one(session, {**options, "data": values}, as_json=json, quiet=quiet)]
    if wait:
        return _wait(target, ids, position, wait_timeout, as_json=json)
    if len(ids) == 1:
        hint(f"enqueued; to see it run: jobctl watch {ids[0]}")
    return 0


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


def _send_one(session: "Session", fields: dict[str, Any], *, as_json: bool, quiet: bool) -> str:
    from jobctl.client import api

    call = api.enqueue(fields)
    answer = session.send(call)
    job = api.decode(call, answer)
    if not quiet:
        _print_json_or(answer.data, [job.id], as_json=as_json)
    if answer.status == 200:
        hint("a job with this --unique key was live already; that one is meant")
    return job.id


def _send_file(session: "Session", path: Path, defaults: dict[str, Any], *, as_json: bool, quiet: bool) -> list[str]:
    from jobctl.cli import ndjson
    from jobctl.client import api

    ids: list[str] = []
    progress = sys.stderr.isatty()
    with ndjson.opened(path, sys.stdin.buffer) as file:
        total = sum(1 for _ in ndjson.jobs(file, defaults))
        if not total:
            raise InvalidInput(f"{path} holds no job")
        file.seek(0)
        for batch in ndjson.batches(ndjson.jobs(file, defaults)):
            call = api.enqueue_batch(batch.lines)
            try:
                answer = session.send(call)
            except ApiError as error:
                raise _with_lines(error, batch, len(ids)) from None
            done = api.decode(call, answer)
            ids += done.ids
            if not quiet:
                _print_json_or(answer.data, list(done.ids), as_json=as_json)
            if progress:
                sys.stderr.write(f"\r{len(ids):,} of {total:,} enqueued" + ("\n" if len(ids) == total else ""))
                sys.stderr.flush()
    return ids


def _with_lines(error: ApiError, batch: "Any", before: int) -> ApiError:
    """The server names a job by its place in the batch; a person looks for its line in the file."""
    message = str(error)
    found = re.match(r"jobs\[(\d+)\]", str(error.problem.get("field", "")))
    if found and int(found[1]) < len(batch.numbers):
        message = f"line {batch.numbers[int(found[1])]}: {re.sub(r'^line [0-9]+: ', '', message)}"
    else:
        message = f"lines {batch.numbers[0]} to {batch.numbers[-1]}: {message}"
    if before:
        message += f" (the {before:,} jobs before this batch of lines are enqueued)"
    return ApiError(error.status, {**error.problem, "detail": message})


def _print_json_or(data: bytes, ids: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json(data)
    else:
        sys.stdout.write("".join(f"{job_id}\n" for job_id in ids))
        sys.stdout.flush()


def _wait(target: Target, ids: list[str], since: "Position | None", timeout: float | None, *, as_json: bool) -> int:
    from jobctl.cli.running import Interrupted
    from jobctl.cli.waiting import wait

    try:
        return wait(target, ids, since, timeout, as_json=as_json)
    except (Interrupted, KeyboardInterrupt):  # the latter: before the loop runs that would close things
        again = f"jobctl watch {ids[0]} --until-done" if len(ids) == 1 else f"jobctl watch --since {since} --until-done"
        say(f"detached, nothing was cancelled; come back with: {again}")
        return ExitCode.INTERRUPTED
