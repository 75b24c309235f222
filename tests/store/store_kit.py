"""What the store's tests share: a clock to move, short ways to say things, and the invariants.

The conformance suite (``test_conformance_*.py``) knows only ``jobctl.store.base.Store`` and the fixtures of
``conftest.py``; another implementation joins by a parameter there.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from jobctl.events import Commit, Event, pruning_of
from jobctl.model import Job, JobQuery, NewJob
from jobctl.store.base import Claim, Claims, Completed, Enqueued, Store

START_MS = 1_790_000_000_000
"""When the tests' clock begins: 2026-09-21T14:13:20Z."""
ANN, BEN = "ann", "ben"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms

    def forward(self, seconds: float) -> None:
        """Move on, or back if negative."""
        self.ms += round(seconds * 1000)


class Heard:
    """A listener that keeps everything."""

    def __init__(self, store: Store) -> None:
        self.commits: list[Commit] = []
        store.listen(self.commits.append)

    @property
    def events(self) -> list[Event]:
        return [event for commit in self.commits for event in commit.events]

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.events]

    @property
    def cancels(self) -> list[str]:
        return [each.job_id for commit in self.commits for each in commit.cancels]

    @property
    def work(self) -> bool:
        return any(commit.work for commit in self.commits)

    def clear(self) -> None:
        self.commits.clear()


def new(name: str = "mail", **fields: Any) -> NewJob:
    return NewJob(name=name, **fields)


async def add(store: Store, *jobs: NewJob, owner: str = ANN, **fields: Any) -> str:
    """Enqueue; the id of the last job."""
    return (await enqueue(store, *jobs or (new(**fields),), owner=owner)).ids[-1]


async def enqueue(store: Store, *jobs: NewJob, owner: str = ANN) -> Enqueued:
    return await store.enqueue(jobs, owner=owner)


async def claims(
    store: Store, slots: int = 10, *, limits: Mapping[str, int] | None = None, busy: Mapping[str, int] | None = None
) -> Claims:
    return await store.claim(slots, worker="host:1", limits=limits or {}, busy=busy or {})


async def claim(store: Store) -> Claim:
    """The next job, started."""
    (one,) = (await claims(store, 1)).claims
    return one


async def started(store: Store, **fields: Any) -> Claim:
    """A new job, started."""
    job_id = await add(store, **fields)
    one = await claim(store)
    assert one.job.id == job_id
    return one


async def ended(store: Store, **fields: Any) -> str:
    """A new job, completed."""
    one = await started(store, **fields)
    assert await store.finish(one.job.id, one.run, Completed(b"1"))
    return one.job.id


async def shown(store: Store, job_id: str, owner: str | None = None) -> Job:
    return (await store.job(job_id, owner=owner)).value


async def status(store: Store, job_id: str) -> str:
    return (await shown(store, job_id)).status.value


async def listed(store: Store, **query: Any) -> list[Job]:
    """All pages of a query."""
    found: list[Job] = []
    cursor = None
    while True:
        page = (await store.jobs(JobQuery(cursor=cursor, **{"limit": 200, **query}))).value
        found += page.jobs
        assert page.has_more == (page.cursor is not None)
        if page.cursor is None:
            return found
        cursor = page.cursor


async def names(store: Store, **query: Any) -> list[str]:
    return [job.name for job in await listed(store, **query)]


async def all_events(store: Store) -> list[Event]:
    found: list[Event] = []
    while True:
        page = await store.events(found[-1].seq if found else 0, limit=500)
        found += page.events
        if not page.events:
            return found


async def head(store: Store) -> int:
    return (await store.events(0, limit=1)).head


def body(event: Event) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(event.body)
    return decoded


async def check_invariants(store: Store) -> None:
    """What holds at any moment: counters equal a GROUP BY, and the log, replayed, is the table."""
    jobs = await listed(store)
    counts = Counter((job.created_by, job.queue, job.status.value) for job in jobs)
    told = (await store.counters()).value
    assert dict(told.counts) == dict(counts)
    for owner in (None, *{job.created_by for job in jobs}):
        mine = [job for job in jobs if owner in (None, job.created_by)]
        stats = (await store.stats(owner=owner)).value
        by_status = Counter(job.status.value for job in mine)
        for each in ("pending", "running", "retrying", "completed", "failed", "cancelled"):
            assert getattr(stats, each) == by_status[each], (owner, each)
        assert stats.total == len(mine)
        by_queue = Counter(job.queue for job in mine)
        assert {name: queue.total for name, queue in stats.by_queue.items() if queue.total} == dict(by_queue)
    for job in jobs:
        assert job.attempts <= job.max_attempts
    events, page = await all_events(store), await store.events(0, limit=1)
    assert [event.seq for event in events] == list(range(page.start, page.head + 1)), "seq has a gap"
    if page.start > 1:  # pruned: what is left of the log does not make the table
        return
    replayed: dict[str, Any] = {}
    pruned = Counter[str]()
    for event in events:
        if event.kind == "jobs_pruned":
            pruning = pruning_of(event)
            pruned.update(pruning.of(None))
            gone = [
                job
                for job in replayed.values()
                if job["status"] in pruning.of(None) and job["completedAt"] < pruning.finished_before
            ]
            pruned.subtract(job["status"] for job in gone)
            for job in gone:
                del replayed[job["id"]]
            continue
        before = replayed.pop(event.job_id, None)
        assert event.status_before == (before and before["status"])
        if event.status is not None:
            replayed[event.job_id] = body(event)
            assert replayed[event.job_id]["status"] == event.status
            assert before is None or before["version"] < replayed[event.job_id]["version"]
    assert replayed == {job.id: msgspec.json.decode(msgspec.json.encode(job)) for job in jobs}
    assert not any(pruned.values()), "more or fewer jobs were pruned than the log says"


async def prune(store: Store, status: str = "completed", **how: object) -> int:
    """Batch after batch; how many jobs are gone."""
    count = 0
    while True:
        pruned = await store.retention.prune_jobs(status, **how)  # type: ignore[arg-type]
        count += pruned.count
        if not pruned.more:
            return count
