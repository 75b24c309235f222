"""One live run: what its handler sees of it (``Context``) and what the engine knows (``Run``).

Nothing is set up for a run that reports nothing: its first call makes the ``Reporter``.
"""

import math
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import trio

from jobctl.engine.reporter import Host, Reporter
from jobctl.model import clip
from jobctl.store.base import Claim, Outcome, Released

MAX_MESSAGE: Final = 1024
_opening: Final = threading.Lock()

Asked = Literal["cancel", "stop"]


class Run:
    """A claimed job while it runs.

    ``scope`` surrounds the handler and carries its deadline (trio's clock). Once the run is ``over`` it may be another
    run's.
    """

    __slots__ = (
        "_ended",
        "asked",
        "began",
        "claim",
        "function",
        "given_up",
        "host",
        "immediate",
        "job",
        "kill_at",
        "killer",
        "noticed",
        "outlives",
        "over",
        "reporter",
        "scope",
        "stopped",
    )

    def __init__(self, claim: Claim, host: Host, scope: trio.CancelScope | None = None) -> None:
        self.claim = claim
        self.job = claim.job
        self.began = time.perf_counter()
        self.host = host
        self.scope = scope or trio.CancelScope()
        self.kill_at = math.inf
        self.killer: trio.CancelScope | None = None
        """Surrounds a command's time between SIGTERM and SIGKILL."""
        self.immediate = False
        """A command: it is told to stop by a signal, at once, not by a flag that it may look at."""
        self.asked: Asked | None = None
        self.stopped = False
        """By the server, maybe after a person has asked."""
        self.noticed = False
        """The handler has seen that it was asked to stop."""
        self.outlives: Callable[[], Awaitable[None]] | None = None
        """Set when the work goes on although the run is over: waits until it has ended."""
        self.function: threading.Event | None = None
        """Of one in a thread; set when that has ended, for whoever has no event loop to ask."""
        self.over = False
        """The handler has come to its end; what is left is to record it."""
        self.given_up: trio.Event | None = None
        """Set by the runner when it ended the run over the handler's head; fires when that is recorded."""
        self.reporter: Reporter | None = None
        self._ended = False

    @property
    def goes_on(self) -> bool:
        """Whether the handler has still to come to its end, which programs and requests do; from any thread."""
        return not (self.over if self.function is None else self.function.is_set()) and not self.immediate

    def bars(self, outcome: Outcome) -> bool:
        """Whether its job is not to be started beside it, should it go on. Given back, a program has been killed."""
        return not (self.immediate and isinstance(outcome, Released))

    def start_clock(self) -> None:
        """The job's time runs from now on."""
        self.scope.deadline = min(self.scope.deadline, trio.current_time() + self.job.timeout)

    def ask(self, why: Asked, grace: float) -> None:
        """Ask the handler to end within ``grace`` seconds; a cancel by a person outranks the server's own stop.

        On ``stop`` the time to end by oneself is already over: a function is cancelled at once.
        """
        if self.over:
            return
        self.stopped = self.stopped or why == "stop"
        if self.asked is None:
            self.asked = why
        by = trio.current_time() + grace
        if why == "stop" or self.immediate:
            self.scope.cancel()
        else:
            self.scope.deadline = min(self.scope.deadline, by)
        self.kill_at = min(self.kill_at, by)
        if self.killer is not None:
            self.killer.deadline = min(self.killer.deadline, by)

    def write(self, stream: str, text: str) -> None:
        """Add to the job's log, from any thread; several lines are split."""
        (self.reporter or self._open()).write(stream, text)

    def progress(self, value: float, message: str | None) -> None:
        """Record progress (0 to 1), from any thread."""
        (self.reporter or self._open()).progress(value, message)

    async def room(self) -> None:
        """Wait until the log's buffer has room: how a command that writes faster than the disk is slowed down."""
        if self.reporter is not None:
            await self.reporter.room()

    async def close(self) -> None:
        """Send what waits; from then on reports are ignored. Must come before the run is finished in the store."""
        self._ended = True  # a thread that opens a reporter at this very moment is fenced off by the store
        if self.reporter is not None:
            await self.reporter.close()

    def _open(self) -> Reporter:
        with _opening:
            if self.reporter is None:
                self.reporter = Reporter(self.host, self.claim.job.id, self.claim.run, closed=self._ended or self.over)
            return self.reporter


class Context:
    """What a handler gets first. All of it may be used from the event loop and from threads.

    ``attempt`` counts from 1; ``data`` is the job's data, the same that came as arguments.
    """

    __slots__ = ("_run", "attempt", "data", "job_id", "name", "queue")

    def __init__(self, run: Run, data: dict[str, Any]) -> None:
        job = run.job
        self._run = run
        self.job_id = job.id
        self.name = job.name
        self.queue = job.queue
        self.attempt = job.attempts + 1
        self.data = data

    @property
    def cancelled(self) -> bool:
        """Whether this run was asked to stop. A handler that sees True should return or raise soon.

        Seeing it decides how the run ends: one that returns after that is cancelled, one that never looked, and
        returned all the same, has done its work and is completed.
        """
        if self._run.asked is None:
            return False
        self._run.noticed = True
        return True

    def progress(self, value: float, message: str | None = None) -> None:
        """Tell how far the job is. At most ten a second are sent; the last one always is.

        Args:
            value: 0 to 1; what lies beyond is set to the nearer end.
            message: What is going on; cut at 1 KiB.

        Raises:
            ValueError: ``value`` is not a number.
        """
        fraction = float(value)
        if math.isnan(fraction):
            raise ValueError("progress is a number from 0 to 1, not NaN")
        self._run.progress(min(max(fraction, 0.0), 1.0), None if message is None else clip(str(message), MAX_MESSAGE))

    def log(self, line: object) -> None:
        """Add a line to the job's log (several, where it has line breaks); seen within about 0.1 s.

        A line is cut at 8 KiB and a run's log at 10 MiB. From a thread this waits when the database cannot keep up;
        in the event loop it cannot, and says in the log how many lines were dropped.
        """
        self._run.write("log", str(line))

    def __repr__(self) -> str:
        return f"<Context {self.name} {self.job_id} attempt {self.attempt}>"
