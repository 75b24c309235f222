"""Enqueueing in a store: unique keys, idempotency, queues that are made by their first job."""

from collections.abc import Sequence
from typing import Final

import msgspec
import uuid_utils

from jobctl.errors import IdempotencyMismatch, TooLarge
from jobctl.model import MAX_QUEUES, Job, NewJob
from jobctl.states import Status
from jobctl.store.base import Enqueued, Idempotency
from jobctl.store.rows import Row, dump_tags
from jobctl.store.transaction import Tx
from jobctl.store.writes import find

IDEMPOTENCY_TTL_MS: Final = 24 * 3600 * 1000


def enqueue(tx: Tx, jobs: Sequence[NewJob], owner: str, idempotency: Idempotency | None) -> Enqueued:
    """All of ``jobs``, or the answer of the first time the key was used."""
    if not owner:
        raise ValueError("every job has an owner")  # '' is the key of the totals among the counters
    if idempotency is not None:
        before = _remembered(tx, owner, idempotency)
        if before is not None:
            return before
    ids, rows, existing, single = [], [], 0, None
    keys = [new.unique_key for new in jobs if new.unique_key is not None]
    twins = dict(tx.live_by_key(owner, keys)) if keys else {}
    for new in jobs:
        if new.unique_key is not None and new.unique_key in twins:
            existing += 1
            ids.append(twins[new.unique_key])
            continue
        row = _new_row(tx, new, owner)
        if new.unique_key is not None:
            twins[new.unique_key] = row.id
        rows.append(row)
        ids.append(row.id)
    tx.insert(rows)
    for row in rows:
        tx.changed(row, None, prev=0)
    if len(jobs) == 1:
        single = tx.whole(rows[0] if rows else find(tx, ids[0], owner))
    answer = Enqueued(ids=tuple(ids), created=len(rows), existing=existing, job=single)
    if idempotency is not None:
        _remember(tx, owner, idempotency, answer)
    return answer


def _new_row(tx: Tx, new: NewJob, owner: str) -> Row:
    if not tx.has_queue(new.queue):
        _make_queue(tx, new.queue)
    row = Row(
        pk=0,
        id=str(uuid_utils.uuid7()),
        name=new.name,
        queue=new.queue,
        data=new.data,
        status=Status.PENDING.value,
        priority=new.priority,
        attempts=0,
        max_attempts=new.max_attempts,
        error=None,
        result=None,
        progress=None,
        progress_message=None,
        created_at=tx.now,
        started_at=None,
        completed_at=None,
        scheduled_for=new.scheduled_for,
        processing_by=None,
        created_by=owner,
        unique_key=new.unique_key,
        timeout=new.timeout,
        tags=dump_tags(new.tags),
        version=1,
        cancel_requested=0,
        run=0,
        ready=0,
        due=new.scheduled_for if new.scheduled_for is not None and new.scheduled_for > tx.now else None,
        held=0,
        pid=None,
        pid_started=None,
        seq=tx.next_seq(),
    )
    tx.enqueued(row)
    return row


def make_queues(tx: Tx, names: Sequence[str]) -> tuple[str, ...]:
    """Make the queues that are not there yet."""
    missing = tuple(name for name in dict.fromkeys(names) if not tx.has_queue(name))
    for name in missing:
        _make_queue(tx, name)
    return missing


def _make_queue(tx: Tx, name: str) -> None:
    if tx.queue_count() >= MAX_QUEUES:
        raise TooLarge(f"there are {MAX_QUEUES} queues already; use one of them", field="queue")
    tx.run("insert_queue", name)
    tx.queue_changed(name, False)


class _Answer(msgspec.Struct):
    """What is kept of an answer. ``job`` is told again when the job itself has been deleted meanwhile."""

    ids: tuple[str, ...]
    created: int
    existing: int
    job: Job | None


def _remembered(tx: Tx, owner: str, idempotency: Idempotency) -> Enqueued | None:
    oldest = tx.now - IDEMPOTENCY_TTL_MS
    found = tx.remembered(owner, idempotency.key, oldest)
    if found is None:
        return None
    fingerprint, answer = found
    if fingerprint != idempotency.fingerprint:
        raise IdempotencyMismatch("this Idempotency-Key was used for a different request in the last 24 h")
    first = msgspec.json.decode(answer, type=_Answer)
    job = first.job
    if job is not None:
        found = tx.one("job_by_id", job.id)
        job = job if found is None else tx.whole(Row(*found))
    return Enqueued(ids=first.ids, created=first.created, existing=first.existing, job=job, replayed=True)


def _remember(tx: Tx, owner: str, idempotency: Idempotency, answer: Enqueued) -> None:
    told = msgspec.json.encode(_Answer(answer.ids, answer.created, answer.existing, answer.job))
    tx.remember(owner, idempotency.key, idempotency.fingerprint, told, oldest=tx.now - IDEMPOTENCY_TTL_MS)
