"""``enqueue --wait``: until the jobs have ended, with a line that moves on a terminal, and why a job failed."""

import contextlib
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from jobctl.cli import lines, running, summary
from jobctl.cli.deadline import Deadline
from jobctl.cli.follow import Follower, Order, Silent
from jobctl.cli.notices import Notices
from jobctl.cli.output import drawable, paint, print_json, safe, say, shorten
from jobctl.cli.view import View
from jobctl.client import api
from jobctl.client.waiting import current
from jobctl.errors import ApiError, ClientError, WaitTimeout
from jobctl.model import MAX_FILTER_IDS, JobFilter, Position
from jobctl.states import Status

if TYPE_CHECKING:
    from jobctl.cli.connect import Target
    from jobctl.cli.submit import Sent
    from jobctl.client.client import Client

SHOWN_FAILURES: Final = 5
LAST_WORDS_S: Final = 5.0
"""What it may take beyond the deadline to say how the jobs ended."""
LOG_TAIL: Final = 10
LOG_PAGES: Final = 20
"""A log is read from its start; the end of one with more than 20,000 lines is left to ``jobctl jobs logs``."""


def wait(
    target: "Target", sent: "Sent", since: Position | None, deadline: Deadline | None, *, as_json: bool,
    report: Path | None = None,
) -> int:  # fmt: skip
    """Follow what was sent, after ``since``, until all has ended; the exit code. ``report`` gets a summary.

    Raises:
        WaitTimeout: it had not by the deadline.
        ConfigError: the summary cannot be written.
        running.Interrupted: Ctrl-C.
    """
    ids = list(dict.fromkeys(sent.ids))
    every = JobFilter(ids=tuple(ids))
    view = View(every)
    wanted = every if len(ids) <= MAX_FILTER_IDS else JobFilter()
    order = Order(wanted, since=since, until_done=True, fresh=True)
    follower = Follower(order, view, Silent(), None if drawable(sys.stderr) else Notices(trio.current_time))

    async def main() -> int:
        async with target.client() as client:
            try:
                with _until(deadline):
                    if sent.replayed:  # they may have ended before ``since``
                        view.reset(await current(client, JobFilter(ids=tuple(sent.replayed))))
                    await follower.run(client)
            except WaitTimeout:
                await _report(client, view, ids, report)
                raise
            line.clear()
            await _report(client, view, ids, report)
            with _until(deadline, at_least=LAST_WORDS_S):
                if as_json:
                    for job_id in ids:
                        found = (await client.send(api.get_job(job_id))).data
                        how = view.outcomes.get(job_id, "deleted")
                        print_json(found, done=f"the job is enqueued: {job_id} ({how})")
                await _explain(client, view, ids)
        return view.exit_code

    line = _StatusLine(view, follower, ids)
    try:
        with target.explained():
            return running.run(main, tick=line.draw)
    finally:
        line.clear()


@contextlib.contextmanager
def _until(deadline: Deadline | None, at_least: float = 0.0) -> Iterator[None]:
    """No longer than to the deadline, but ``at_least`` so many seconds."""
    with trio.CancelScope() if deadline is None else trio.move_on_after(max(deadline.left, at_least)):
        yield
        return
    if deadline is not None:
        raise deadline.passed()


async def _report(client: "Client", view: View, ids: list[str], path: Path | None) -> None:
    """Add to the summary what became of the jobs, as far as they are."""
    if path is None:
        return
    statuses = {
        each: view.outcomes.get(each) or ("deleted" if each in view.deleted else _status(view, each)) for each in ids
    }
    jobs = dict(view.jobs)
    with trio.move_on_after(LAST_WORDS_S):
        for job_id in summary.chosen(statuses):  # the view forgets those that ended long ago
            if job_id not in jobs and statuses[job_id] != "deleted":
                with contextlib.suppress(ClientError):
                    jobs[job_id] = await client.get(job_id)
    summary.append(path, summary.markdown(statuses, jobs))


def _status(view: View, job_id: str) -> str:
    job = view.jobs.get(job_id)
    return job.status.value if job is not None else Status.PENDING.value


class _StatusLine:
    """One line on a terminal's stderr that is written over."""

    def __init__(self, view: View, follower: Follower, ids: list[str]) -> None:
        self._view, self._follower, self._ids = view, follower, ids
        self._shown = ""
        self._done = not drawable(sys.stderr)

    def draw(self) -> None:
        """Show the state, if it has changed."""
        if self._done:
            return
        live, words = self._follower.connection()
        text = self._jobs() if live else words
        if text != self._shown:
            self._shown = text
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away for good."""
        if not self._done:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self._done = True

    def _jobs(self) -> str:
        import shutil

        width = shutil.get_terminal_size().columns - 1
        if len(self._ids) > 1:
            found = ", ".join(f"{count} {status}" for status, count in self._view.counts().items() if count)
            return shorten(f"{len(self._view.outcomes)} of {len(self._ids)} ended: {found}", width)
        job = self._view.jobs.get(self._ids[0])
        if job is None:
            return "pending"
        seconds = lines.run_seconds(job)
        words = [job.status.value, f"{int(seconds)}s" if seconds is not None else "", lines.message(job)]
        return paint(shorten(" ".join(word for word in words if word), width), job.status.value, sys.stderr)


async def _explain(client: "Client", view: View, ids: list[str]) -> None:
    """Say on stderr why jobs failed."""
    bad = [job_id for job_id in ids if view.outcomes.get(job_id) in ("failed", "cancelled") or job_id in view.deleted]
    for job_id in bad[:SHOWN_FAILURES]:
        try:
            job = await client.get(job_id)
        except ApiError as error:
            say(f"{job_id}: {error}")
            continue
        attempts = f" after {job.attempts} attempts" if job.attempts > 1 else ""
        said = f": {job.error.strip()}" if job.error else ""
        say(f"{job.name} {job_id} {job.status.value}{attempts}{said}".rstrip())
        if job.status is Status.FAILED:
            for line in await _tail(client, job_id):
                sys.stderr.write(f"  {safe(line)}\n")
    if len(bad) > SHOWN_FAILURES:
        say(f"and {len(bad) - SHOWN_FAILURES} more; see: jobctl jobs list --status failed")
    sys.stderr.flush()


async def _tail(client: "Client", job_id: str) -> list[str]:
    last: deque[str] = deque(maxlen=LOG_TAIL)
    after = 0
    for _ in range(LOG_PAGES):
        page = await client.get_value(api.logs(job_id, after))
        last.extend(line.text for line in page.lines)
        if not page.has_more or not page.lines:
            break
        after = page.lines[-1].n
    return list(last)


