"""The HTTP API as pure functions: what to send for each operation, and what an answer means.

No I/O: ``client.client`` (httpx2 on trio) and ``client.session`` (``http.client``, for commands that must start fast)
both send these ``Call``s and read their answers with ``parse``.
"""

import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast
from urllib.parse import quote, urlencode

import msgspec

from jobctl.errors import ApiError, ClientError, InvalidInput, SignInFailed, Unreachable
from jobctl.finite import not_finite
from jobctl.model import Job, JobPage, LogLine, Position, Queue, Stats, Wire, wire_time
from jobctl.retry import backoff
from jobctl.worker import WorkerList

T = TypeVar("T")

RETRY_BASE_S: Final = 0.2
RETRY_CAP_S: Final = 5.0
MAX_RETRY_AFTER_S: Final = 30.0
"""A ``Retry-After`` beyond this is reported instead of slept through."""
POSITION_HEADER: Final = "x-jobctl-position"
REPLAYED_HEADER: Final = "idempotency-replayed"


class Call(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One request. ``repeatable``: sent twice it does no more than once, so it may be sent again after a failure."""

    method: str
    path: str
    kind: Any
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    repeatable: bool = False


class Answer(NamedTuple):
    """A success: the JSON text of ``data``, and the place in the log at which it was true."""

    status: int
    data: bytes
    position: Position | None
    replayed: bool = False
    """Nothing was done: its idempotency key had been used before, and this is what was answered then."""


class BatchResult(Wire, frozen=True):
    """What a batch did: an id for each job, in order; ``existing`` had a live job with their unique key."""

    ids: tuple[str, ...]
    created: int
    existing: int


class LogPage(Wire, frozen=True):
    """Lines of a job's log, oldest first."""

    lines: tuple[LogLine, ...]
    has_more: bool = False


class BulkDone(Wire, frozen=True):
    """What was done, or would be: ``matched`` is ``changed + skipped``. With a ``cursor`` there are more."""

    matched: int
    changed: int
    skipped: int
    by_status: dict[str, int]
    cursor: str | None = None


class QueueList(Wire, frozen=True):
    """All queues."""

    queues: tuple[Queue, ...]


class Busy(ApiError):
    """The server asks to come back in ``retry_after`` seconds (429, 503)."""

    def __init__(self, status: int, problem: dict[str, Any], retry_after: float) -> None:
        super().__init__(status, problem)
        self.retry_after = retry_after


class _Envelope(msgspec.Struct):
    data: msgspec.Raw


# --- reading answers -------------------------------------------------------------------------------------------


def parse(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """What an answer means. ``headers`` has lower-case names.

    Raises:
        SignInFailed: 401.
        Busy: 429 or 503.
        Unreachable: 502 or 504, which no jobctl server says: a proxy has had no answer.
        ApiError: any other refusal.
        ClientError: not an answer of a jobctl server.
    """
    if status == 204:
        return Answer(status, b"null", None)
    if 200 <= status < 300:
        try:
            data = bytes(msgspec.json.decode(body, type=_Envelope).data)
            place = headers.get(POSITION_HEADER)
            replayed = headers.get(REPLAYED_HEADER) == "true"
            return Answer(status, data, Position.parse(place) if place else None, replayed)
        except (msgspec.MsgspecError, InvalidInput):
            raise ClientError("the answer is not one of a jobctl server; is this the right URL?") from None
    problem = _problem(status, body)
    if status == 401:
        raise SignInFailed("the server refuses the token")
    if status in (429, 503):
        raise Busy(status, problem, _seconds(headers.get("retry-after")))
    if status in (502, 504):
        raise Unreachable(f"a proxy before the server answers {status}: the server is not there, or does not answer")
    if 300 <= status < 400:
        raise ApiError(status, {"title": "the server redirects; give the URL that it redirects to"})
    raise ApiError(status, problem)


def decode(call: Call[T], answer: Answer) -> T:
    """The value of an answer.

    Raises:
        ClientError: it does not have the shape that this client knows.
    """
    try:
        return cast("T", msgspec.json.decode(answer.data, type=call.kind))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ClientError(f"the server's answer has another shape than this client knows: {error}") from None


def retry_delay(call: Call[Any], error: Exception, tries: int, draw: float) -> float | None:
    """Seconds after which to send ``call`` again; None: do not.

    Args:
        call: What failed.
        error: How.
        tries: How often it has been sent, >= 1.
        draw: A uniform random number in [0, 1).
    """
    if isinstance(error, Busy):  # nothing was done, whatever the call
        delay = max(error.retry_after, backoff(tries, draw, base=RETRY_BASE_S, cap=RETRY_CAP_S))
        return delay if delay <= MAX_RETRY_AFTER_S else None
    if isinstance(error, Unreachable) and call.repeatable:
        return backoff(tries, draw, base=RETRY_BASE_S, cap=RETRY_CAP_S)
    return None


def _problem(status: int, body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        return {"title": f"the server answers HTTP {status}"}


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isascii() and text.isdigit() else 0.0


# --- operations ------------------------------------------------------------------------------------------------


def job_fields(name: str, data: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """The body of an enqueue. ``options``: ``queue priority delay scheduled_for max_attempts timeout unique_key tags``.

    Raises:
        InvalidInput: an option that does not exist.
    """
    unknown = options.keys() - _OPTIONS.keys()
    if unknown:
        raise InvalidInput(f"there is no option {min(unknown)!r}; there are: {', '.join(_OPTIONS)}")
    fields: dict[str, Any] = {"name": name}
    if data is not None:
        fields["data"] = dict(data)
    fields |= {_OPTIONS[key]: value for key, value in options.items() if value is not None}
    when = fields.get("scheduledFor")
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise InvalidInput("scheduled_for needs a time zone", field="scheduledFor")
        fields["scheduledFor"] = wire_time(round(when.astimezone(UTC).timestamp() * 1000))
    return fields


_OPTIONS: Final = {
    "queue": "queue",
    "priority": "priority",
    "delay": "delay",
    "scheduled_for": "scheduledFor",
    "max_attempts": "maxAttempts",
    "timeout": "timeout",
    "unique_key": "uniqueKey",
    "tags": "tags",
}


def enqueue(fields: Mapping[str, Any], *, key: str | None = None) -> Call[Job]:
    """Enqueue one job (``job_fields``). A key is made if none is given, so that it may be sent again."""
    return Call(
        method="POST", path="/api/jobs", kind=Job, body=encode(fields), headers=_keyed(key, "application/json"),
        repeatable=True,
    )  # fmt: skip


def enqueue_batch(lines: Iterable[bytes], *, key: str | None = None) -> Call[BatchResult]:
    """Enqueue many jobs, all or nothing; each line is the JSON of one."""
    return Call(
        method="POST", path="/api/jobs/batch", kind=BatchResult, body=b"\n".join(lines),
        headers=_keyed(key, "application/x-ndjson"), repeatable=True,
    )  # fmt: skip


def get_job(job_id: str) -> Call[Job]:
    """One job, whole."""
    return _get(f"/api/jobs/{_part(job_id)}", Job)


def list_jobs(
    *,
    statuses: Iterable[str] = (),
    names: Iterable[str] = (),
    queues: Iterable[str] = (),
    tags: Iterable[str] = (),
    created_by: str | None = None,
    q: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[JobPage]:
    """A page of jobs, newest first."""
    query = [("status", v) for v in statuses] + [("name", v) for v in names]
    query += [("queue", v) for v in queues] + [("tag", v) for v in tags]
    single = (("createdBy", created_by), ("q", q), ("limit", limit), ("cursor", cursor))
    query += [(key, str(value)) for key, value in single if value is not None]
    return _get("/api/jobs" + _query(query), JobPage)


def stats() -> Call[Stats]:
    """The counts."""
    return _get("/api/jobs/stats", Stats)


def logs(job_id: str, after: int = 0) -> Call[LogPage]:
    """A job's log after line ``after``."""
    return _get(f"/api/jobs/{_part(job_id)}/logs?after={after}", LogPage)


def queues() -> Call[QueueList]:
    """All queues."""
    return _get("/api/queues", QueueList)


def workers() -> Call[WorkerList]:
    """The processes that run jobs."""
    return _get("/api/workers", WorkerList)


def server() -> Call[Any]:
    """What the server says about itself, and who it takes us for."""
    return _get("/api/server", Any)


def backup(path: str) -> Call[Any]:
    """Write a backup to ``path``, on the server's machine."""
    body = encode({"path": path})
    return Call(
        method="POST", path="/api/admin/backup", kind=Any, body=body, headers=(("Content-Type", "application/json"),)
    )


def handlers() -> Call[Any]:
    """What this server can run."""
    return _get("/api/handlers", Any)


def cancel(job_id: str) -> Call[Job]:
    """Cancel a job."""
    return Call(method="POST", path=f"/api/jobs/{_part(job_id)}/cancel", kind=Job)


def retry(job_id: str) -> Call[Job]:
    """Run a finished job again."""
    return Call(method="POST", path=f"/api/jobs/{_part(job_id)}/retry", kind=Job)


def delete(job_id: str) -> Call[Any]:
    """Delete a finished or waiting job."""
    return Call(method="DELETE", path=f"/api/jobs/{_part(job_id)}", kind=Any)


def bulk(
    action: str, wanted: Mapping[str, Any], *, dry_run: bool = False, cursor: str | None = None
) -> Call[BulkDone]:
    """``retry``, ``cancel`` or ``delete`` all that match ``wanted`` (``job_filter``)."""
    body = encode({"action": action, "filter": wanted, "dryRun": dry_run, "cursor": cursor})
    return Call(
        method="POST", path="/api/jobs/bulk", kind=BulkDone, body=body, headers=(("Content-Type", "application/json"),),
        repeatable=dry_run,
    )  # fmt: skip


def added(before: BulkDone | None, more: BulkDone) -> BulkDone:
    """The sums of two answers to ``bulk``, where the second goes on."""
    if before is None:
        return more
    statuses = sorted({*before.by_status, *more.by_status})
    return BulkDone(
        matched=before.matched + more.matched,
        changed=before.changed + more.changed,
        skipped=before.skipped + more.skipped,
        by_status={each: before.by_status.get(each, 0) + more.by_status.get(each, 0) for each in statuses},
        cursor=more.cursor,
    )


def job_filter(
    *,
    statuses: Iterable[str] = (),
    names: Iterable[str] = (),
    queues: Iterable[str] = (),
    tags: Iterable[str] = (),
    created_by: str | None = None,
    q: str | None = None,
) -> dict[str, Any]:
    """The filter of ``bulk``: only what is given."""
    several = {"status": statuses, "name": names, "queue": queues, "tag": tags}
    wanted: dict[str, Any] = {key: list(values) for key, values in several.items() if values}
    return wanted | {key: value for key, value in (("createdBy", created_by), ("q", q)) if value is not None}


def pause(queue: str) -> Call[Any]:
    """Start nothing more of a queue."""
    return Call(method="POST", path=f"/api/queues/{_part(queue)}/pause", kind=Any, repeatable=True)


def resume(queue: str) -> Call[Any]:
    """Start jobs of a queue again."""
    return Call(method="POST", path=f"/api/queues/{_part(queue)}/resume", kind=Any, repeatable=True)


def encode(value: Any) -> bytes:
    """A value as JSON text.

    Raises:
        InvalidInput: JSON cannot carry it.
    """
    try:
        text = msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{_short(error.object)} is not Unicode text", field="data") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"this cannot be sent as JSON: {error}", field="data") from None
    if found := not_finite(value, text, ""):
        raise InvalidInput(f"this cannot be sent as JSON: {found}", field="data")
    return text


def _get(path: str, kind: Any) -> Call[Any]:
    return Call(method="GET", path=path, kind=kind, repeatable=True)


def _part(text: str) -> str:
    if not text:
        raise InvalidInput("an id or a name is empty")
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise InvalidInput(f"{_short(text)} is not Unicode text") from None


def _query(pairs: Iterable[tuple[str, str]]) -> str:
    pairs = list(pairs)
    try:
        return f"?{urlencode(pairs)}" if pairs else ""
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{_short(error.object)} is not Unicode text") from None


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + "…")


def _keyed(key: str | None, content_type: str) -> tuple[tuple[str, str], ...]:
    return (("Content-Type", content_type), ("Idempotency-Key", key or secrets.token_urlsafe(18)))
