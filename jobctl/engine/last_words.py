"""What is said where nothing may wait for it to be heard.

A write to standard error waits for ever where nobody reads it, and all other lines of the log wait behind that one.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 0.5


def briefly(say: Callable[[], None]) -> None:
    """Call ``say`` on a thread of its own, and wait for it, but not for long."""
    saying = threading.Thread(target=say, name="jobctl-says", daemon=True)
    with contextlib.suppress(RuntimeError):  # there may be no more threads
        saying.start()
        saying.join(PATIENCE_S)
