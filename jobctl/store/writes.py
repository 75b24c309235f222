"""The writes of a store, each a function of an open transaction. The committer runs them on its thread.

What is claimed, and how it is found, is in ``sqlite_claims`` and ``postgres_claims``.
"""

import sys
from collections.abc import Sequence
from typing import Final

from jobctl.errors import IllegalTransition, NotFound, UniqueKeyLive
from jobctl.model import Job
from jobctl.states import TRANSITIONS, Action, after
from jobctl.store.base import (
    Cancelled,
    Claim,
    Completed,
    End,
    Failed,
    LogEntry,
    Orphan,
    Outcome,
    Released,
    Rescued,
)
from jobctl.store.queries import Queries
from jobctl.store.rows import APART, Row
from jobctl.store.transaction import RUNNING, Tx

MAX_DELAY_S: Final = 10 * 366 * 86400.0
"""Longest wait before a retry, as for ``delay`` at enqueue."""
STAGE_BATCH: Final = 500
"""Delayed jobs made ready in one claim: bounds the time that it holds the writer."""


def find(tx: Tx, job_id: str, owner: str | None) -> Row:
    """The job, if ``owner`` (None: anybody) may know of it."""
    row = tx.job(job_id)
    if row is None or (owner is not None and row.created_by != owner):
        raise NotFound("there is no such job")
    return row


# --- running -------------------------------------------------------------------------------------------------------


def begin(row: Row, worker: str, now: int) -> int | None:
    """Make ``row`` a run of ``worker``'s; since when it was ready (ms), where that is known."""
    since = row.scheduled_for or (None if row.run else row.created_at)
    row.status = _CLAIMED[row.status]
    row.ready = 0
    row.run += 1
    row.version += 1
    row.started_at = now
    row.processing_by = worker
    row.progress = row.progress_message = None
    return since


_CLAIMED: Final = {status.value: to.value for (status, action), to in TRANSITIONS.items() if action is Action.CLAIM}


def started(tx: Tx, row: Row, before: str, since: int | None) -> Claim:
    """Tell that ``row``, which had the status ``before``, runs; what its runner is given."""
    prev, row.seq = row.seq, tx.next_seq()
    told = tx.changed(row, before, prev=prev)
    data = row.data if row.data != APART else tx.one("data_of", row.pk)[0]
    return Claim(told, row.run, data, None if since is None else max(0, tx.now - since) / 1000)


def _running(tx: Tx, job_id: str, run: int) -> Row | None:
    """The job, if it is still running that run; else the write is stale and changes nothing."""
    row = tx.job(job_id)
    return row if row is not None and row.run == run and row.status == RUNNING else None


def finish(tx: Tx, *ends: End) -> bool:
    """End runs; those that do not run any more are left alone. Whether there was any other."""
    rows = []
    for job_id, run, outcome, held in ends:
        row = _running(tx, job_id, run)
        if row is not None:
            row.held = run if held else 0
            _end(tx, row, outcome)
            rows.append(row)
    tx.save(*rows)
    return bool(rows)


def _end(tx: Tx, row: Row, outcome: Outcome) -> None:
    """End the run of ``row``, which the caller saves."""
    again = isinstance(outcome, Failed) and outcome.retry and row.attempts + 1 < row.max_attempts
    if row.cancel_requested and (again or isinstance(outcome, Released)):
        # Whoever cancelled it was told so: it must not run once more.
        outcome = Cancelled(outcome.error if isinstance(outcome, Failed) else "the server stopped before it had ended")
    if not row.held:
        row.pid = row.pid_started = None
    if isinstance(outcome, Released):
        row.status = _RELEASED
        row.started_at = row.progress = row.progress_message = None
        row.processing_by = row.processing_by if row.held else None
        tx.enqueued(row)
        tx.note(row, RUNNING)
        return
    row.attempts += 1
    error = None if isinstance(outcome, Completed) else outcome.error
    row.error = None if error is None else tx.text(error)
    if isinstance(outcome, Failed) and again:
        row.status = _RETRYING
        delay = _delay_ms(outcome)
        row.due = tx.now + delay if delay > 0 else None
        row.scheduled_for = tx.now + delay
        tx.enqueued(row)
    else:
        row.status = _ENDED[type(outcome)]
        row.completed_at = tx.now
        if isinstance(outcome, Completed):
            row.result = outcome.result
    tx.note(row, RUNNING)


_RELEASED: Final = after(RUNNING, Action.RELEASE).value
_RETRYING: Final = after(RUNNING, Action.BACK_OFF).value
_ENDED: Final = {
    Completed: after(RUNNING, Action.COMPLETE).value,
    Failed: after(RUNNING, Action.FAIL).value,
    Cancelled: after(RUNNING, Action.CANCEL).value,
}


def _delay_ms(failed: Failed) -> int:
    # Written so that NaN is 0: a handler's RetryAfter may carry any number.
    return round(min(failed.delay, MAX_DELAY_S) * 1000) if failed.delay > 0 else 0


def release(tx: Tx, job_id: str, run: int) -> None:
    """A held run has ended; nothing that a person sees changes."""
    row = tx.job(job_id)
    if row is not None and row.held == run:
        row.held = 0
        row.pid = row.pid_started = None
        tx.save(row)
        tx.work = True


