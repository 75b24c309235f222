"""Following jobs for a person or a script: the stream on one side, a screen or lines on the other."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from jobctl.cli import lines
from jobctl.cli.deadline import Deadline
from jobctl.cli.notices import Notices
from jobctl.cli.output import print_json, safe, say
from jobctl.cli.view import View
from jobctl.client.client import Client
from jobctl.client.live import Resynced, Update, Watch
from jobctl.client.waiting import current
from jobctl.errors import JobctlError, NotFound
from jobctl.model import Job, JobFilter, Position, wire_time
from jobctl.protocol.messages import JobDeleted, JobStatsUpdate, JobUpdate, encode

DONE: Final = "done"
ALL_PAGES: Final = 10_000
SHOWN_PAGES: Final = 5
"""Of live jobs, to begin a table with."""


class Printer(Protocol):
    """Where updates go."""

    def state(self, jobs: Iterable[Job], position: Position) -> None:
        """Show what is so now, before or between updates."""

    def update(self, update: Update, text: str | None) -> None:
        """Show one update; ``text`` is how it came."""


class PlainLines:
    """One line an update, flushed at once."""

    def state(self, jobs: Iterable[Job], position: Position) -> None:  # noqa: ARG002
        """Show what is so now."""
        for job in jobs:
            self._write(lines.job_line(job, job.completed_at or job.started_at or job.created_at))

    def update(self, update: Update, text: str | None) -> None:  # noqa: ARG002
        """Show one update."""
        match update:
            case JobUpdate(job=job, timestamp=at):
                self._write(lines.job_line(job, at))
            case JobDeleted(id=job_id, timestamp=at):
                self._write(lines.deleted_line(job_id, at))
            case JobStatsUpdate(stats=stats, timestamp=at):
                self._write(lines.stats_line(stats, at))
            case _:
                pass

    def _write(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


class StatusLines(PlainLines):
    """One line when a job's status changes; how far it is within one goes unsaid."""

    def __init__(self) -> None:
        self._status: dict[str, str] = {}

    def update(self, update: Update, text: str | None) -> None:
        """Show one update."""
        if isinstance(update, JobUpdate):
            if self._status.get(update.job.id) == update.job.status:
                return
            self._status[update.job.id] = update.job.status
        super().update(update, text)


class JsonLines:
    """The stream's messages, as they came. What was fetched instead of pushed is put in the same form."""

    def state(self, jobs: Iterable[Job], position: Position) -> None:
        """Show what is so now, as updates at the position where it was."""
        import time

        at = wire_time(int(time.time() * 1000))
        for job in jobs:
            print_json(encode(JobUpdate(job=job, seq=position.seq, timestamp=at)))

    def update(self, update: Update, text: str | None) -> None:
        """Show one update."""
        if text is not None and isinstance(update, JobUpdate | JobDeleted | JobStatsUpdate):
            print_json(text)


class Silent:
    """For a screen, which draws the view."""

    def state(self, jobs: Iterable[Job], position: Position) -> None:
        """Nothing."""

    def update(self, update: Update, text: str | None) -> None:
        """Nothing."""


@dataclass(slots=True)
class Order:
    """What to follow, and until when."""

    wanted: JobFilter
    since: Position | None = None
    stats: bool = False
    until_done: bool = False
    deadline: Deadline | None = None
    show_state: bool = False
    fresh: bool = False
    """All that is followed was enqueued after ``since``: there is no state to look at first."""


class Follower:
    """Follows one order; ``position`` is where to come back to.

    Args:
        order: What is asked for.
        view: Gets the updates.
        printer: Shows them.
        notices: Says that the connection is lost or back; None where a screen shows it.
    """

    def __init__(self, order: Order, view: View, printer: Printer, notices: Notices | None = None) -> None:
        self._order = order
        self._view = view
        self._printer = printer
        self._notices = notices
        self._end = ""
        self._watch: Watch | None = None
        self._position = order.since

    @property
    def position(self) -> Position | None:
        """Everything up to here has been shown."""
        return self._watch.position if self._watch is not None and self._watch.position else self._position

    def connection(self) -> tuple[bool, str]:
        """Whether it is live, and what to say about the connection."""
        watch = self._watch
        if self._end:  # the last picture
            return self._end == DONE, self._end
        if watch is None or (not watch.live and watch.retry_at is None):
            return False, "connecting"
        if watch.live:
            return True, "live"
        left = max(0.0, (watch.retry_at or 0.0) - trio.current_time())
        return False, f"{safe(watch.reason)}; reconnecting in {left:.1f} s"

    async def run(self, client: Client) -> None:
        """Follow.

        Raises:
            WaitTimeout: the time is over.
            NotFound: an id does not exist.
        """
        deadline = self._order.deadline
        with trio.CancelScope() if deadline is None else trio.move_on_after(deadline.left):
            try:
                await self._follow(client)
            except JobctlError as error:
                self._end = safe(str(error))
                raise
            except BaseException:  # a cancellation may come alone, or in a group
                self._end = "left"
                raise
            self._end = DONE
            return
        if deadline is not None:
            over = deadline.passed()
            self._end = str(over)
            raise over

    async def _follow(self, client: Client) -> None:
        order, view = self._order, self._view
        wanted = order.wanted
        state = await self._look(client)
        if state is not None and order.since is None:
            self._position = state.position
            news = view.reset(state)
            if order.show_state:
                self._printer.state(news, state.position)
            state = None
            if order.until_done and view.done:
                return
        followed = client.watch(
            ids=wanted.ids, names=wanted.names, queues=wanted.queues, statuses=wanted.statuses, tags=wanted.tags,
            mine=wanted.mine, since=self._position, stats=order.stats,
        )  # fmt: skip
        async with followed as self._watch:
            while True:
                while (update := followed.take()) is not None:
                    self._take(update, followed.text)
                if state is not None and followed.position is not None and followed.position >= state.position:
                    view.reset(state)  # all that happened before it has been shown
                    state = None
                if order.until_done and state is None and view.done:
                    return
                await followed.advance()
                if self._notices is not None:
                    self._notices.look(followed)

    async def _look(self, client: Client) -> Resynced | None:
        order = self._order
        if order.fresh or not (order.show_state or order.until_done):
            return None
        state = await current(client, order.wanted, pages=ALL_PAGES if order.until_done else SHOWN_PAGES)
        if state.missing:
            raise NotFound(f"there is no job {state.missing[0]}")
        return state

    def _take(self, update: Update, text: str | None) -> None:
        if isinstance(update, Resynced):
            say("some updates are lost (the log no longer has them); this is the state now")
            self._printer.state(self._view.reset(update), update.position)
        elif self._view.apply(update) or not self._order.show_state:
            self._printer.update(update, text)


def run_follower(
    client: Callable[[], Client], follower: Follower, *, tick: Callable[[], None] | None = None
) -> None:
    """Follow in a trio of its own.

    Raises:
        running.Interrupted: Ctrl-C.
    """
    from jobctl.cli import running

    async def main() -> int:
        async with client() as connected:
            await follower.run(connected)
        return 0

    running.run(main, tick=tick)


