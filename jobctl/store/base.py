"""What the rest of jobctl asks of a store. One conformance suite (``tests/store``) holds every implementation to it.

Rules that every implementation keeps:

* A state change, its event and its counters are one transaction; ``seq`` has no gap and follows commit order.
* Listeners hear each commit in order, on the trio thread, before the caller of the write is answered.
* A write that returned is durable (as far as the ``durability`` setting says) and seen by the next read.
* A write that raised ``StoreUnavailable`` left nothing behind.
* ``owner`` scopes: None sees everything, a name only what it created; the rest is ``NotFound``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from jobctl.errors import JobctlError
from jobctl.events import Commit, Event
from jobctl.model import Job, JobPage, JobQuery, LogLine, NewJob, Position, Queue, Stats
from jobctl.states import TRANSITIONS, Action, Status
from jobctl.store.retention import RetentionStore
from jobctl.store.schedules import ScheduleStore
from jobctl.store.tokens import TokenStore
from jobctl.store.workers import WorkerStore

T = TypeVar("T")


class Read(NamedTuple, Generic[T]):
    """A value and the place in the log at which it was true, both from one read transaction."""

    value: T
    position: Position


class Idempotency(msgspec.Struct, frozen=True):
    """A client's key and a digest of the request that it stands for. Kept 24 h, per owner."""

    key: str
    fingerprint: bytes


class Enqueued(msgspec.Struct, frozen=True):
    """What an enqueue did: an id for each job asked for, in order.

    ``job`` is the job itself where exactly one was asked for. ``replayed``: the idempotency key had been used before,
    nothing was done now, and the figures are those of the first time.
    """

    ids: tuple[str, ...]
    created: int
    existing: int
    job: Job | None = None
    replayed: bool = False


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A job handed to a runner: run number ``run`` of it. ``data`` is JSON text of an object, never shortened.

    ``waited``: seconds that it was ready before; not known of one that was put back by hand or at a shutdown.
    """

    job: Job
    run: int
    data: bytes
    waited: float | None = None


class Claims(msgspec.Struct, frozen=True):
    """The answer to ``claim``. ``next_due`` (ms) is when the next delayed job falls due; ``more``: ask again soon."""

    claims: tuple[Claim, ...]
    next_due: int | None
    more: bool


class Completed(msgspec.Struct, frozen=True):
    """The handler returned ``result`` (JSON text; ``b"null"`` for None)."""

    result: bytes = b"null"


class Failed(msgspec.Struct, frozen=True):
    """The run failed. ``retry``: again after ``delay`` seconds while attempts are left; else for good."""

    error: str
    retry: bool = True
    delay: float = 0.0


class Cancelled(msgspec.Struct, frozen=True):
    """The run was cancelled on request. Counts as an attempt (it ended)."""

    error: str | None = None


class Released(msgspec.Struct, frozen=True):
    """The run is given back unfinished, because the server stops. Does not count as an attempt."""


Outcome = Completed | Failed | Cancelled | Released


class End(NamedTuple):
    """How one run ended.

    ``held``: it has been given up but is still alive (a thread past its time-out): the job is not claimed again before
    ``release``.
    """

    job_id: str
    run: int
    outcome: Outcome
    held: bool = False


class LogEntry(NamedTuple):
    """A line on its way into a job's log: ms since the epoch, ``stdout|stderr|log``, text."""

    at: int
    stream: str
    text: str


class Orphan(msgspec.Struct, frozen=True):
    """A command that a former process had started: process group leader and its start time (clock ticks)."""

    job_id: str
    run: int
    pid: int
    started: int


class Rescued(msgspec.Struct, frozen=True):
    """What ``rescue`` found: ids that were running, ids of held jobs, and the commands of both.

    ``unrecorded``: the runs, by job, of which no command was recorded. It may have been started all the same.
    """

    jobs: tuple[str, ...]
    held: tuple[str, ...]
    orphans: tuple[Orphan, ...]
    unrecorded: Mapping[str, int] = {}


class EventPage(msgspec.Struct, frozen=True):
    """Events after a position, in ``seq`` order.

    ``start`` is the oldest number that the log still has (``head + 1`` when it is empty) and ``head`` the newest, both
    of the same read transaction as the events.
    """

    events: tuple[Event, ...]
    start: int
    head: int


