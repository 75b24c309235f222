"""One run of one job: call its handler, within its time, and say how it ended.

How a run ends that was asked to stop (a cancel, or the end of the server's grace time):

* its handler is cancelled by us, raises, or returns after it has seen ``ctx.cancelled``: it is cancelled (given back);
* it returns without having looked: it has done all of its work, and is completed. "Cancelled" would be untrue, and
  would make people run it again.

A function in a thread cannot be stopped. Where a person has asked, or its time is up, it is not waited for:
``Run.outlives`` says so, and the runner keeps its slot until it ends. At the server's own stop it is: given back while
it goes on, its job would be started elsewhere beside it.
"""

import contextlib
import inspect
import math
import random
import threading
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec
import trio

from jobctl.engine.commands import run_command
from jobctl.engine.context import Context, Run
from jobctl.engine.registry import Handler, Registry
from jobctl.errors import InvalidInput, NoRetry, RetryAfter
from jobctl.finite import not_finite
from jobctl.model import MAX_ERROR, MAX_RESULT, clip
from jobctl.retry import backoff
from jobctl.store.base import Cancelled, Completed, Failed, Outcome, Released

_NOTHING: Final = Completed()
_NOT_THEIRS: Final = (str(Path(__file__).parent), str(Path(trio.__file__).parent))
_MAX_FRAMES: Final = 30
"""Innermost frames shown: those of a deep recursion say nothing new."""
_MAX_HEADLINE: Final = 4096
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


class Executor:
    """Runs claims with the handlers of ``registry``; ``threads`` bounds the plain functions at work."""

    def __init__(self, registry: Registry, *, threads: int, draw: Callable[[], float] = random.random) -> None:
        self._registry = registry
        self._threads = trio.CapacityLimiter(threads)
        self._draw = draw

    async def execute(self, run: Run) -> Outcome:
        """Run the claim to its end or its time-out. Raises only the ``trio.Cancelled`` of a surrounding scope."""
        handler = self._registry.get(run.job.name)
        if handler is None:
            return self._failed(run, f"this server has no handler named {run.job.name!r}")
        try:
            run.start_clock()
            if handler.kind == "async":
                with run.scope:
                    return await self.call(run, handler)
            else:
                data = _decode(run.claim.data)
                if handler.fn is None:
                    return await self._elsewhere(run, handler, data)
                work = partial(handler.fn, Context(run, data), **_arguments(handler, data))
                return await self._in_thread(run, work, handler.name)
        except BaseException as error:
            if from_outside(error):
                raise
            return self.raised(run, error)
        return self.stopped(run)

    async def call(self, run: Run, handler: Handler) -> Outcome:
        """Run an async handler to its end. The caller has entered ``run.scope`` and knows what to make of an error."""
        assert handler.fn is not None  # noqa: S101 - its kind says so
        data = _decode(run.claim.data)
        value = await handler.fn(Context(run, data), **_arguments(handler, data))
        return self._returned(run, value, cut=run.scope.cancel_called)

    async def _elsewhere(self, run: Run, handler: Handler, data: dict[str, Any]) -> Outcome:
        """A program or somebody else's server: it is told to stop at once, not by a flag."""
        run.immediate = True
        if run.asked:
            run.scope.cancel()
        if handler.command is not None:
            return await run_command(handler.command, run, data, self._draw()) or self.stopped(run)
        assert handler.webhook is not None  # noqa: S101 - its kind says so
        with run.scope:
            return await handler.webhook.deliver(run, self._draw())
        return self.stopped(run)

    async def _in_thread(self, run: Run, work: Callable[[], Any], name: str) -> Outcome:
        ended = trio.Event()
        function = run.function = threading.Event()
        token = trio.lowlevel.current_trio_token()
        result: list[tuple[Any, BaseException | None]] = []
        starting = threading.Lock()
        state = "queued"

        def call() -> None:
            nonlocal state
            with starting:
                if state == "abandoned":
                    return
                state = "started"
            # What it raises is kept, not raised: a StopIteration cannot leave a coroutine, a SystemExit must not.
            try:
                result.append((work(), None))
            except BaseException as error:  # noqa: BLE001
                result.append((None, error))
            function.set()
            with contextlib.suppress(trio.RunFinishedError):  # abandoned by a server that is gone
                token.run_sync_soon(ended.set)

        with run.scope:
            await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads, thread_name=name)
        if not result:
            with starting:  # a thread that was asked for and has not begun must not begin any more
                if state == "started":
                    run.outlives = ended.wait
                else:
                    function.set()
                state = "abandoned"
            if run.outlives is not None and run.stopped:
                await run.outlives()
                run.outlives = None
        if result:
            value, error = result.pop()  # left there, it would be held by its own traceback: ``call`` knows the list
            return self._returned(run, value) if error is None else self.raised(run, error)
        return self.stopped(run)

    def _returned(self, run: Run, value: Any, *, cut: bool = False) -> Outcome:
        """``cut``: its scope was cancelled before."""
        if inspect.iscoroutine(value):
            value.close()
            return Failed("the handler returned a coroutine that was not awaited: an `await` is missing", retry=False)
        if run.asked and (run.noticed or cut):
            return self.stopped(run)
        return _NOTHING if value is None else _completed(value)

    def overdue(self, run: Run) -> Outcome:
        """How a run ends that was cancelled long enough ago and goes on."""
        return self.stopped(run, "; it does not stop")

    def stopped(self, run: Run, note: str = "") -> Outcome:
        """How a run ends that did not get to its own end."""
        if run.outlives is not None:
            note = "; it cannot be stopped and goes on"
        if run.asked == "stop":
            return Released()
        if run.asked == "cancel":
            return Cancelled(f"asked to stop{note}" if note else None)
        return self._failed(run, f"timed out after {run.job.timeout:g} s{note}")

    def raised(self, run: Run, error: BaseException) -> Outcome:
        """How a run ends whose handler has raised."""
        if run.asked == "stop" and run.scope.cancel_called:
            return Released()
        text = describe(error)
        if run.asked == "cancel":
            return Cancelled(text)
        found = leaves(error)
        if any(isinstance(leaf, NoRetry) for leaf in found):
            return Failed(text, retry=False)
        delays = [leaf.seconds for leaf in found if isinstance(leaf, RetryAfter)]
        if delays:
            return Failed(text, delay=max(delays))
        if run.scope.cancel_called:
            text = clip(f"timed out after {run.job.timeout:g} s\n{text}")
        return self._failed(run, text)

    def _failed(self, run: Run, text: str) -> Failed:
        return Failed(text, delay=backoff(run.job.attempts + 1, self._draw()))


