"""``POST /api/jobs`` and ``POST /api/jobs/batch``."""

import hashlib
import re
import threading
import time
from typing import Final

import msgspec
import trio
from quart import Quart, Response
from quart_schema import document_headers, document_request, document_response, operation_id, tag

from jobctl.errors import InvalidInput, TooLarge
from jobctl.model import (
    DEFAULT_ATTEMPTS,
    DEFAULT_TIMEOUT_S,
    MAX_BATCH,
    MAX_DATA,
    EnqueueRequest,
    NewJob,
    Wire,
    parse_time,
)
from jobctl.store.base import Enqueued, Idempotency
from jobctl.web.answers import data
from jobctl.web.body import JSON, decode, media_type
from jobctl.web.openapi import IdempotencyHeader, JobAnswer, fails
from jobctl.web.request import ApiRequest, signed_in
from jobctl.web.wiring import Registry, Web

MAX_DEPTH: Final = 100
"""How deep ``data`` may nest: what everybody who reads it, at whatever depth of its own stack, can decode."""
_KEY: Final = re.compile(r"[\x20-\x7e]{1,200}")
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_IN_LINE: Final = 64 * 1024
"""Bytes of a batch that are decoded on the event loop; a larger one would hold it up (16 MiB: 0.2 s)."""


class BatchDone(Wire, frozen=True):
    """An id for each job asked for, in order; ``existing`` had a live ``uniqueKey``."""

    ids: tuple[str, ...]
    created: int
    existing: int


class BatchAnswer(Wire, frozen=True):
    """What the batch did."""

    data: BatchDone


_counter = threading.local()


class _Item(EnqueueRequest, frozen=True, forbid_unknown_fields=True):
    """One job of an array. Counts itself, so that a body of a million tiny ones ends at the 10,001st."""

    def __post_init__(self) -> None:
        _counter.n += 1
        if _counter.n > MAX_BATCH:
            raise ValueError("too many")


_one = msgspec.json.Decoder(EnqueueRequest)
_array = msgspec.json.Decoder(list[_Item])


