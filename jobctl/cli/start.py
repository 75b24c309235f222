"""Where the process starts: Ctrl-C is made quiet before the imports, which take longer than most of what follows.

Nothing is imported here but what the interpreter has loaded by itself, or nearly so.
"""

import os
import signal

TYPE_CHECKING = False  # as ``typing`` has it, which takes 10 ms to import
if TYPE_CHECKING:
    from typing import NoReturn


def run() -> "NoReturn":
    """Run the command of ``sys.argv`` and leave with its exit code."""
    leave_at_once()
    from jobctl.cli import stdio

    stdio.install()
    from jobctl.cli import main

    main.run()


def leave_at_once() -> None:
    """From here on Ctrl-C ends the process, quietly: there is nothing yet, or nothing any more, to be put in order.

    Where it is ignored (what a script starts with ``&``) it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def leave_in_order() -> None:
    """From here on Ctrl-C is a ``KeyboardInterrupt`` again."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(*_: object) -> None:
    os._exit(128 + signal.SIGINT)
