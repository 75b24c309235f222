"""The client for programs, on trio: the HTTP API and the stream behind one object."""

import random
import ssl
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, Self, TypeVar

import httpx2
import trio

from jobctl.client import api
from jobctl.client.address import Address
from jobctl.client.connection import Connection
from jobctl.client.live import Watch, describe
from jobctl.client.logs import LogLines
from jobctl.client.token import Token, TokenFunction
from jobctl.client.waiting import wait
from jobctl.errors import ClientError, SignInFailed, Unreachable, WaitTimeout
from jobctl.model import Job, JobFilter, JobPage, LogLine, Position, Queue, Stats
from jobctl.protocol.messages import SubscribeJobs
from jobctl.states import Status
from jobctl.worker import Worker

T = TypeVar("T")

HTTP_TIMEOUT_S: Final = 60.0


class Client:
    """One server, one token. Use as ``async with Client(url, token) as client``.

    Args:
        url: ``http[s]://HOST[:PORT]``. The environment's proxies are not used.
        token: A JWT, or a function (plain or async) that gives a fresh one: it is called again when the token is about
            to expire or was refused.
        patience: Seconds for which a call whose connection fails is tried again (those that may be repeated), and for
            which a first stream connection is. A stream that has once stood is tried again for ever.
        tls: For ``https``; the system's certificates by default.
    """

    def __init__(
        self, url: str, token: str | TokenFunction, *, patience: float = 15.0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.address = Address.parse(url)
        self.token = Token(token)
        self.patience = patience
        self.tls = tls or (ssl.create_default_context() if self.address.secure else None)
        self._http: httpx2.AsyncClient | None = None
        self._tasks: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._nursery: trio.Nursery | None = None
        self._connections: set[Connection] = set()
        self.requests = 0
        """HTTP requests sent so far."""
        self.connections = 0
        """Stream connections made so far."""

    async def __aenter__(self) -> Self:
        self._http = httpx2.AsyncClient(
            base_url=str(self.address), timeout=HTTP_TIMEOUT_S, trust_env=False, verify=self.tls or False
        )
        self._tasks = trio.open_nursery()
        self._nursery = await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in tuple(self._connections):
            connection.abandon()
        self._connections.clear()
        if self._http is not None:
            with trio.CancelScope(deadline=trio.current_time() + 1.0, shield=True):
                await self._http.aclose()
        if self._tasks is not None:
            tasks, self._tasks = self._tasks, None
            self.nursery.cancel_scope.cancel()
            # Without the block's own exception: that one goes on its way as it is, not in a group.
            await tasks.__aexit__(None, None, None)

    @property
    def nursery(self) -> trio.Nursery:
        """The parent of the tasks that read from stream connections; there while the client is open."""
        if self._nursery is None:
            raise RuntimeError("use the client as `async with Client(...) as client`")
        return self._nursery

    # --- jobs --------------------------------------------------------------------------------------------------

    async def enqueue(
        self,
        name: str,
        data: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
        delay: float | None = None,
        scheduled_for: datetime | str | None = None,
        max_attempts: int | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the job's
        unique_key: str | None = None,
        tags: Iterable[str] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Enqueue a job. Tried again when the connection fails: it is made once, whatever happens on the way."""
        fields = api.job_fields(
            name, data, queue=queue, priority=priority, delay=delay, scheduled_for=scheduled_for,
            max_attempts=max_attempts, timeout=timeout, unique_key=unique_key, tags=list(tags) if tags else None,
        )  # fmt: skip
        return await self.get_value(api.enqueue(fields, key=idempotency_key))

    async def enqueue_batch(
        self, jobs: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> api.BatchResult:
        """Enqueue up to 10,000 jobs, all or nothing. Each has ``name`` and whatever else ``enqueue`` takes."""
        lines = [api.encode(api.job_fields(**job)) for job in jobs]
        return await self.get_value(api.enqueue_batch(lines, key=idempotency_key))

    async def get(self, job_id: str) -> Job:
        """One job, whole.

        Raises:
            ApiError: with status 404, there is none.
        """
        return await self.get_value(api.get_job(job_id))

    async def list(
        self,
        *,
        statuses: Iterable[str] = (),
        names: Iterable[str] = (),
        queues: Iterable[str] = (),
        tags: Iterable[str] = (),
        created_by: str | None = None,
        q: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> JobPage:
        """A page of jobs, newest first; ``cursor`` of a page leads to the next."""
        return await self.get_value(
            api.list_jobs(
                statuses=statuses, names=names, queues=queues, tags=tags,
                created_by=created_by, q=q, limit=limit, cursor=cursor,
            )
        )  # fmt: skip

    async def stats(self) -> Stats:
        """How many jobs there are in each status and queue."""
        return await self.get_value(api.stats())

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job; a running one is asked first."""
        return await self.get_value(api.cancel(job_id))

    async def retry(self, job_id: str) -> Job:
        """Run a finished job again, with all its attempts."""
        return await self.get_value(api.retry(job_id))

    async def delete(self, job_id: str) -> None:
        """Delete a job that does not run."""
        await self.send(api.delete(job_id))

    async def bulk(
        self,
        action: str,
        *,
        statuses: Iterable[str] = (),
        names: Iterable[str] = (),
        queues: Iterable[str] = (),
        tags: Iterable[str] = (),
        created_by: str | None = None,
        q: str | None = None,
        dry_run: bool = False,
    ) -> api.BulkDone:
        """``retry``, ``cancel`` or ``delete`` all jobs that match; with ``dry_run`` only count them.

        All conditions hold together, and there is at least one. Not tried again when the connection fails: what was
        done until then stays done.
        """
        wanted = api.job_filter(statuses=statuses, names=names, queues=queues, tags=tags, created_by=created_by, q=q)
        done = None
        while done is None or done.cursor is not None:
            cursor = done.cursor if done else None
            more = await self.get_value(api.bulk(action, wanted, dry_run=dry_run, cursor=cursor))
            done = api.added(done, more)
        return done

    async def logs(self, job_id: str, after: int = 0) -> tuple[LogLine, ...]:
        """All lines of a job's log after line ``after``."""
        lines: tuple[LogLine, ...] = ()
        while True:
            page = await self.get_value(api.logs(job_id, after))
            lines += page.lines
            if not page.has_more or not page.lines:
                return lines
            after = page.lines[-1].n

    def follow_logs(self, job_id: str, *, after: int = 0) -> LogLines:
        """Follow a job's log: ``async for line in client.follow_logs(id)``; it ends when the job has.

        Then ``.job`` of what this returns is the job as it ended. It reconnects, and gives each line once and in order.

        Args:
            job_id: Which job; of all its runs, also those that have ended.
            after: Only lines after this one.

        Raises:
            NotFound: while it is read: there is no such job, or it was deleted.
        """
        return LogLines(self, job_id, after)

    async def workers(self) -> tuple[Worker, ...]:
        """The processes that run jobs (for admins)."""
        return (await self.get_value(api.workers())).workers

    async def queues(self) -> tuple[Queue, ...]:
        """All queues."""
        return (await self.get_value(api.queues())).queues

    async def pause(self, queue: str) -> None:
        """Start nothing more of a queue."""
        await self.send(api.pause(queue))

    async def resume(self, queue: str) -> None:
        """Start jobs of a queue again."""
        await self.send(api.resume(queue))

    async def handlers(self) -> Any:
        """What this server can run."""
        return await self.get_value(api.handlers())

    # --- the stream --------------------------------------------------------------------------------------------

    def watch(
        self,
        *,
        ids: Iterable[str] | None = None,
        names: Iterable[str] | None = None,
        queues: Iterable[str] | None = None,
        statuses: Iterable[str] | None = None,
        tags: Iterable[str] | None = None,
        mine: bool = False,
        since: str | Position | None = None,
        stats: bool = False,
        conflate: bool = False,
    ) -> Watch:
        """Follow jobs: ``async for update in client.watch(...)``.

        An update is a ``JobUpdate``, ``JobDeleted``, ``JobsPruned``, with ``stats`` a ``JobStatsUpdate``
        (``jobctl.protocol.messages``), or a ``Resynced`` where updates were lost. All conditions hold together.

        Args:
            ids: Which jobs.
            names: Of which names.
            queues: In which queues.
            statuses: In one of these before or after a change.
            tags: With one of these tags.
            mine: Only those that the token's subject created.
            since: ``EPOCH:SEQ``: everything after it, then live. Without it: live from now.
            stats: The counts too.
            conflate: Only the latest state of a job on the way; no final state is skipped.
        """
        wanted = JobFilter(
            ids=_maybe(ids), names=_maybe(names), queues=_maybe(queues),
            statuses=None if statuses is None else tuple(Status(v) for v in statuses), tags=_maybe(tags), mine=mine,
        )  # fmt: skip
        request = SubscribeJobs(filter=None if wanted == JobFilter() else wanted, stats=stats, conflate=conflate)
        return Watch(self, request, Position.parse(since) if isinstance(since, str) else since)

    async def wait(
        self, ids: Iterable[str], *, timeout: float | None = None, since: Position | str | None = None  # noqa: ASYNC109
    ) -> tuple[Job, ...]:
        """Wait until all of ``ids`` have ended; the final jobs, in that order.

        Args:
            ids: Which.
            timeout: Seconds; None is for ever.
            since: A position before they were enqueued: spares a look at each.

        Raises:
            WaitTimeout: they had not all ended.
            NotFound: one does not exist, or was deleted meanwhile.
        """
        wanted = tuple(ids)
        scope = trio.CancelScope() if timeout is None else trio.move_on_after(timeout)
        with scope:
            return await wait(self, wanted, Position.parse(since) if isinstance(since, str) else since)
        raise WaitTimeout(f"the jobs had not all ended after {timeout:g} s")

    # --- requests ----------------------------------------------------------------------------------------------

    async def get_value(self, call: api.Call[T]) -> T:
        """Send ``call`` (of ``client.api``), decode the answer's value."""
        return api.decode(call, await self.send(call))

    async def send(self, call: api.Call[Any]) -> api.Answer:
        """Send ``call`` until it is answered, as its own rules and the client's patience allow.

        Raises:
            Unreachable: no answer.
            SignInFailed: the server refuses the token, and a fresh one.
            ApiError: the server refuses the call.
        """
        give_up = trio.current_time() + self.patience
        tries, fresh = 0, False
        while True:
            tries += 1
            try:
                return await self._once(call, await self.token.get(fresh=fresh))
            except SignInFailed:
                if fresh or not self.token.renewable:
                    raise
                fresh = True
            except ClientError as error:
                fresh = False
                delay = api.retry_delay(call, error, tries, random.random())  # noqa: S311 - jitter, not a secret
                if delay is None or trio.current_time() + delay > give_up:
                    raise
                await trio.sleep(delay)

    async def _once(self, call: api.Call[Any], token: str) -> api.Answer:
        if self._http is None:
            raise RuntimeError("use the client as `async with Client(...)`")
        self.requests += 1
        headers = {"Authorization": f"Bearer {token}", **dict(call.headers)}
        try:
            answer = await self._http.request(call.method, call.path, content=call.body, headers=headers)
        except httpx2.TransportError as error:
            raise Unreachable(f"cannot reach {self.address}: {describe(error)}") from None
        return api.parse(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.content)

    def remember(self, connection: Connection) -> None:
        """A ``Watch`` has opened a connection; it is closed with the client at the latest."""
        self._connections.add(connection)
        self.connections += 1

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        self._connections.discard(connection)


def _maybe(values: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)
