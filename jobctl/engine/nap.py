"""A wait that others can cut short."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


class Nap:
    """One waits, anybody may call; a call that comes before the wait is not lost."""

    def __init__(self) -> None:
        self._called = False
        self._scope: trio.CancelScope | None = None

    @property
    def asleep(self) -> bool:
        """Whether somebody waits."""
        return self._scope is not None

    def call(self) -> None:
        """End the wait, or else the next."""
        if self._called:  # by each run that ends in one turn of the event loop, and trio notes who cancels
            return
        self._called = True
        if self._scope is not None:
            self._scope.cancel()

    async def sleep(self, seconds: float) -> bool:
        """Whether the time was slept through."""
        _, slept = await self.wait(seconds, trio.sleep_forever)
        return slept

    async def wait(self, seconds: float, what: Callable[[], Awaitable[T]]) -> tuple[T | None, bool]:
        """Wait for ``what`` at most so long, then cancel it; with it, whether nobody has called."""
        found: T | None = None
        if not self._called:
            self._scope = trio.CancelScope(deadline=trio.current_time() + seconds)
            try:
                with self._scope:
                    found = await what()
            finally:
                self._scope = None
        uncalled, self._called = not self._called, False
        return found, uncalled
