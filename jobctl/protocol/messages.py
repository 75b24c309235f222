"""Every message of the stream, one frozen type each, and the one place where they are encoded and decoded.

Server messages that carry a job are put together from the log's bytes (``job_update_text``), so that an event is
encoded once, whoever reads it. A client decodes them with ``decode_server``.
"""

from typing import Annotated, Final, get_args

import msgspec
from msgspec import Meta

from jobctl.errors import InvalidInput
from jobctl.events import JOB_DELETED, JOB_UPDATE, Event, pruning_of
from jobctl.model import Job, JobFilter, LogLine, Stats, wire_time
from jobctl.schedule import Schedule
from jobctl.worker import Worker

MAX_MESSAGE: Final = 64 * 1024
"""Bytes of one client message; a longer one closes the connection with 1009."""
Number = Annotated[int, Meta(ge=0, le=2**53)]
"""A place in a log: what every JSON reader keeps exactly (RFC 8259 section 6), and every database."""


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type"):
    """Base of all messages; ``type`` tells them apart."""


# --- from the client -------------------------------------------------------------------------------------------


class Auth(Message, frozen=True, tag="auth"):
    """Sign in; again on an open connection, replace the token."""

    token: str


class SubscribeJobs(Message, frozen=True, tag="subscribe_jobs"):
    """Follow jobs. With ``since`` and ``epoch``: from there on. A second one replaces the first.

    ``schedules`` and ``workers`` (admins only) add snapshots of all schedules, and of the processes that run jobs.
    """

    filter: JobFilter | None = None
    since: Number | None = None
    epoch: str | None = None
    stats: bool = True
    schedules: bool = False
    workers: bool = False
    conflate: bool = False


class UnsubscribeJobs(Message, frozen=True, tag="unsubscribe_jobs"):
    """Stop following jobs."""


class SubscribeLogs(Message, frozen=True, tag="subscribe_logs"):
    """Follow the log of one job from line ``after`` (0 is the start; absent: only new lines)."""

    id: str
    after: Number | None = None


class UnsubscribeLogs(Message, frozen=True, tag="unsubscribe_logs"):
    """Stop following the log of one job."""

    id: str


class Ping(Message, frozen=True, tag="ping"):
    """Ask for a ``pong``, which carries the connection's position."""


class ClientPong(Message, frozen=True, tag="pong"):
    """An answer to a server's ping; taken and ignored."""


ClientMessage = Auth | SubscribeJobs | UnsubscribeJobs | SubscribeLogs | UnsubscribeLogs | Ping | ClientPong


# --- from the server -------------------------------------------------------------------------------------------


class AuthRequired(Message, frozen=True, tag="auth_required"):
    """The first message of every connection."""


class Connected(Message, frozen=True, tag="connected"):
    """Signed in."""

    connection_id: str
    timestamp: str
    token_expires_at: str
    message: str = "WebSocket connection established"


class AuthFailed(Message, frozen=True, tag="auth_failed"):
    """The token is not valid or no longer; the connection is closed with 4401 after it."""

    message: str = "Invalid or expired token"


class JobsSubscribed(Message, frozen=True, tag="jobs_subscribed"):
    """Subscribed. ``seq`` is where the subscriber is; a replay up to ``head`` follows."""

    seq: int
    head: int
    epoch: str
    recovered: bool
    message: str = "Subscribed to job updates"


class JobsUnsubscribed(Message, frozen=True, tag="jobs_unsubscribed"):
    """No more updates."""


class JobUpdate(Message, frozen=True, tag="job_update"):
    """A job is new or has changed."""

    job: Job
    seq: int
    timestamp: str


class JobDeleted(Message, frozen=True, tag="job_deleted"):
    """A job is gone."""

    id: str
    seq: int
    timestamp: str