def _completed(value: Any) -> Outcome:
    """The result as JSON. What cannot be one fails for good: the work was done, and would end likewise again."""
    try:
        result = _encode(value)
    except Exception as error:  # noqa: BLE001 - an object's own hooks may raise anything
        return Failed(f"the result is not JSON: {_headline(error)}", retry=False)
    if len(result) > MAX_RESULT:
        return Failed(f"the result has {len(result):,} bytes of JSON; at most {MAX_RESULT:,} are kept", retry=False)
    if found := not_finite(value, result, "result"):
        return Failed(f"the result is not JSON: {found}", retry=False)
    return Completed(result)


def _arguments(handler: Handler, data: dict[str, Any]) -> Mapping[str, Any]:
    try:
        return handler.arguments(data)
    except InvalidInput as error:  # enqueued when the handler was another
        raise NoRetry(str(error)) from None


def describe(error: BaseException) -> str:
    """An exception as a job's error: type and message, then the traceback from the user's first frame on.

    ``NoRetry`` and ``RetryAfter`` are meant, not accidents: only their message is shown. A group of one (trio wraps
    what leaves a nursery) is shown as that one. At most 16 KiB.
    """
    found = leaves(error)
    if len(found) == 1:
        error = found[0]
    if isinstance(error, NoRetry | RetryAfter):
        cause = f" ({_headline(error.__cause__)})" if error.__cause__ else ""
        return clip((_message(error) or type(error).__name__) + cause)
    head = _headline(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_NOT_THEIRS):
        trace = trace.tb_next
    return clip(f"{head}\n\n{_trace(error, trace)}".rstrip() if trace else head, MAX_ERROR)


def _trace(error: BaseException, trace: TracebackType) -> str:
    try:
        lines = list(traceback.TracebackException(type(error), error, trace, limit=-_MAX_FRAMES, compact=True).format())
    except Exception as odd:  # noqa: BLE001 - an exception may have been made so that it cannot be shown
        return f"(no traceback: {type(odd).__name__})"
    if not isinstance(error, BaseExceptionGroup) and lines[-1].startswith(type(error).__name__):
        lines.pop()  # it stands above
    return "".join(lines)


def _headline(error: BaseException) -> str:
    message = _message(error)
    return clip(f"{type(error).__name__}: {message}" if message else type(error).__name__, _MAX_HEADLINE)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as odd:  # noqa: BLE001
        return f"(no message: str() raised {type(odd).__name__})"


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions that a group holds, however deep; of another exception, itself."""
    found, waiting = [], [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        else:
            found.append(each)
    return found


def from_outside(error: BaseException) -> bool:
    """Whether this is the cancellation of a scope around the run, which must go on its way.

    One that a handler kept and raised again later belongs to no live scope; let out, it would end the server.
    """
    cancelled = any(isinstance(leaf, trio.Cancelled) for leaf in leaves(error))
    return cancelled and trio.current_effective_deadline() == -math.inf
