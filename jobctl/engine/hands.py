"""Tasks that run async jobs, one after the other.

A task and a cancel scope for each job would be half of what a small job costs the event loop. So the task of a job
that has come to a good end waits for the next one, in the same scope. Whatever else a job does, what it leaves behind
(context variables, a cancelled scope, a broken stack of scopes) does not reach another job: each begins in a context of
its own, and a task whose job was stopped or has failed ends with it.
"""

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import outcome
import trio

from jobctl import logs
from jobctl.engine.context import Run
from jobctl.engine.executor import Executor, from_outside
from jobctl.engine.registry import Handler
from jobctl.engine.reporter import Host
from jobctl.store.base import Claim, Outcome

LEEWAY: Final = 0.01
MOST_LEEWAY_S: Final = 1.0
"""A run may take so much longer than its time-out. To set a deadline is a twentieth of what a small job costs, and the
one of the job before, a moment ago, is nearly as good."""
_Work = tuple[Run, Handler]


class _Hand(NamedTuple):
    """A task that waits for work, in its scope."""

    task: trio.lowlevel.Task
    scope: trio.CancelScope


class Hands:
    """All of them; no more than there were async jobs at once.

    Args:
        executor: Calls handlers.
        host: Where runs live.
        nursery: Where tasks are started.
        ended: Takes the end of a run that needs nothing more, at once.
        conclude: Takes any other end.
    """

    def __init__(
        self,
        executor: Executor,
        host: Host,
        nursery: trio.Nursery,
        *,
        ended: Callable[[Run, Outcome], None],
        conclude: Callable[[Run, Outcome], Awaitable[None]],
    ) -> None:
        self._executor, self._host, self._nursery = executor, host, nursery
        self._ended, self._conclude = ended, conclude
        self._free: list[_Hand] = []
        self._context = contextvars.copy_context()

    def start(self, claim: Claim, handler: Handler) -> Run:
        """Have a free one run the claim, or a new one."""
        hand = self._take()
        if hand is None:
            run = Run(claim, self._host)
            self._nursery.start_soon(self._work, run, handler)
        else:
            run = Run(claim, self._host, hand.scope)
            give(hand.scope, claim.job.timeout)
            hand.task.context = self._context.copy()
            trio.lowlevel.reschedule(hand.task, outcome.Value((run, handler)))
        return run

    def _take(self) -> _Hand | None:
        while self._free:
            if not self._free[-1].scope.cancel_called:
                return self._free.pop()
            # The time of its last job has run out. Asking has shown it, and its task is not free any more.
        return None

    async def _work(self, run: Run, handler: Handler) -> None:
        done: Run | None = None
        how: Outcome | None = None
        task = trio.lowlevel.current_task()
        run.start_clock()
        try:
            with run.scope as scope:
                while True:
                    logs.running.set((run.job.name, run.job.id))  # for all that is said in this task, and in its own
                    how = await self._executor.call(run, handler)
                    if run.reporter is not None or run.given_up is not None or not _is_clean(task, scope):
                        break
                    run.over = True
                    self._ended(run, how)
                    done, how = run, None
                    run, handler = await self._next(task, scope)
        except BaseException as error:
            if run is done or from_outside(error):
                raise
            how = self._executor.raised(run, error)
        if run is not done:
            await self._conclude(run, how or self._executor.stopped(run))

    async def _next(self, task: trio.lowlevel.Task, scope: trio.CancelScope) -> _Work:
        hand = _Hand(task, scope)

        def abort(_: Any) -> trio.lowlevel.Abort:
            self._free.remove(hand)
            return trio.lowlevel.Abort.SUCCEEDED

        self._free.append(hand)
        work: _Work = await trio.lowlevel.wait_task_rescheduled(abort)
        return work


def give(scope: trio.CancelScope, seconds: float) -> None:
    """Give what runs in ``scope`` from now on so many seconds, or ``LEEWAY`` of them more: it is rarely set so."""
    earliest = trio.current_time() + seconds
    latest = earliest + min(MOST_LEEWAY_S, seconds * LEEWAY)
    if not earliest <= scope.deadline <= latest:
        scope.deadline = latest


def _is_clean(task: trio.lowlevel.Task, scope: trio.CancelScope) -> bool:
    """Whether they are fit for another job: no scope that the last one has opened stands open.

    Trio has no public name for a task's innermost scope. Should the one used here go, no task has a second job.
    """
    return getattr(task, "_cancel_status", task) is getattr(scope, "_cancel_status", scope)
