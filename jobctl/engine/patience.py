"""Writes that have to come about: tried again until they do, with a growing pause, and a line in the log each time."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from jobctl.errors import LeaseLost, StoreUnavailable

FIRST_S: Final = 0.05
CAP_S: Final = 5.0
T = TypeVar("T")
log = logging.getLogger("jobctl.engine")


async def insist(write: Callable[[], Awaitable[T]], what: str) -> T:
    """Write until it succeeds; only the end of the process, or of the drain, ends the attempts."""
    pause = FIRST_S
    while True:
        try:
            return await write()
        except Exception as error:  # noqa: BLE001 - it is logged, and tried again
            complain(f"store {what}", pause, error)
        await trio.sleep(pause)
        pause = longer(pause)


def longer(pause: float) -> float:
    """The pause after that one."""
    return min(pause * 2, CAP_S)


def complain(what: str, pause: float, error: Exception) -> None:
    """Say what cannot be done for now."""
    unexpected = None if isinstance(error, StoreUnavailable | LeaseLost) else error
    level = logging.ERROR if unexpected else logging.WARNING
    log.log(level, "cannot %s, next try in %.2g s: %s", what, pause, error, exc_info=unexpected)