class JobsPruned(Message, frozen=True, tag="jobs_pruned"):
    """Old jobs were removed: all of ``statuses`` that had ended before ``finished_before``.

    ``count`` and ``statuses`` are about the jobs that the subscriber may see. A filter by id, name, queue or tag does
    not narrow it: the jobs are gone, and the log keeps no more of them than their number.
    """

    statuses: tuple[str, ...]
    finished_before: str
    count: int
    seq: int
    timestamp: str


class JobStatsUpdate(Message, frozen=True, tag="job_stats_update"):
    """The counts, whole."""

    stats: Stats
    seq: int
    timestamp: str


class SchedulesUpdate(Message, frozen=True, tag="schedules_update"):
    """Every schedule, whole; for admins who subscribed with ``schedules``."""

    schedules: tuple[Schedule, ...]
    timestamp: str


class WorkersUpdate(Message, frozen=True, tag="workers_update"):
    """Every process that runs jobs, whole; for admins who subscribed with ``workers``."""

    workers: tuple[Worker, ...]
    timestamp: str


class JobLog(Message, frozen=True, tag="job_log"):
    """New lines of a followed log."""

    id: str
    lines: tuple[LogLine, ...]


class Pong(Message, frozen=True, tag="pong"):
    """The connection's position: everything up to ``seq`` has been sent (or did not match)."""

    seq: int


class TokenExpiring(Message, frozen=True, tag="token_expiring"):
    """60 s are left; send ``auth`` with a fresh token."""

    expires_at: str


class Resync(Message, frozen=True, tag="resync"):
    """The log no longer reaches back to where the subscriber was: fetch lists again, then go on from ``seq``."""

    seq: int
    epoch: str


class Error(Message, frozen=True, tag="error"):
    """The last message was not understood, or not allowed."""

    code: str
    message: str


ServerMessage = (
    AuthRequired
    | Connected
    | AuthFailed
    | JobsSubscribed
    | JobsUnsubscribed
    | JobUpdate
    | JobDeleted
    | JobsPruned
    | JobStatsUpdate
    | SchedulesUpdate
    | WorkersUpdate
    | JobLog
    | Pong
    | TokenExpiring
    | Resync
    | Error
)

_encoder = msgspec.json.Encoder()
_client_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_server_decoder: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)


def encode(message: Message) -> bytes:
    """One message as JSON text."""
    return _encoder.encode(message)


def decode_client(text: str | bytes) -> ClientMessage:
    """What a client said.

    Raises:
        InvalidInput: not JSON, an unknown type, or a wrong field.
    """
    try:
        return _client_decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise InvalidInput(str(error)[:300]) from None


def decode_server(text: str | bytes) -> ServerMessage | None:
    """What a server said; None for a type this client does not know (a newer server's), which is to be ignored."""
    try:
        return _server_decoder.decode(text)
    except msgspec.ValidationError:
        kind = msgspec.json.decode(text, type=_Tagged).type
        if kind in KNOWN_SERVER_TYPES:
            raise
        return None


class _Tagged(msgspec.Struct):
    type: str


KNOWN_SERVER_TYPES: Final = frozenset(str(kind.__struct_config__.tag) for kind in get_args(ServerMessage))


def event_text(event: Event, owner: str | None = None) -> bytes:
    """The stream message of one event of the log, as JSON text.

    Args:
        event: One that the reader may see (``events.may_see``).
        owner: Whose part of a ``jobs_pruned`` is told; None is everybody's. Other events are alike for all readers.
    """
    tail = b',"seq":%d,"timestamp":"%s"}' % (event.seq, wire_time(event.at).encode())
    if event.kind == JOB_UPDATE:
        return b'{"type":"job_update","job":' + event.body + tail
    if event.kind == JOB_DELETED:
        return b'{"type":"job_deleted",' + event.body[1:-1] + tail
    pruning = pruning_of(event)
    counts = pruning.of(owner)
    told = JobsPruned(
        statuses=tuple(counts),
        finished_before=pruning.finished_before,
        count=sum(counts.values()),
        seq=event.seq,
        timestamp=wire_time(event.at),
    )
    return encode(told)
