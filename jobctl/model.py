"""The values that travel between layers, and their limits.

In Python snake_case, on the wire camelCase. Times on the wire are RFC 3339 UTC with milliseconds and ``Z``; inside
they are integer milliseconds since the epoch. Durations are seconds.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from jobctl.errors import InvalidInput
from jobctl.states import Status

MAX_DATA: Final = 64 * 1024
MAX_RESULT: Final = 256 * 1024
MAX_ERROR: Final = 16 * 1024
MAX_INLINE: Final = 4 * 1024
"""``data`` and ``result`` above this are null in lists and stream messages (and named in ``omitted``)."""
MAX_TAGS: Final = 20
MAX_QUEUES: Final = 1000
MAX_FILTER_IDS: Final = 1000
MAX_BATCH: Final = 10_000
MAX_BATCH_BYTES: Final = 16 * 1024 * 1024
MAX_PAGE: Final = 200
DEFAULT_PAGE: Final = 50
DEFAULT_QUEUE: Final = "default"
SCHEDULE_OWNER: Final = "schedule:"
"""With the schedule's name, whom its jobs belong to. No token speaks for a name that begins so."""
DEFAULT_ATTEMPTS: Final = 3
DEFAULT_TIMEOUT_S: Final = 3600.0

JOB_ID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
"""How an id is written: a UUID in lower case."""

Id = Annotated[str, Meta(pattern=rf"^{JOB_ID}$(?!\n)", description="a job's id")]
NAME: Final = "[A-Za-z0-9._:-]{1,100}"
"""How a handler, a queue or a schedule may be called."""
Name = Annotated[str, Meta(pattern=rf"^{NAME}$(?!\n)", description="1 to 100 of A-Z a-z 0-9 . _ : -")]
Tag = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,64}$(?!\n)", description="1 to 64 characters, no control characters")
]
Tags = Annotated[tuple[Tag, ...], Meta(max_length=MAX_TAGS)]
Priority = Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]
Attempts = Annotated[int, Meta(ge=1, le=1000)]
Timeout = Annotated[float, Meta(gt=0, le=31 * 86400, description="seconds")]
Delay = Annotated[float, Meta(ge=0, le=10 * 366 * 86400, description="seconds")]
Key = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,200}$(?!\n)", description="1 to 200 characters")]


