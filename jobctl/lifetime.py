"""What a process of ours does about its own life: signals, the service manager, descriptors, the last resort."""

import contextlib
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from jobctl.engine.context import Run
from jobctl.engine.executor import leaves
from jobctl.engine.last_words import briefly
from jobctl.errors import JobctlError
from jobctl.notify import Notifier
from jobctl.store.base import Store

MAX_DESCRIPTORS: Final = 65_536
"""Above the most connections that the settings' default allows."""
OPEN_MAX: Final = 10_240
"""What macOS lets a process have where it refuses more, though its hard limit is none."""
COLLECT_AFTER: Final = 5_000
"""New objects between two looks of the collector (Python: 700). A request makes some hundred, nearly all soon gone."""
log = logging.getLogger("jobctl")


def settle() -> None:
    """Have the collector leave alone what has been imported, and look at what is new less often.

    It went through all of it again and again, for a tenth of what a request costs.
    """
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run ``main`` on trio. An error that was raised on purpose comes out as itself, whatever it was raised in."""
    settle()
    try:
        trio.run(main)
    except BaseExceptionGroup as group:
        meant = [each for each in leaves(group) if isinstance(each, JobctlError)]
        if not meant:
            raise
        raise meant[0] from group


async def watch_signals(
    stop: Callable[[], None],
    *,
    stopping: Callable[[], bool],
    reload: Callable[[], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """SIGTERM and Ctrl-C stop in order, a second one at once, losing nothing either; SIGHUP reads settings again."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        task_status.started()
        async for number in received:
            if number == signal.SIGHUP:
                reload()
                continue
            if stopping():
                log.warning("stopped at once; what was acknowledged is kept, running jobs are tried again")
                os._exit(128 + number)
            stop()


async def say_alive(notifier: Notifier) -> None:
    """As long as this task gets its turn, the event loop turns; systemd restarts a process where it does not."""
    while notifier.watchdog_s is not None:
        notifier.tell("WATCHDOG=1")
        await trio.sleep(notifier.watchdog_s / 2)


async def leave_behind(store: Store, left: Sequence[Run], *, ours: bool) -> None:
    """End the process where handlers go on: an async one that shields itself would keep it for ever.

    A function in a thread may, too, at the interpreter's end. But if the process is not ``ours``, it is the caller's
    affair how that ends.
    """
    if not any(ours or run.function is None for run in left):
        return
    log.warning("left %d handlers that would not stop; their jobs are tried again", len(left))
    await store.close()
    briefly(_flush)
    os._exit(0)


def _flush() -> None:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()


def raise_descriptor_limit() -> None:
    """Each connection is a descriptor; the usual soft limit of 1,024 is there for programs that use ``select``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, MAX_DESCRIPTORS) if hard != resource.RLIM_INFINITY else MAX_DESCRIPTORS
    for tried in (wanted, OPEN_MAX):
        if soft == resource.RLIM_INFINITY or soft >= tried:
            return
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (tried, hard))
            return
