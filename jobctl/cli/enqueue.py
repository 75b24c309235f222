"""``jobctl enqueue``: one job, or a file of them.

Without ``--wait`` this path imports neither trio, rich nor httpx2: it is started by shell loops and cron.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from jobctl.cli.connect import Json, Target, TokenFile, Url, WaitServer
from jobctl.cli.deadline import Deadline
from jobctl.cli.interrupts import exit_of_interrupt
from jobctl.cli.output import ExitCode, hint, say
from jobctl.cli.submit import KEY, Lines, One, Sent, Work, submit, with_words
from jobctl.errors import ClientError, InvalidInput

if TYPE_CHECKING:
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
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="Given again with KEY in 24 h, nothing is made twice."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; the exit code is the job's.")] = False,
    wait_timeout: Annotated[
        float | None, typer.Option("--wait-timeout", metavar="S", min=0, help="Leave S seconds after the start (4).")
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
    deadline = None if wait_timeout is None else Deadline.after(wait_timeout)
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
    if idempotency_key is not None and not KEY.fullmatch(idempotency_key):
        raise typer.BadParameter("is 1 to 160 printable ASCII characters", param_hint="--idempotency-key")
    options = api.job_fields(
        name or "", queue=queue, priority=priority, delay=delay, scheduled_for=at, unique_key=unique,
        max_attempts=max_attempts, timeout=timeout, tags=tag or None,
    )  # fmt: skip
    if name is None:
        del options["name"]
    if file is not None and (fields or data is not None):
        raise typer.BadParameter("the data of --file's jobs stands in its lines", param_hint="--file")
    target = Target(url, token_file, wait_server)
    sent = Sent(idempotency_key) if idempotency_key is not None else Sent()
    texts = frozenset(key for key, _, _ in (each.partition("=") for each in fields or []) if not key.endswith(":"))
    work = Lines(file, options) if file else One({**options, "data": parse_data(data, fields or [])}, texts)
    return _submit(target, work, sent, _Waiting(deadline, summary) if wait else None, as_json=json)


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

    deadline: Deadline | None
    summary: Path | None


def _submit(target: Target, work: Work, sent: Sent, wait: _Waiting | None, *, as_json: bool) -> int:
    from jobctl.client import api

    position: Position | None = None

    def again() -> str:
        these = sent.ids[0] if len(sent.ids) == 1 else f"--since {position}"
        return f"nothing was cancelled; come back with: jobctl watch {these} --until-done{target.options()}"

    try:
        with target.session(deadline=wait.deadline if wait else None) as session:
            position = session.send(api.stats()).position if wait else None
            submit(session, work, sent, as_json=as_json, silent=wait is not None and as_json)
        if wait is not None:
            from jobctl.cli.waiting import wait as wait_for

            return wait_for(target, sent, position, wait.deadline, as_json=as_json, report=wait.summary)
    except KeyboardInterrupt as error:
        detached = f"detached, {again()}" if wait and sent.whole else None
        say(detached or f"interrupted; {sent.so_far() or 'nothing is enqueued'}")
        return exit_of_interrupt(error)
    except ClientError as error:
        raise with_words(error, again() if wait and sent.whole else sent.so_far()) from None
    if len(sent.ids) == 1:
        hint(f"enqueued; to see it run: jobctl watch {sent.ids[0]}")
    return ExitCode.DONE
