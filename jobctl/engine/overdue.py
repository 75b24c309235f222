"""Async handlers that were cancelled, by a person or at the end of their time, and go on."""

from collections.abc import Callable
from typing import Final

import trio

from jobctl.engine.context import Run
from jobctl.engine.slots import Slots

UNWIND_S: Final = 2.0
"""How long a cancelled async handler may take to clean up before its run is ended over its head."""
WATCH_S: Final = 0.5


async def watch_over(slots: Slots, end: Callable[[Run], None]) -> None:
    """Have the runs of such handlers ended, for ever.

    One task looks at all runs now and then: a timer a run would cost every run, for what hardly ever happens.
    """
    while True:
        await slots.taken.wait()
        await trio.sleep(WATCH_S)
        late = trio.current_time() - UNWIND_S
        for run in tuple(slots.live.values()):
            if run.scope.deadline < late and not run.over and not run.immediate and run.given_up is None:
                end(run)
        if not slots.live:
            slots.taken = trio.Event()