class EnqueueRoutes:
    """The two ways in for jobs."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._batches = trio.CapacityLimiter(1)  # one decoded at a time bounds what they take together

    def register(self, app: Quart) -> None:
        """Add the routes."""
        app.add_url_rule("/api/jobs", "enqueue", self.enqueue, methods=["POST"])
        app.add_url_rule("/api/jobs/batch", "enqueue_batch", self.enqueue_batch, methods=["POST"])

    @fails(400, 409, 413, 415, 422, 503)
    @document_response(JobAnswer, 201)
    @document_response(JobAnswer, 200)
    @document_headers(IdempotencyHeader)
    @document_request(EnqueueRequest)
    @operation_id("job")
    @tag(["jobs"])
    async def enqueue(self) -> Response:
        """Enqueue a job.

        201 and the job; 200 and the job that is live with the same `uniqueKey` of the same owner. With an
        `Idempotency-Key` header (1 to 200 printable ASCII characters, kept 24 h) a repeated request makes nothing
        new: it is answered with the status of the first and `Idempotency-Replayed: true`; the same key with a
        different request is 422 `idempotency_mismatch`.
        """
        request = signed_in()
        media_type(request)
        key = _idempotency_key(request)
        asked = decode(_one, await request.body.read())
        job = prepare(asked, self._web.registry, _now_ms())
        once = None if key is None else Idempotency(key, fingerprint("job", [asked]))
        done = await self._web.store.enqueue([job], owner=request.who.subject, idempotency=once)
        status = 201 if done.created else 200
        response = data(done.job, status)
        if status == 201:
            response.headers["Location"] = f"/api/jobs/{done.ids[0]}"
        return _replayed(response, done)

    @fails(400, 409, 413, 415, 422, 503)
    @document_response(BatchAnswer, 201)
    @document_headers(IdempotencyHeader)
    @document_request(list[EnqueueRequest])
    @operation_id("batch")
    @tag(["jobs"])
    async def enqueue_batch(self) -> Response:
        """Enqueue up to 10,000 jobs (16 MiB), all or none.

        An array (`application/json`) or one job a line (`application/x-ndjson`). An error names the job by its
        place, counted from 0: `jobs[17].priority`. `Idempotency-Key` as for a single job.
        """
        request = signed_in()
        kind = media_type(request, lines=True)
        key = _idempotency_key(request)
        raw = await request.body.read()
        arguments = (raw, kind, self._web.registry, _now_ms(), key is not None)
        if len(raw) <= _IN_LINE:
            jobs, digest = prepare_batch(*arguments)
        else:
            jobs, digest = await trio.to_thread.run_sync(prepare_batch, *arguments, limiter=self._batches)
        del raw, arguments
        once = None if key is None else Idempotency(key, digest)
        done = await self._web.store.enqueue(jobs, owner=request.who.subject, idempotency=once)
        return _replayed(data(BatchDone(ids=done.ids, created=done.created, existing=done.existing), 201), done)


def prepare(asked: EnqueueRequest, registry: Registry, now_ms: int) -> NewJob:
    """A checked job; what the request leaves out is the handler's wish, else the default.

    Raises:
        InvalidInput: a value is wrong, or no handler takes the job.
        TooLarge: ``data`` is larger than 64 KiB as compact JSON.
    """
    if asked.delay is not None and asked.scheduled_for is not None:
        raise InvalidInput("delay and scheduledFor exclude each other", field="delay")
    scheduled_for = None
    if asked.scheduled_for is not None:
        scheduled_for = parse_time(asked.scheduled_for, field="scheduledFor")
    elif asked.delay:
        scheduled_for = now_ms + round(asked.delay * 1000)
    payload = _payload(asked)
    wish = registry.check(asked.name, asked.data)
    return NewJob(
        name=asked.name,
        data=payload,
        queue=asked.queue,
        priority=asked.priority,
        scheduled_for=scheduled_for,
        max_attempts=asked.max_attempts or (wish and wish.max_attempts) or DEFAULT_ATTEMPTS,
        timeout=asked.timeout or (wish and wish.timeout) or DEFAULT_TIMEOUT_S,
        unique_key=asked.unique_key,
        tags=asked.tags,
    )


def prepare_batch(
    raw: bytes, kind: str, registry: Registry, now_ms: int, with_digest: bool
) -> tuple[list[NewJob], bytes]:
    """Every job of a batch, checked, and (if wanted) the digest of them all.

    Raises:
        InvalidInput: the first job that is wrong, by its place.
        TooLarge: more than 10,000 jobs.
    """
    asked = _decode_array(raw) if kind == JSON else _decode_lines(raw)
    if not asked:
        raise InvalidInput("there is no job in the batch", field="jobs")
    jobs = []
    for place, each in enumerate(asked):
        try:
            jobs.append(prepare(each, registry, now_ms))
        except InvalidInput as error:
            error.field = f"jobs[{place}].{error.field}" if error.field else f"jobs[{place}]"
            raise
    return jobs, fingerprint("batch", asked) if with_digest else b""


def _decode_array(raw: bytes) -> "list[_Item]":
    _counter.n = 0
    try:
        return decode(_array, raw, prefix="jobs")
    except InvalidInput:
        if _counter.n > MAX_BATCH:
            raise _too_many() from None
        raise


def _decode_lines(raw: bytes) -> list[EnqueueRequest]:
    asked: list[EnqueueRequest] = []
    start = 0
    number = 0
    while start < len(raw):
        end = raw.find(b"\n", start)
        end = len(raw) if end < 0 else end
        line = raw[start:end].strip()
        start, number = end + 1, number + 1
        if not line:
            continue
        if len(asked) == MAX_BATCH:
            raise _too_many()
        try:
            asked.append(decode(_one, line, prefix=f"jobs[{len(asked)}]"))
        except InvalidInput as error:
            error.args = (f"line {number}: {error}",)
            raise
    return asked


def _too_many() -> TooLarge:
    return TooLarge(f"a batch has at most {MAX_BATCH} jobs", field="jobs")


def fingerprint(kind: str, asked: "list[EnqueueRequest] | list[_Item]") -> bytes:
    """A digest of what was asked for, not of how it was written: spaces and the order of fields do not count."""
    digest = hashlib.blake2b(kind.encode(), digest_size=32)
    for each in asked:
        digest.update(msgspec.json.encode(each, order="deterministic"))
        digest.update(b"\n")
    return digest.digest()


def _payload(asked: EnqueueRequest) -> bytes:
    if not asked.data:
        return b"{}"
    payload = msgspec.json.encode(asked.data)
    if len(payload) > MAX_DATA:
        raise TooLarge(f"data has {len(payload)} bytes as compact JSON; at most {MAX_DATA}", field="data")
    if b"\\u0000" in payload and _NUL.search(payload):
        raise InvalidInput("data: a string has a NUL, which neither commands nor every database can take", field="data")
    if payload.count(b"{") + payload.count(b"[") > MAX_DEPTH and _depth(asked.data) > MAX_DEPTH:
        raise InvalidInput(f"data nests deeper than {MAX_DEPTH} levels", field="data")
    return payload


def _depth(value: object) -> int:
    """Levels of arrays and objects; level by level, so that depth costs no stack."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list) and each]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _idempotency_key(request: ApiRequest) -> str | None:
    lines = request.headers.getlist("Idempotency-Key")
    if not lines:
        return None
    if len(lines) > 1 or not _KEY.fullmatch(lines[0]):
        raise InvalidInput("Idempotency-Key is 1 to 200 printable ASCII characters, once", field="Idempotency-Key")
    return lines[0]


def _replayed(response: Response, done: Enqueued) -> Response:
    if done.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response
