"""What is the state now, and when is it over: the list and the stream joined."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from jobctl.client import api
from jobctl.client.live import Resynced
from jobctl.client.token import subject_of
from jobctl.errors import ApiError, ClientError, NotFound
from jobctl.model import MAX_FILTER_IDS, MAX_PAGE, Job, JobFilter, Position
from jobctl.protocol.messages import JobDeleted, JobUpdate
from jobctl.states import LIVE, TERMINAL

if TYPE_CHECKING:
    from jobctl.client.client import Client

RESYNC_PAGES: Final = 10
"""Pages of the list that are fetched at most: 2,000 jobs, more than a person or a table follows."""


async def current(client: "Client", wanted: JobFilter, *, pages: int = RESYNC_PAGES) -> Resynced:
    """What a filter matches now (its ``statuses``, else live jobs), and the position to go on from."""
    if wanted.ids is not None:
        return await _current_ids(client, wanted.ids)
    created_by = subject_of(await client.token.get()) if wanted.mine else None
    jobs: dict[str, Job] = {}
    position, cursor, complete = None, None, False
    for _ in range(pages):
        call = api.list_jobs(
            statuses=wanted.statuses or sorted(LIVE), names=wanted.names or (), queues=wanted.queues or (),
            tags=wanted.tags or (), created_by=created_by, limit=MAX_PAGE, cursor=cursor,
        )  # fmt: skip
        answer = await client.send(call)
        page = api.decode(call, answer)
        position = position or answer.position  # the first page's: what changed since is replayed
        jobs |= {job.id: job for job in page.jobs}
        cursor, complete = page.cursor, not page.has_more
        if complete:
            break
    return Resynced(_known(position), tuple(jobs.values()), complete=complete)


async def _current_ids(client: "Client", ids: Iterable[str]) -> Resynced:
    jobs: list[Job] = []
    missing: list[str] = []
    position = None
    for job_id in ids:
        call = api.get_job(job_id)
        try:
            answer = await client.send(call)
        except ApiError as error:
            if error.status != 404:
                raise
            missing.append(job_id)
            continue
        jobs.append(api.decode(call, answer))
        position = position or answer.position
    if position is None:
        position = (await client.send(api.stats())).position
    return Resynced(_known(position), tuple(jobs), tuple(missing))


async def wait(client: "Client", ids: tuple[str, ...], since: Position | None) -> tuple[Job, ...]:
    """The final jobs of ``ids``, when all have ended; see ``Client.wait``."""
    ended: dict[str, Job] = {}
    if since is None and ids:
        state = await current(client, JobFilter(ids=ids))
        _refuse_missing(state.missing)
        since = state.position
        ended = {job.id: job for job in state.jobs if job.status in TERMINAL}
    left = set(ids) - ended.keys()
    async with client.watch(ids=left if len(left) <= MAX_FILTER_IDS else None, since=since) as updates:
        while left:
            match await anext(updates):
                case JobUpdate(job=job) if job.id in left and job.status in TERMINAL:
                    ended[job.id] = job
                case JobDeleted(id=gone) if gone in left:
                    _refuse_missing((gone,))
                case Resynced(jobs=jobs):
                    ended |= await _look_again(client, left, jobs)
            left -= ended.keys()
    return tuple([await _whole(client, ended[job_id]) for job_id in ids])


async def _look_again(client: "Client", left: set[str], jobs: Iterable[Job]) -> dict[str, Job]:
    """Which of ``left`` have ended, after updates were lost; ``jobs`` have just been fetched."""
    found = {job.id: job for job in jobs}
    state = await _current_ids(client, [job_id for job_id in left if job_id not in found])
    _refuse_missing(state.missing)
    found |= {job.id: job for job in state.jobs}
    return {job_id: job for job_id, job in found.items() if job_id in left and job.status in TERMINAL}


async def _whole(client: "Client", job: Job) -> Job:
    """A stream's job leaves large fields out."""
    return await client.get(job.id) if job.omitted else job


def _refuse_missing(ids: Iterable[str]) -> None:
    for job_id in ids:
        raise NotFound(f"there is no job {job_id}, or it was deleted")


def _known(position: Position | None) -> Position:
    if position is None:
        raise ClientError("the server's answer carries no position; is it a jobctl server of this version?")
    return position
