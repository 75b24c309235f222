"""Following the log of one job over the stream, until the job ends."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from jobctl.client import api
from jobctl.client.live import Resynced, Watch
from jobctl.errors import ApiError, NotFound
from jobctl.model import Job, JobFilter, LogLine
from jobctl.protocol.messages import JobDeleted, JobLog, JobUpdate, SubscribeJobs, SubscribeLogs
from jobctl.states import TERMINAL

if TYPE_CHECKING:
    from jobctl.client.client import Client


class LogLines:
    """Lines of one job's log; made by ``Client.follow_logs``, read with ``async for``.

    The job's own updates come over the same connection, and say when it has ended; what its log has by then is fetched
    to its last line. Like a ``Watch`` it has no task of its own, and may go on after its reader was cancelled.

    Attributes:
        after: The number of the last line that was given; go on later from here.
        job: The job as it ended; None before the end.
        look: Called with the stream behind it whenever its connection may have changed.
    """

    def __init__(self, client: "Client", job_id: str, after: int = 0) -> None:
        self._client = client
        self._id = job_id
        self._fetched = after
        self._watch: Watch | None = None
        self._ended: Job | None = None
        self._lines: deque[LogLine] = deque()
        self.after = after
        self.job: Job | None = None
        self.look: Callable[[Watch], None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection."""
        if self._watch is not None:
            await self._watch.aclose()

    async def __anext__(self) -> LogLine:
        """The next line.

        Raises:
            NotFound: there is no such job, or it was deleted.
            Unreachable, SignInFailed, ClientError: as ``Watch``.
        """
        while not self._lines:
            if self.job is not None:
                await self.aclose()
                raise StopAsyncIteration
            await self._step()
        line = self._lines.popleft()
        self.after = line.n
        return line

    async def _step(self) -> None:
        """One step, after which there may be lines or the end. Cancelled anywhere, it may be called again."""
        if self._ended is not None:
            await self._fetch_rest(self._ended)
        elif self._watch is None:
            await self._begin()
        elif (update := self._watch.take()) is not None:
            self._take(update)
        else:
            await self._watch.advance()
            if self.look is not None:
                self.look(self._watch)

    async def _begin(self) -> None:
        call = api.get_job(self._id)
        try:
            answer = await self._client.send(call)
        except ApiError as error:
            raise (self._missing() if error.status == 404 else error) from None
        job = api.decode(call, answer)
        if job.status in TERMINAL:
            self._ended = job
            return
        request = SubscribeJobs(filter=JobFilter(ids=(self._id,)), stats=False)
        log = SubscribeLogs(id=self._id, after=self._fetched)
        self._watch = Watch(self._client, request, answer.position, log=log)

    def _take(self, update: object) -> None:
        match update:
            case JobLog(lines=lines):
                self._lines.extend(lines)
                self._fetched = lines[-1].n
            case JobUpdate(job=job) if job.status in TERMINAL:
                self._ended = job
            case JobDeleted() | Resynced(jobs=()):
                raise self._missing()
            case Resynced(jobs=(job,)) if job.status in TERMINAL:
                self._ended = job

    async def _fetch_rest(self, ended: Job) -> None:
        """A run's lines are stored before its end is: all that there are can be read now."""
        try:
            page = await self._client.get_value(api.logs(self._id, self._fetched))
        except ApiError as error:
            raise (self._missing() if error.status == 404 else error) from None
        self._lines.extend(page.lines)
        if page.lines:
            self._fetched = page.lines[-1].n
        if not page.has_more:
            self.job = await self._client.get(self._id) if ended.omitted else ended

    def _missing(self) -> NotFound:
        return NotFound(f"there is no job {self._id}, or it was deleted")
