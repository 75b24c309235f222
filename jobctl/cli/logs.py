"""``jobctl jobs logs --follow``: a job's log as it grows, until the job ends."""

import sys
from typing import TYPE_CHECKING

import msgspec
import trio

from jobctl.cli import lines, running
from jobctl.cli.interrupts import exit_of_interrupt
from jobctl.cli.notices import Notices
from jobctl.cli.output import ExitCode, exit_of_jobs, print_json, say
from jobctl.client.logs import LogLines

if TYPE_CHECKING:
    from jobctl.cli.connect import Target
    from jobctl.model import Job, LogLine


def follow(target: "Target", job_id: str, after: int, *, as_json: bool) -> int:
    """Print lines as they come; the exit code is the job's. Ctrl-C leaves, and cancels nothing."""
    seen = after
    ended: Job | None = None

    async def main() -> int:
        nonlocal seen, ended
        async with target.client() as client, LogLines(client, job_id, after) as log:
            log.look = Notices(trio.current_time).look
            async for line in log:
                _print(line, as_json=as_json)
                seen = line.n
            ended = log.job
        return 0

    target.reach()
    try:
        with target.explained():
            running.run(main)
    except KeyboardInterrupt as error:
        say(f"left, nothing was cancelled; to go on from here: jobctl jobs logs {job_id} --follow --after {seen}")
        return exit_of_interrupt(error)
    if ended is None:
        return ExitCode.DONE
    if ended.status != "completed":
        say(f"{ended.name} {ended.id} {ended.status.value}{f': {ended.error}' if ended.error else ''}")
    return exit_of_jobs([ended.status.value])


def _print(line: "LogLine", *, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.json.encode(line))
        return
    sys.stdout.write(lines.log_line(line) + "\n")
    sys.stdout.flush()