class LogPage(msgspec.Struct, frozen=True):
    """Lines of a log; ``has_more`` when the page is full. ``last`` is the number of the log's last line (0: none)."""

    lines: tuple[LogLine, ...]
    has_more: bool
    last: int


class Counters(msgspec.Struct, frozen=True):
    """Every counter: ``(owner, queue, status) -> n``, and the names of paused queues. Totals are not among them."""

    counts: Mapping[tuple[str, str, str], int]
    queues: Mapping[str, bool]


BulkAction = Literal["retry", "cancel", "delete"]


def can(action: BulkAction, status: str) -> bool:
    """Whether a job of that status can be acted on."""
    if action == "delete":
        return Status(status) is not Status.RUNNING
    return (Status(status), Action.RETRY if action == "retry" else Action.CANCEL) in TRANSITIONS


class Matching(msgspec.Struct, frozen=True):
    """A page of what a query matches: the status by id, newest first. ``cursor`` continues it; None: that was all."""

    jobs: Mapping[str, str]
    cursor: str | None


class Acted(msgspec.Struct, frozen=True):
    """What was done with the first ``changed + skipped`` of the ids; for the rest there was no time.

    ``refused`` has those that were skipped, each with the reason.
    """

    changed: int
    skipped: int
    refused: Mapping[str, JobctlError] = {}


