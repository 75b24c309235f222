"""What is said on stderr about a connection that comes and goes, where no screen shows it."""

from collections.abc import Callable
from typing import Protocol

from jobctl.cli.output import duration, say


class Stream(Protocol):
    """What is to be known of a connection (``client.live.Watch``)."""

    live: bool
    retry_at: float | None
    reason: str


class Notices:
    """Says once that the connection is lost, and once that it is back.

    Args:
        clock: Seconds.
        tell: Says a line.
    """

    def __init__(self, clock: Callable[[], float], tell: Callable[[str], None] = say) -> None:
        self._clock = clock
        self._tell = tell
        self._been_live = False
        self._lost_at: float | None = None

    def look(self, stream: Stream) -> None:
        """To be called whenever something may have changed."""
        if stream.live:
            if self._lost_at is not None:
                away = duration(self._clock() - self._lost_at)
                back = f"connected again after {away}; nothing is missed"
                self._tell(back if self._been_live else f"connected after {away}")
            self._been_live, self._lost_at = True, None
        elif stream.retry_at is not None and self._lost_at is None:
            self._lost_at = self._clock()
            what = "connection lost" if self._been_live else "no live updates yet"
            why = "" if stream.reason == what else f" ({stream.reason})"
            self._tell(f"{what}{why}; trying again")
