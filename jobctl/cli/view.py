"""What a person who follows jobs knows so far. Pure: updates go in, rows and an exit code come out."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from jobctl.cli.output import ExitCode, exit_of_jobs
from jobctl.model import Job, JobFilter, Stats
from jobctl.protocol.messages import JobDeleted, JobsPruned, JobStatsUpdate, JobUpdate
from jobctl.states import LIVE, TERMINAL

if TYPE_CHECKING:
    from jobctl.client.live import Resynced, Update

MAX_ENDED: Final = 500
"""Ended jobs whose rows are kept; no screen is higher."""
_ORDER: Final = {"running": 0, "retrying": 1, "pending": 3}


class View:
    """The jobs of one ``watch``.

    Args:
        wanted: What is followed.
    """

    def __init__(self, wanted: JobFilter) -> None:
        self._statuses = frozenset(wanted.statuses or ())
        self._ids = frozenset(wanted.ids) if wanted.ids is not None else None
        self.jobs: dict[str, Job] = {}
        self.outcomes: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.live: set[str] = set()
        self.stats: Stats | None = None
        self.updates = 0
        self._ended: dict[str, None] = {}

    def reset(self, state: "Resynced") -> list[Job]:
        """Take the whole state; the jobs whose state is news."""
        for job_id in self.jobs.keys() - {job.id for job in state.jobs}:
            if self.jobs[job_id].status in LIVE:  # it has ended or is gone; how, nobody can say from here
                del self.jobs[job_id]
                self.live.discard(job_id)
        self.deleted |= set(state.missing)
        news = [job for job in state.jobs if job.id not in self.jobs or self.jobs[job.id].version < job.version]
        for job in news:
            self._put(job)
        self.updates += 1
        return news

    def apply(self, update: "Update") -> bool:
        """Take one update; False when it tells nothing new."""
        match update:
            case JobUpdate(job=job) if self._ids is not None and job.id not in self._ids:
                return False
            case JobUpdate(job=job):
                known = self.jobs.get(job.id)
                if known is not None and job.version <= known.version:
                    return False
                self._put(job)
            case JobDeleted(id=job_id):
                self.deleted.add(job_id)
                self.jobs.pop(job_id, None)
                self.live.discard(job_id)
            case JobsPruned(statuses=statuses, finished_before=before):
                self._prune(frozenset(statuses), before)
            case JobStatsUpdate(stats=stats):
                self.stats = stats
            case _:
                return False
        self.updates += 1
        return True

    @property
    def done(self) -> bool:
        """Whether nothing more is to be waited for."""
        if self._ids is not None:
            return all(job_id in self.outcomes or job_id in self.deleted for job_id in self._ids)
        return not self.live

    @property
    def exit_code(self) -> ExitCode:
        """What the jobs that were seen to end say; one that was deleted before it ended was as good as cancelled."""
        vanished = [job_id for job_id in self._ids or () if job_id in self.deleted and job_id not in self.outcomes]
        return exit_of_jobs([*self.outcomes.values(), *("cancelled" for _ in vanished)])

    def counts(self) -> dict[str, int]:
        """How many of the jobs that it knows are in each status."""
        found = dict.fromkeys(("running", "retrying", "pending"), 0)
        for job_id in self.live:
            if (job := self.jobs.get(job_id)) is not None:
                found[job.status] += 1
        for status in self.outcomes.values():
            found[status] = found.get(status, 0) + 1
        return found

    def rows(self, height: int) -> list[Job]:
        """The jobs to show on ``height`` lines: what runs, then what ended last, then what waits.

        What waits gets a third of the lines while there is enough of everything.
        """
        active: list[Job] = []
        waiting: list[Job] = []
        for job_id in self.live:
            job = self.jobs[job_id]
            (waiting if job.status == "pending" else active).append(job)
        active.sort(key=lambda job: (_ORDER[job.status], job.started_at or "", job.id))
        active = active[:height]
        ended = [self.jobs[job_id] for job_id in reversed(self._ended) if job_id in self.jobs]
        rest = height - len(active)
        reserved = min(len(waiting), max(rest // 3, rest - len(ended)))
        waiting = _smallest(waiting, reserved)
        return active + ended[: rest - len(waiting)] + waiting

    def _put(self, job: Job) -> None:
        self.jobs[job.id] = job
        if job.status in TERMINAL:
            self.live.discard(job.id)
            self.outcomes[job.id] = job.status.value
            self._ended.pop(job.id, None)
            self._ended[job.id] = None
            self._forget_old()
            return
        self.outcomes.pop(job.id, None)
        self._ended.pop(job.id, None)
        self.deleted.discard(job.id)
        if not self._statuses or job.status in self._statuses:
            self.live.add(job.id)
        else:
            self.live.discard(job.id)

    def _prune(self, statuses: frozenset[str], before: str) -> None:
        """Drop the rows of jobs that are gone; how they ended is still known."""
        for job_id in tuple(self._ended):
            job = self.jobs.get(job_id)
            if job is not None and job.status in statuses and (job.completed_at or before) < before:
                del self._ended[job_id], self.jobs[job_id]

    def _forget_old(self) -> None:
        while len(self._ended) > MAX_ENDED:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self.jobs.pop(oldest, None)


def _smallest(jobs: Iterable[Job], count: int) -> list[Job]:
    import heapq

    return heapq.nsmallest(count, jobs, key=lambda job: (job.scheduled_for or "", -job.priority, job.id))