def progress(tx: Tx, job_id: str, run: int, value: float, message: str | None) -> bool:
    """Note how far a run is."""
    row = _running(tx, job_id, run)
    if row is None:
        return False
    prev, row.seq = row.seq, tx.next_seq()
    row.progress, row.progress_message = value, None if message is None else tx.text(message)
    row.version += 1
    tx.save_progress(row)
    tx.changed(row, row.status, prev=prev)
    return True


def append_logs(tx: Tx, job_id: str, run: int, lines: Sequence[LogEntry]) -> bool:
    """Append lines, numbered on from the last."""
    row = _running(tx, job_id, run)
    if row is None:
        return False
    tx.logged(job_id, tx.append_lines(row, lines))
    return True


def record_process(tx: Tx, job_id: str, run: int, pid: int, started: int) -> bool:
    """Note the command's process."""
    row = _running(tx, job_id, run)
    if row is not None:
        row.pid, row.pid_started = pid, started
        tx.save_process(row)
    return row is not None


def left_running(db: Queries) -> Rescued:
    """What a former process left; a read."""
    return _left(db, [Row(*found) for found in db.all("running_jobs")])


def _left(db: Queries, rows: Sequence[Row]) -> Rescued:
    held = [Row(*found) for found in db.all("held_jobs")]
    return Rescued(
        jobs=tuple(row.id for row in rows),
        held=tuple(row.id for row in held),
        orphans=tuple(
            Orphan(row.id, row.run, row.pid, row.pid_started or 0) for row in (*rows, *held) if row.pid is not None
        ),
        unrecorded={row.id: row.run for row in rows if row.pid is None},
    )


def rescue(tx: Tx, what_ended: str = "the server stopped") -> Rescued:
    """End what a former process left running: a crash counts as an attempt, and the job is ready again at once."""
    rows = [Row(*found) for found in tx.all("running_jobs")]
    left = _left(tx, rows)
    tx.run("free_held")
    tx.work = True
    for row in rows:
        if row.cancel_requested:
            _end(tx, row, Cancelled(f"{what_ended} while it was being cancelled"))
        else:
            _end(tx, row, Failed(f"{what_ended} while this job ran"))
    tx.save(*rows)
    return left


def keep_backoffs(tx: Tx, jump: float, after_pk: int) -> tuple[int, int | None]:
    """Move a batch of the times at which jobs are tried again along with the clock.

    Only of those that were waiting when it was set, as it is noticed up to a second later: after it went ahead, those
    whose last event is older; after it was set back, those that are due beyond where it had been.

    Returns:
        How many, and the last of the batch; None: that was all.
    """
    by = round(jump * 1000)
    before = tx.now - by  # where the clock would be
    told_by = before if by > 0 else sys.maxsize
    rows = [Row(*found) for found in tx.all("waiting_to_retry", before, after_pk, told_by, STAGE_BATCH)]
    for row in rows:
        assert row.due is not None  # noqa: S101 - it was asked for
        row.due += by
        row.scheduled_for = row.due
        tx.note(row, row.status)
    tx.save(*rows)
    tx.work = True
    return len(rows), rows[-1].pk if len(rows) == STAGE_BATCH else None


# --- by hand -------------------------------------------------------------------------------------------------------


def cancel(tx: Tx, job_id: str, owner: str | None) -> Job:
    """Cancel what waits; ask what runs."""
    row = find(tx, job_id, owner)
    before = row.status
    if before == RUNNING:
        if not row.cancel_requested:
            row.cancel_requested = 1
            tx.note(row, before)
            tx.save(row)
        tx.cancel_asked(row.id, row.run)
    else:
        row.status = after(before, Action.CANCEL).value
        row.cancel_requested = 1
        row.completed_at = tx.now
        row.ready, row.due = 0, None
        tx.note(row, before)
        tx.save(row)
    return tx.whole(row)


def retry(tx: Tx, job_id: str, owner: str | None) -> Job:
    """Put an ended job back in its queue."""
    row = find(tx, job_id, owner)
    before = row.status
    status = after(before, Action.RETRY).value
    if row.unique_key is not None:
        twin = tx.one("live_by_unique_key", row.created_by, row.unique_key)
        if twin is not None:
            raise UniqueKeyLive(f"job {Row(*twin).id} is live with the same unique key")
    row.status = status  # not before: in a bulk action who is refused is skipped, and the row goes on to the next write
    row.attempts = row.cancel_requested = 0
    if row.result == APART:
        tx.run("delete_result", row.pk)
    row.error = row.result = row.progress = row.progress_message = None
    row.started_at = row.completed_at = row.scheduled_for = row.due = None
    row.processing_by = row.processing_by if row.held else None
    tx.enqueued(row)
    tx.note(row, before)
    tx.save(row)
    return tx.whole(row)


def delete(tx: Tx, job_id: str, owner: str | None) -> None:
    """Remove a job that does not run."""
    row = find(tx, job_id, owner)
    if row.status == RUNNING:
        raise IllegalTransition("delete", row.status)
    tx.remove(row)
    tx.deleted(row)


def set_paused(tx: Tx, name: str, paused: bool) -> None:
    """Pause or resume a queue."""
    before = tx.paused(name)
    if before is None:
        raise NotFound("there is no such queue")
    if before != paused:
        tx.run("pause_queue", int(paused), name)
        tx.queue_changed(name, paused)
    if not paused:
        tx.hot(name)