class Wire(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Base of what goes over the wire; frozen, camelCase."""


class Progress(Wire, frozen=True):
    """How far a run is: ``value`` from 0 to 1."""

    value: float
    message: str | None = None


class Job(Wire, frozen=True):
    """A job as everybody sees it. ``data`` and ``result`` are any JSON value (``msgspec.Raw`` on the server)."""

    id: str
    name: str
    queue: str
    data: Any
    status: Status
    priority: int
    attempts: int
    max_attempts: int
    error: str | None
    result: Any
    progress: Progress | None
    created_at: str
    started_at: str | None
    completed_at: str | None
    scheduled_for: str | None
    processing_by: str | None
    created_by: str
    unique_key: str | None
    timeout: float
    tags: tuple[str, ...]
    version: int
    cancel_requested: bool
    omitted: tuple[str, ...] | UnsetType = UNSET


class EnqueueRequest(Wire, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /api/jobs``. What is left out takes the handler's or the server's default."""

    name: Name
    data: dict[str, Any] = {}
    queue: Name = DEFAULT_QUEUE
    priority: Priority = 0
    delay: Delay | None = None
    scheduled_for: str | None = None
    max_attempts: Attempts | None = None
    timeout: Timeout | None = None
    unique_key: Key | None = None
    tags: Tags = ()


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A checked job on its way into the store; ``data`` is JSON text of an object, times are ms."""

    name: str
    data: bytes = b"{}"
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    scheduled_for: int | None = None
    max_attempts: int = DEFAULT_ATTEMPTS
    timeout: float = DEFAULT_TIMEOUT_S
    unique_key: str | None = None
    tags: tuple[str, ...] = ()


class LogLine(Wire, frozen=True):
    """One line of a job's log; ``n`` counts from 1 within the job, over all its runs."""

    n: int
    at: str
    stream: str
    text: str


class StatusCounts(Wire, frozen=True):
    """How many jobs there are in each status."""

    pending: int = 0
    running: int = 0
    retrying: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


class QueueStats(StatusCounts, frozen=True):
    """The counts of one queue."""

    paused: bool = False


class Stats(StatusCounts, frozen=True):
    """The counts over all that the reader may see."""

    by_queue: dict[str, QueueStats] = {}


class Queue(Wire, frozen=True):
    """A queue as ``GET /api/queues`` shows it. ``concurrency`` is null where only the server's own bounds it."""

    name: str
    paused: bool
    concurrency: int | None
    counts: StatusCounts


class JobPage(Wire, frozen=True):
    """One page of jobs, newest first."""

    jobs: tuple[Job, ...]
    cursor: str | None
    has_more: bool


class JobFilter(Wire, frozen=True, forbid_unknown_fields=True):
    """Which jobs a subscriber wants: all conditions hold together, an absent one holds always.

    ``statuses`` matches before or after a change, so that a row can leave a view.
    """

    ids: Annotated[tuple[str, ...], Meta(max_length=MAX_FILTER_IDS)] | None = None
    names: Annotated[tuple[str, ...], Meta(max_length=MAX_FILTER_IDS)] | None = None
    queues: Annotated[tuple[str, ...], Meta(max_length=MAX_FILTER_IDS)] | None = None
    statuses: tuple[Status, ...] | None = None
    tags: Annotated[tuple[str, ...], Meta(max_length=MAX_FILTER_IDS)] | None = None
    mine: bool = False


class JobQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What ``GET /api/jobs`` asks the store; ``owner`` scopes, ``cursor`` continues a page of the same query."""

    owner: str | None = None
    statuses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    created_by: str | None = None
    q: str | None = None
    limit: int = DEFAULT_PAGE
    cursor: str | None = None


class Identity(msgspec.Struct, frozen=True):
    """Who a token speaks for. ``expires_at`` is in seconds since the epoch.

    ``session`` is the sign-in that an access token belongs to. ``registered``: the token lives longer than an access
    token may, and is good only while the ``token`` table has it. ``foreign``: somebody else has issued it, and nobody
    here can revoke it.
    """

    subject: str
    role: str
    expires_at: float
    token_id: str
    session: str | None = None
    registered: bool = False
    foreign: bool = False

    @property
    def is_admin(self) -> bool:
        """Whether everything may be seen and done."""
        return self.role == "admin"

    @property
    def scope(self) -> str | None:
        """The owner whose jobs may be seen; None is everybody's."""
        return None if self.role == "admin" else self.subject


class ApiToken(Wire, frozen=True, kw_only=True):
    """A registered token, as lists show it: never the token itself. ``last_used_at`` is exact to the hour.

    ``secret_changed``: what signed it is accepted no more, and so is the token. False of one that was issued before
    this was noted.
    """

    jti: str
    name: str
    subject: str
    role: str
    created_by: str
    created_at: str
    expires_at: str
    last_used_at: str | None = None
    revoked_at: str | None = None
    secret_changed: bool = False


class IssuedToken(ApiToken, frozen=True, kw_only=True):
    """A new API token. ``token`` is told this once."""

    token: str


class LoginCode(Wire, frozen=True):
    """A one-time code, and whom it signs in."""

    code: str
    expires_at: str
    subject: str
    role: str


class Position(msgspec.Struct, frozen=True, order=True):
    """A place in the event log. Written ``EPOCH:SEQ`` where people and headers carry it."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Read ``EPOCH:SEQ``.

        Raises:
            InvalidInput: it is not of that form.
        """
        epoch, _, number = text.rpartition(":")
        if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", epoch) or not re.fullmatch(r"[0-9]{1,18}", number):
            raise InvalidInput(f"a position is EPOCH:SEQ, not {text[:80]!r}", field="since")
        return cls(epoch, int(number))


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=1024)  # a transaction's rows share their times
def wire_time(ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339, UTC: ``2026-01-31T12:00:00.000Z``."""
    seconds, rest = divmod(ms, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def parse_time(text: str, *, field: str) -> int:
    """RFC 3339 with a zone as milliseconds since the epoch.

    Raises:
        InvalidInput: it is not such a time, or outside the years 1970 to 9999.
    """
    if _RFC3339.fullmatch(text):
        try:
            ms = round(datetime.fromisoformat(text.upper()).timestamp() * 1000)
        except (ValueError, OverflowError):
            ms = -1
        if 0 <= ms < 253_402_300_800_000:
            return ms
    raise InvalidInput(f"{field} is an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z", field=field)


def clip(text: str, limit: int = MAX_ERROR) -> str:
    """``text`` cut to ``limit`` bytes of UTF-8, never inside a character; lone surrogates become ``?``."""
    raw = text.encode("utf-8", "replace")
    return raw.decode() if len(raw) <= limit else raw[: limit - 3].decode("utf-8", "ignore") + "…"


def camel(names: Sequence[str]) -> list[str]:
    """snake_case names as they stand on the wire."""
    return [head + "".join(word.capitalize() for word in rest) for head, *rest in (n.split("_") for n in names)]
