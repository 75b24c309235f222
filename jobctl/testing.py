"""Run a handler without a server, in a test.

    from jobctl import testing
    from tasks import thumbnail

    def test_a_thumbnail_keeps_its_path():
        done = testing.run(thumbnail, path="cat.png", width=320)
        assert (done.status, done.result) == ("completed", {"path": "cat.png", "width": 320})
        assert done.progress[-1].message == "resizing"

``run`` starts trio by itself; inside a trio test ``await run_async(...)``. The data is checked as at enqueue and goes
through JSON, as it does on its way through the queue; so does the result. The handler runs in the very code that runs
it in a server.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, cast

import msgspec
import trio

from jobctl.engine import registry as registry_module
from jobctl.engine.context import Run
from jobctl.engine.executor import Executor
from jobctl.engine.registry import Handler, Registry
from jobctl.engine.reporter import Host, lines_of
from jobctl.errors import InvalidInput
from jobctl.finite import not_finite
from jobctl.model import EnqueueRequest, Job, NewJob, wire_time
from jobctl.states import Status
from jobctl.store.base import Cancelled, Claim, Completed, Failed, Outcome

__all__ = ["Done", "Progress", "Setup", "run", "run_async"]

JOB_ID: Final = "01890000-0000-7000-8000-000000000001"


@dataclass(frozen=True, slots=True)
class Progress:
    """One call of ``ctx.progress``; ``value`` is from 0 to 1."""

    value: float
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """How a run ended.

    ``status`` is what the job's would be after this run: ``retry`` where it would be tried again, in ``retry_after``
    seconds (what ``RetryAfter`` said; otherwise a random time, as in a server).
    """

    status: Literal["completed", "failed", "cancelled", "retry"]
    result: Any = None
    """What the handler returned, as JSON brings it back."""
    error: str | None = None
    """What the job would show: type, message and traceback; of ``NoRetry`` and ``RetryAfter`` their message."""
    exception: BaseException | None = field(default=None, repr=False)
    """What the handler raised."""
    retry_after: float | None = None
    progress: list[Progress] = field(default_factory=list)
    """Every call, also those that a server would not send (it sends ten a second)."""
    logs: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Setup:
    """Circumstances of a run, where the usual ones are not meant: ``Setup(attempt=3).run(charge, order=7)``."""

    attempt: int = 1
    """The how-manieth try this is; with the last one a failure is final."""
    max_attempts: int | None = None
    timeout: float | None = None
    """Seconds; else the handler's own, else 3600."""
    cancel_after: float | None = None
    """Seconds after which somebody cancels the job; 0: before the handler looks for the first time."""
    cancel_grace: float = 0.2
    """Seconds that an async handler then has to end by itself. A server gives it 10 s (``cancel_grace``)."""
    queue: str = "default"
    registry: Registry | None = None
    """Where the handler is registered, if not with ``jobctl.job``."""

    def run(self, job: str | Callable[..., Any], /, **data: Any) -> Done:
        """Run the handler; for tests that are no trio tests.

        Raises:
            LookupError: it is not registered.
            InvalidInput: it does not take this data.
        """
        if trio.lowlevel.in_trio_run():
            raise RuntimeError("this is a trio test: await jobctl.testing.run_async(...)")
        return trio.run(partial(self.run_async, job, **data))

    async def run_async(self, job: str | Callable[..., Any], /, **data: Any) -> Done:
        """Run the handler; for trio tests.

        Raises:
            LookupError: it is not registered.
            InvalidInput: it does not take this data.
        """
        registry = self.registry or registry_module.default
        handler = _find(registry, job)
        new = self._enqueued(handler, registry, data)
        executor = _Executor(registry)
        recorded = _Run(Claim(_job(new, self.attempt), 1, new.data))
        if self.cancel_after == 0:
            recorded.ask("cancel", self.cancel_grace)
        async with trio.open_nursery() as nursery:
            if self.cancel_after:
                nursery.start_soon(self._cancel, recorded, self.cancel_after)
            outcome = await executor.execute(recorded)
            nursery.cancel_scope.cancel()
        return self._done(outcome, new, recorded, executor.exception)

    def _enqueued(self, handler: Handler, registry: Registry, data: dict[str, Any]) -> NewJob:
        from jobctl.web.enqueue import prepare  # it imports the whole web framework, and is the check itself

        fields: dict[str, Any] = {"name": handler.name, "data": data, "queue": self.queue}
        fields |= {"timeout": self.timeout} if self.timeout is not None else {}
        fields |= {"maxAttempts": self.max_attempts} if self.max_attempts is not None else {}
        try:
            text = msgspec.json.encode(fields)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidInput(f"this cannot be sent as JSON: {error}", field="data") from None
        if found := not_finite(fields, text, ""):
            raise InvalidInput(f"this cannot be sent as JSON: {found}", field="data")
        return prepare(msgspec.json.decode(text, type=EnqueueRequest), registry, _now_ms())

    async def _cancel(self, recorded: Run, seconds: float) -> None:
        await trio.sleep(seconds)
        recorded.ask("cancel", self.cancel_grace)

    def _done(self, outcome: Outcome, new: NewJob, recorded: "_Run", exception: BaseException | None) -> Done:
        how = partial(Done, exception=exception, progress=list(recorded.reported), logs=list(recorded.lines))
        match outcome:
            case Completed(result=result):
                return how("completed", msgspec.json.decode(result))
            case Failed(error=error, retry=True, delay=delay) if self.attempt < new.max_attempts:
                return how("retry", error=error, retry_after=delay)
            case Failed(error=error):
                return how("failed", error=error)
            case Cancelled(error=error):
                return how("cancelled", error=error)
        raise AssertionError(f"a run that nobody stopped was given back: {outcome}")


