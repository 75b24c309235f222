"""What the queue should be, in plain Python: a dictionary of jobs and the rules of the design, with no database.

Each method says what the store's answer must have been, and then follows it. Times are ms since the epoch. Nothing here
imports the store's own rules: the two have to agree because both are right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import UNSET

from jobctl.model import MAX_INLINE, Job, NewJob
from jobctl.store.base import Cancelled, Claims, Completed, Enqueued, Failed, Outcome, Released

WAITING: Final = ("pending", "retrying")
LIVE: Final = ("pending", "retrying", "running")
ENDED: Final = ("completed", "failed", "cancelled")
DAY_MS: Final = 86_400_000


@dataclass
class Twin:
    """One job as it should be."""

    id: str
    order: int
    owner: str
    name: str
    queue: str
    priority: int
    max_attempts: int
    unique_key: str | None
    scheduled_for: int | None
    due: int | None
    status: str = "pending"
    attempts: int = 0
    version: int = 1
    run: int = 0
    held: int = 0
    cancel_requested: bool = False
    completed_at: int | None = None
    result: bytes | None = None
    lines: int = 0
    told: int = 0
    """When it began to wait to be tried again."""

    def shown(self) -> dict[str, Any]:
        """What of it must be seen from outside."""
        return {
            "owner": self.owner,
            "name": self.name,
            "queue": self.queue,
            "priority": self.priority,
            "status": self.status,
            "attempts": self.attempts,
            "version": self.version,
            "cancel_requested": self.cancel_requested,
            "ended": self.completed_at is not None,
            "unique_key": self.unique_key,
            "large_result": self.result is not None and len(self.result) > MAX_INLINE,
        }


def seen(job: Job) -> dict[str, Any]:
    """The same of a job that the store shows."""
    return {
        "owner": job.created_by,
        "name": job.name,
        "queue": job.queue,
        "priority": job.priority,
        "status": job.status.value,
        "attempts": job.attempts,
        "version": job.version,
        "cancel_requested": job.cancel_requested,
        "ended": job.completed_at is not None,
        "unique_key": job.unique_key,
        "large_result": job.omitted is not UNSET and "result" in job.omitted,
    }


@dataclass
class Reference:
    """The whole queue."""

    jobs: dict[str, Twin] = field(default_factory=dict)
    paused: dict[str, bool] = field(default_factory=lambda: {"default": False})
    known: frozenset[str] | None = None
    keys: dict[tuple[str, str], tuple[bytes, tuple[str, ...], int]] = field(default_factory=dict)
    """Idempotency: owner and key -> fingerprint, the ids that were answered, when."""
    runs: list[tuple[str, int]] = field(default_factory=list)
    """Every run that was ever claimed, those that are over as well."""
    made: int = 0

    # --- enqueueing ----------------------------------------------------------------------------------------------

    def remembered(self, owner: str, key: str, now: int) -> tuple[bytes, tuple[str, ...]] | None:
        """What an idempotency key stands for at present."""
        found = self.keys.get((owner, key))
        return None if found is None or found[2] <= now - DAY_MS else found[:2]

    def forget_keys(self, now: int) -> None:
        """Keys past their time are removed; a clock that is set back does not bring them back."""
        self.keys = {key: kept for key, kept in self.keys.items() if kept[2] > now - DAY_MS}

    def twin_of(self, owner: str, unique_key: str | None) -> Twin | None:
        """The live job that holds the key."""
        if unique_key is None:
            return None
        found = [job for job in self.jobs.values() if job.unique_key == unique_key and job.owner == owner]
        live = [job for job in found if job.status in LIVE]
        assert len(live) <= 1, f"{len(live)} live jobs hold {unique_key}"
        return live[0] if live else None

    def enqueued(self, new: Sequence[NewJob], owner: str, now: int, answer: Enqueued) -> None:
        """Follow an enqueue that was not answered from memory."""
        assert not answer.replayed
        created = 0
        for wanted, job_id in zip(new, answer.ids, strict=True):
            twin = self.twin_of(owner, wanted.unique_key)
            if twin is not None:
                assert job_id == twin.id
                continue
            assert job_id not in self.jobs
            created += 1
            self.made += 1
            self.paused.setdefault(wanted.queue, False)
            later = wanted.scheduled_for is not None and wanted.scheduled_for > now
            self.jobs[job_id] = Twin(
                id=job_id, order=self.made, owner=owner, name=wanted.name, queue=wanted.queue,
                priority=wanted.priority, max_attempts=wanted.max_attempts, unique_key=wanted.unique_key,
                scheduled_for=wanted.scheduled_for, due=wanted.scheduled_for if later else None,
            )  # fmt: skip
        assert (answer.created, answer.existing) == (created, len(new) - created)

    # --- running -------------------------------------------------------------------------------------------------

    def busy(self) -> dict[str, int]:
        """Runs alive by queue, as a runner counts them."""
        return dict(Counter(job.queue for job in self.jobs.values() if job.status == "running" or job.held))

    def claimable(self, queue: str) -> list[Twin]:
        """What may start, in the order in which it must."""
        ready = [
            job
            for job in self.jobs.values()
            if job.queue == queue
            and job.status in WAITING
            and job.due is None
            and not job.held
            and (self.known is None or job.name in self.known)
        ]
        return sorted(ready, key=lambda job: (-job.priority, job.order))

    def claimed(self, answer: Claims, now: int, slots: int, limits: Mapping[str, int], busy: Mapping[str, int]) -> None:
        """Follow a claim: what it gave must be first in line, and no place may stay empty that could be filled."""
        for job in self.jobs.values():
            if job.due is not None and job.due <= now and not job.held:
                job.due = None
        got: dict[str, list[str]] = {}
        for claim in answer.claims:
            got.setdefault(claim.job.queue, []).append(claim.job.id)
        possible = 0
        for queue, paused in self.paused.items():
            line = [] if paused else self.claimable(queue)
            room = max(0, limits[queue] - busy.get(queue, 0)) if queue in limits else len(line)
            mine = got.pop(queue, [])
            assert mine == [job.id for job in line[: len(mine)]], f"queue {queue}: not those who were first in line"
            assert len(mine) <= room
            possible += min(len(line), room)
        assert not got, "a job of a queue that is not there"
        assert len(answer.claims) == min(slots, possible)
        for claim in answer.claims:
            job = self.jobs[claim.job.id]
            job.status = "running"
            job.run += 1
            job.version += 1
            assert claim.run == job.run, "a run number was used again"
            self.runs.append((job.id, claim.run))
        waiting = [job.due for job in self.jobs.values() if job.due is not None and not job.held]
        assert answer.next_due == min(waiting, default=None)

    def is_current(self, job_id: str, run: int) -> bool:
        """Whether the job is running that run now."""
        job = self.jobs.get(job_id)
        return job is not None and job.status == "running" and job.run == run

    def finished(self, job_id: str, run: int, outcome: Outcome, now: int, *, held: bool) -> bool:
        """What ``finish`` must answer."""
        if not self.is_current(job_id, run):
            return False
        job = self.jobs[job_id]
        job.held = run if held else 0
        self._end(job, outcome, now)
        return True

    def _end(self, job: Twin, outcome: Outcome, now: int) -> None:
        job.version += 1
        if isinstance(outcome, Released) and not job.cancel_requested:
            job.status = "pending"
            job.due = now if job.held else None
            return
        job.attempts += 1
        more = isinstance(outcome, Failed) and outcome.retry and job.attempts < job.max_attempts
        if more and not job.cancel_requested and isinstance(outcome, Failed):
            wait = round(outcome.delay * 1000)
            job.status, job.told = "retrying", now
            job.scheduled_for = now + wait
            job.due = now + wait if wait or job.held else None
            return
        job.completed_at = now
        if isinstance(outcome, Completed):
            job.status, job.result = "completed", outcome.result
        elif isinstance(outcome, Cancelled | Released) or more:
            job.status = "cancelled"
        else:
            job.status = "failed"

    def released(self, job_id: str, run: int) -> None:
        """A held run has ended."""
        job = self.jobs.get(job_id)
        if job is not None and job.held == run:
            job.held = 0

    def rescued(self, now: int) -> set[str]:
        """A new owner has ended what the old one left; the ids that were running."""
        found = {job.id for job in self.jobs.values() if job.status == "running"}
        for job in self.jobs.values():
            job.held = 0
        for job_id in found:
            job = self.jobs[job_id]
            self._end(job, Cancelled() if job.cancel_requested else Failed("crash"), now)
        return found

    def clock_set(self, before: int, now: int) -> int:
        """Who waits to be tried again, and was not to be yet, waits as long as before; how many do."""
        waiting = [
            job
            for job in self.jobs.values()
            if job.status == "retrying"
            and job.due is not None
            and job.due >= before
            and (now < before or job.told <= before)
        ]
        for job in waiting:
            assert job.due is not None
            job.due += now - before
            job.scheduled_for = job.due
            job.version += 1
            job.told = now
        return len(waiting)

    # --- by hand -------------------------------------------------------------------------------------------------

    def cancelled(self, job_id: str, now: int) -> None:
        """A cancel that was not refused."""
        job = self.jobs[job_id]
        if job.status == "running":
            if job.cancel_requested:
                return
        else:
            job.status, job.completed_at, job.due = "cancelled", now, None
        job.cancel_requested = True
        job.version += 1

    def retried(self, job_id: str, now: int) -> None:
        """A retry that was not refused."""
        job = self.jobs[job_id]
        job.status, job.attempts, job.cancel_requested = "pending", 0, False
        job.completed_at = job.result = job.scheduled_for = None
        job.due = now if job.held else None
        job.version += 1

    def may_retry(self, job: Twin) -> bool:
        """Whether a retry is allowed."""
        return job.status in ENDED and self.twin_of(job.owner, job.unique_key) is None

    # --- forgetting ----------------------------------------------------------------------------------------------

    def prunable(self, status: str, now: int, older_than: float | None, keep: int | None) -> set[str]:
        """Ids that go, where no limit stops it."""
        ended = sorted(job.completed_at or 0 for job in self.jobs.values() if job.status == status)
        before = 0 if older_than is None else now - round(older_than * 1000)
        if keep is not None and len(ended) > keep:
            before = max(before, ended[len(ended) - keep] if keep else 2**62)
        return {
            job.id
            for job in self.jobs.values()
            if job.status == status and not job.held and (job.completed_at or 0) < before
        }

    def forget(self, ids: Iterable[str]) -> None:
        """These jobs are gone."""
        for job_id in ids:
            del self.jobs[job_id]

    # --- what follows --------------------------------------------------------------------------------------------

    def counts(self) -> dict[tuple[str, str, str], int]:
        """What the counters must say."""
        return dict(Counter((job.owner, job.queue, job.status) for job in self.jobs.values()))
