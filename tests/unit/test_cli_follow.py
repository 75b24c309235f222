"""What a screen shows last, when trio has gone and cannot be asked for the time any more."""

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from jobctl.cli.follow import Follower


class Reconnecting(Follower):
    """Waits to come back, and leaves with ``error``."""

    def __init__(self, error: BaseException) -> None:
        self._end, self._error = "", error
        self._order: Any = SimpleNamespace(deadline=None)
        self._watch: Any = SimpleNamespace(live=False, retry_at=1.0, reason="gone")

    async def _follow(self, client: Any) -> None:
        raise self._error


@pytest.mark.parametrize("error", [BaseExceptionGroup("", [KeyboardInterrupt()]), KeyboardInterrupt()])
def test_however_it_was_left_the_last_picture_says_so_without_a_clock(error: BaseException) -> None:
    follower = Reconnecting(error)
    client: Any = None
    with pytest.raises(type(error)):
        trio.run(follower.run, client)
    assert follower.connection() == (False, "left")