def run(job: str | Callable[..., Any], /, **data: Any) -> Done:
    """Run the handler (a function decorated with ``@job``, or its name) on ``data``; see ``Setup.run``."""
    return Setup().run(job, **data)


async def run_async(job: str | Callable[..., Any], /, **data: Any) -> Done:
    """As ``run``, for trio tests."""
    return await Setup().run_async(job, **data)


class _Run(Run):
    """A run that keeps what it reports."""

    __slots__ = ("lines", "reported")

    def __init__(self, claim: Claim) -> None:
        super().__init__(claim, cast("Host", None))  # only a Reporter asks for it, and none is opened
        self.reported: list[Progress] = []
        self.lines: list[str] = []

    def write(self, stream: str, text: str) -> None:  # noqa: ARG002
        """Keep lines as they would stand in the log."""
        self.lines += lines_of(text)

    def progress(self, value: float, message: str | None) -> None:
        """Keep progress."""
        self.reported.append(Progress(value, message))


class _Executor(Executor):
    """An executor that keeps what the handler raised."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, threads=1, draw=random.random)
        self.exception: BaseException | None = None

    def raised(self, run: Run, error: BaseException) -> Outcome:
        self.exception = error
        return super().raised(run, error)


def _find(registry: Registry, job: str | Callable[..., Any]) -> Handler:
    for handler in registry:
        if job is handler.fn or job == handler.name:
            return handler
    if isinstance(job, str):
        known = ", ".join(registry.names()) or "none; has the module with the handlers been imported?"
        raise LookupError(  # noqa: TRY004 - a name that is not there
            f"there is no handler named {job!r}; there are: {known}"
        )
    raise LookupError(f"{getattr(job, '__qualname__', job)} is no handler; is @job(...) missing?")


def _job(new: NewJob, attempt: int) -> Job:
    now = wire_time(_now_ms())
    return Job(
        id=JOB_ID, name=new.name, queue=new.queue, data=msgspec.Raw(new.data), status=Status.RUNNING,
        priority=new.priority, attempts=attempt - 1, max_attempts=new.max_attempts, error=None, result=None,
        progress=None, created_at=now, started_at=now, completed_at=None, scheduled_for=None, processing_by="testing",
        created_by="testing", unique_key=None, timeout=new.timeout, tags=new.tags, version=1, cancel_requested=False,
    )  # fmt: skip


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