class Store(Protocol):
    """A durable queue with an event log. Methods raise ``StoreUnavailable`` when the database cannot be used."""

    epoch: str

    @property
    def access(self) -> TokenStore:
        """API tokens and sessions."""

    @property
    def schedules(self) -> ScheduleStore:
        """Schedules."""

    @property
    def retention(self) -> RetentionStore:
        """How it forgets."""

    @property
    def workers(self) -> WorkerStore:
        """The processes that share it."""

    @property
    def trouble(self) -> str | None:
        """Why writes fail at present; None when the last one went well."""

    def listen(self, listener: Callable[[Commit], None]) -> None:
        """Call ``listener`` with every commit from now on. It must not raise and not block."""

    async def close(self) -> None:
        """Write what waits and close; harmless when it is closed already."""

    # --- writes --------------------------------------------------------------------------------------------------

    async def enqueue(self, jobs: Sequence[NewJob], *, owner: str, idempotency: Idempotency | None = None) -> Enqueued:
        """All or nothing. A live job of the same owner with the same ``unique_key`` is returned instead of a new one.

        Raises:
            IdempotencyMismatch: the key stands for another request.
            TooLarge: it would be more than 1,000 queues (field ``queue``).
        """

    async def claim(
        self,
        slots: int,
        *,
        worker: str,
        limits: Mapping[str, int],
        busy: Mapping[str, int],
        ends: Sequence[End] = (),
    ) -> Claims:
        """End the runs of ``ends``, then start up to ``slots`` ready jobs, by queue, priority and age.

        One transaction for both: a busy runner pays for one sync where it would pay for two.

        Args:
            slots: Free places in all, those of ``ends`` counted as free. 0: only end, and look at nothing else.
            worker: Shown as ``processingBy``.
            limits: Most runs at once per queue; a queue not named has no bound of its own.
            busy: Runs alive per queue once ``ends`` have ended.
            ends: As for ``finish``. When one cannot be written, none is, and nothing is claimed.
        """

    async def claim_next(
        self, slots: int, *, worker: str, limits: Mapping[str, int], busy: Mapping[str, int], due: int | None
    ) -> Claims | None:
        """Wait for a commit that makes jobs ready, and start up to ``slots`` of them in that very transaction.

        For a runner with nothing to do: a job that it could start at once waits for one sync, not for two. Who calls
        must have looked by ``claim`` before, as what is ready already is not waited for. One caller at a time.

        Args:
            slots: Free places, at least 1.
            worker: As for ``claim``.
            limits: As for ``claim``.
            busy: As for ``claim``.
            due: When the next delayed job falls due, as the last answer had it (ms). If another falls due before, the
                answer says so, and may start none.

        Returns:
            None: it was cancelled while a transaction looked, and found nothing. A cancellation that comes when there
            is something does not take effect. ``Commit.looked`` tells listeners of that transaction.
        """

    async def finish(self, job_id: str, run: int, outcome: Outcome, *, held: bool = False) -> bool:
        """End run ``run`` (see ``End``). Changes nothing and returns False unless the job is still running that run."""

    async def release(self, job_id: str, run: int) -> None:
        """A held run has ended at last; its job may be claimed again."""

    async def progress(self, job_id: str, run: int, value: float, message: str | None) -> bool:
        """Record progress of run ``run``; False when it is not running any more."""

    async def append_logs(self, job_id: str, run: int, lines: Sequence[LogEntry]) -> bool:
        """Append to the job's log; False when run ``run`` is not running any more."""

    async def record_process(self, job_id: str, run: int, pid: int, started: int) -> bool:
        """Remember the command's process, so that the next start can end it if we die."""

    async def cancel(self, job_id: str, *, owner: str | None) -> Job:
        """Cancel a waiting job at once; ask a running one to stop (``cancelRequested``; ``Commit.cancels``).

        Raises:
            NotFound: no such job of that owner.
            IllegalTransition: it has ended.
        """

    async def retry(self, job_id: str, *, owner: str | None) -> Job:
        """Put an ended job back in its queue, attempts at 0.

        Raises:
            NotFound: no such job of that owner.
            IllegalTransition: it has not ended.
            UniqueKeyLive: another live job holds its unique key.
        """

    async def delete(self, job_id: str, *, owner: str | None) -> None:
        """Remove a job and its log.

        Raises:
            NotFound: no such job of that owner.
            IllegalTransition: it is running.
        """

    async def act(
        self, action: BulkAction, ids: Sequence[str], *, owner: str | None, statuses: Sequence[str]
    ) -> Acted:
        """Retry, cancel or delete the first of ``ids`` in one short transaction; ask again with the rest.

        Skipped are jobs that do not allow it, that are gone, and that have none of ``statuses`` (if any) any more.
        """

    async def make_queues(self, names: Sequence[str]) -> tuple[str, ...]:
        """Make those of these queues that are not there yet; returns their names.

        Raises:
            TooLarge: it would be more than 1,000 queues; none is made.
        """

    async def set_paused(self, queue: str, paused: bool) -> Queue:
        """Pause or resume a queue. Raises NotFound for one that does not exist."""

    async def set_known(self, names: frozenset[str] | None) -> None:
        """Tell which handler names can run here (None: all). Jobs of other names wait without being in the way."""

    async def keep_backoffs(self, jump: float) -> int:
        """The wall clock was set by ``jump`` seconds: jobs that wait to be tried again wait as long as they were to.

        Returns:
            How many of them were waiting.
        """

    async def left_running(self) -> Rescued:
        """What ``rescue`` will find. End its commands first: afterwards nobody remembers them."""

    async def rescue(self) -> Rescued:
        """At start: end every run that a former process left (a crash counts as an attempt), free held jobs."""

    # --- reads ---------------------------------------------------------------------------------------------------

    async def job(self, job_id: str, *, owner: str | None) -> Read[Job]:
        """One job, whole. Raises NotFound."""

    async def jobs(self, query: JobQuery) -> Read[JobPage]:
        """One page, newest first, large fields omitted. Raises InvalidCursor."""

    async def matching(self, query: JobQuery) -> Read[Matching]:
        """Ids of one page (of any length), newest first. Raises InvalidCursor."""

    async def tally(self, query: JobQuery) -> Read[Mapping[str, int]]:
        """How many jobs a query matches, by status."""

    async def stats(self, *, owner: str | None) -> Read[Stats]:
        """Counts over all, or over one owner's jobs."""

    async def queues(self) -> Read[tuple[Queue, ...]]:
        """Every queue by name; ``concurrency`` is None (the store does not know limits)."""

    async def logs(self, job_id: str, *, owner: str | None, after: int = 0, limit: int = 1000) -> Read[LogPage]:
        """Lines with ``n > after``. Raises NotFound."""

    async def history(self, job_id: str, *, owner: str | None) -> Read[tuple[Event, ...]]:
        """The job's own events that the log still has, oldest first. Raises NotFound."""

    async def events(self, after: int, *, limit: int, upto: int | None = None) -> EventPage:
        """Up to ``limit`` events with ``after < seq <= upto`` of everybody; the caller scopes and filters."""

    async def counters(self) -> Read[Counters]:
        """All counters at one position, for whoever keeps them up to date from commits."""
