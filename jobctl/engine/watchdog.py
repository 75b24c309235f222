"""Notices when the event loop does not turn, and says which job is to blame.

A task on the loop beats four times a second; a thread looks whether it does. While something blocks the loop (a
handler that is ``async`` and calls what is not), the thread can still see the main thread's frames: the executor's
frame, or that of the trio task, leads to the job. Nothing is done for a run before it misbehaves.
"""

import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

import trio

from jobctl import logs
from jobctl.engine.executor import Executor
from jobctl.engine.last_words import briefly
from jobctl.metrics import Metrics

BEAT_S: Final = 0.25
WINDOW_S: Final = 10.0
"""What ``trouble`` looks back on."""
MAX_SHARE: Final = 0.5
"""Of the window; one that is held up for longer has no time left for new work."""
STUCK_S: Final = 1.0
"""So long the thread has to see the loop stand still, itself running: a process that was frozen is not stuck."""
MAX_FRAMES: Final = 30
_CALLS: Final = frozenset({Executor.execute.__code__, Executor.call.__code__})
_TRIO: Final = str(Path(trio.__file__).parent)
_NOT_THEIRS: Final = (_TRIO, str(Path(__file__).parent))
log = logging.getLogger("jobctl.watchdog")


class Culprit(NamedTuple):
    """What the main thread is at: a job's name and id, as far as it is one's, and the innermost frames."""

    job: tuple[str, str] | None
    stack: str
    idle: bool
    """It waits for events: not blocked, but not let run."""

    def told(self, verb: str) -> str:
        """``job ID (NAME) blocks it``, with ``verb`` for the tense."""
        if self.job is not None:
            return f"job {self.job[1]} ({self.job[0]}) {verb} it"
        if self.idle:
            return f"nothing {verb} it: the machine is overloaded, or a thread holds the interpreter's lock"
        return f"what {verb} it is no job"


class Watchdog:
    """Watches the loop that runs ``run``.

    Args:
        metrics: Where lag and stalls are counted.
        max_lag: Seconds without a turn of the loop that are worth a line in the log.
        clock: Seconds that do not go back, seen by both threads.
    """

    def __init__(self, metrics: Metrics, *, max_lag: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_lag = max_lag
        self.stuck: Callable[[], None] = lambda: None
        """Called by the thread, again and again, while the loop stands still."""
        self._metrics = metrics
        self._clock = clock
        self._beat = clock()
        self._lags: deque[tuple[float, float]] = deque(maxlen=round(WINDOW_S / BEAT_S) + 1)
        self._culprit: Culprit | None = None
        self._lock = threading.Lock()  # the thread may notice a stall in the moment that it ends
        self._main = threading.get_ident()
        self._over = threading.Event()
        self._seen = self._beat
        self._still = 0.0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Beat, while a thread looks on."""
        self._main = threading.get_ident()
        self.beat(0.0)
        thread = threading.Thread(target=self._look_on, name="jobctl-watchdog", daemon=True)
        thread.start()
        with self._lock:
            self._beat = self._clock()  # on a busy machine the thread's start takes a while, and is no lag
        try:
            task_status.started()
            while True:
                due = trio.current_time() + BEAT_S
                await trio.sleep(BEAT_S)
                self.beat(max(0.0, trio.current_time() - due))
        finally:
            self._over.set()

    def beat(self, lag: float) -> None:
        """The loop has turned, ``lag`` seconds later than it should have."""
        with self._lock:
            culprit, self._culprit = self._culprit, None
            self._beat = self._clock()
        self._metrics.loop_lag.observe(lag)
        self._lags.append((self._beat, lag))
        if lag >= self.max_lag or culprit is not None:
            self._metrics.stalls += 1
            self._metrics.stalled_seconds += lag
            said = "what blocked it was not seen" if culprit is None else culprit.told("blocked")
            log.warning("the event loop turns again after %.1f s; %s", lag, said, extra=_fields(culprit, lag))

    def look(self) -> None:
        """See whether the loop turns; on a thread that is not the loop's."""
        self._still = self._still + self._pause if self._seen == self._beat else 0.0
        self._seen = self._beat
        if self._still >= STUCK_S:
            self.stuck()
        late = self._clock() - self._beat - BEAT_S
        if late < self.max_lag or self._culprit is not None:
            return
        found = culprit(sys._current_frames().get(self._main))  # noqa: SLF001 - there is no public way
        with self._lock:
            if self._clock() - self._beat - BEAT_S < self.max_lag:
                return  # it has just gone on; these frames are of what came after
            self._culprit = found
        fields = _fields(found, late) | ({"stack": found.stack} if found.stack else {})
        text = f"the event loop has not turned for {late:.1f} s; {found.told('blocks')}"
        briefly(lambda: log.warning("%s", text, extra=fields))  # what blocks it may be a line of the log

    @property
    def _pause(self) -> float:
        """Seconds between two looks."""
        return min(0.25, max(0.02, self.max_lag / 4))

    def trouble(self) -> str | None:
        """Why the loop has no time for more work, if so."""
        since = self._clock() - WINDOW_S
        held = sum(lag for at, lag in self._lags if at > since)
        if held <= WINDOW_S * MAX_SHARE:
            return None
        return f"the event loop was held up for {min(held, WINDOW_S):.0f} of the last {WINDOW_S:.0f} s"

    def _look_on(self) -> None:
        while not self._over.wait(self._pause):
            self.look()


def culprit(frame: FrameType | None) -> Culprit:
    """What the thread with this innermost frame is at."""
    frames: list[FrameType] = []
    job: tuple[str, str] | None = None
    idle = frame is not None and frame.f_code.co_name == "get_events" and frame.f_code.co_filename.startswith(_TRIO)
    while frame is not None and job is None:
        if frame.f_code in _CALLS:
            claimed = frame.f_locals["run"].job
            job = (claimed.name, claimed.id)
        elif frame.f_code.co_name == "unrolled_run" and frame.f_code.co_filename.startswith(_TRIO):
            task = frame.f_locals.get("task")  # one that a handler has started inherits the job's context
            job = task.context.get(logs.running) if isinstance(task, trio.lowlevel.Task) else None
            break
        else:
            frames.append(frame)
        frame = frame.f_back
    theirs = [each for each in frames if not each.f_code.co_filename.startswith(_NOT_THEIRS)] or frames
    shown = [(each, each.f_lineno) for each in reversed(theirs[:MAX_FRAMES])]
    return Culprit(job, "".join(traceback.StackSummary.extract(iter(shown)).format()).rstrip(), idle)


def _fields(found: Culprit | None, seconds: float) -> dict[str, object]:
    fields: dict[str, object] = {"seconds": round(seconds, 3)}
    if found is not None and found.job is not None:
        fields["job_name"], fields["job_id"] = found.job
    return fields
