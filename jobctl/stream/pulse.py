"""Whether a peer is still there: it lives while it sends bytes, or takes them.

What it sends is seen when it comes. What it takes is seen by asking the kernel how much of what was sent is not yet
confirmed, a system call, so that is asked a few times in the while for which a peer may do neither. What was taken
between two such looks counts for the earlier one: a peer whose packets are dropped from some moment on is found within
that while, and not up to two looks later.
"""

from typing import Final

LOOKS: Final = 15
"""In the while after which a peer counts as dead: every 5 s of 75."""


class Pulse:
    """When one peer was last known to live. Times are trio's, in seconds."""

    __slots__ = ("life", "looked_at", "taken")

    def __init__(self, now: float) -> None:
        self.life = self.looked_at = now
        self.taken = 0
        """Bytes that its kernel had confirmed at the last look."""

    def look(self, now: float, taken: int) -> None:
        """``taken`` bytes are confirmed by now."""
        if taken > self.taken:
            self.taken = taken
            self.life = max(self.life, self.looked_at)
        self.looked_at = now

    def excuse(self, seconds: float, now: float) -> None:
        """So long nobody has listened: the loop was held up, or the process stopped. It is not the peer's silence."""
        self.life = min(now, self.life + seconds)
        self.looked_at = min(now, self.looked_at + seconds)
