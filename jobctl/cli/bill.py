"""What following jobs cost, pushed and polled: the arithmetic, and how it is told. Pure.

A poller that is to be no further behind than this terminal was has to ask about as often as something changed: once a
*mean gap* between updates. (Even then it is behind by half a gap on average, and sees of two changes in one gap only
the second; so this is the least that it takes.) Each time it asks what a dashboard shows: the jobs, the counts and the
queues.
"""

from typing import Final, NamedTuple

ENDPOINTS: Final = 3
"""What a page that shows jobs, counts and queues asks for each time."""
WINDOW_S: Final = 15 * 60
LAZY_S: Final = 30.0
"""How often a page polls that does not want to be a burden."""


class Bill(NamedTuple):
    """What was counted.

    Args:
        seconds: From the first to the last update.
        updates: How many were pushed.
        requests: HTTP requests of this client.
        connections: WebSocket connections of this client.
    """

    seconds: float
    updates: int
    requests: int
    connections: int

    @property
    def gap(self) -> float:
        """Mean seconds between two updates."""
        return self.seconds / max(1, self.updates - 1)

    @property
    def polled(self) -> int:
        """Requests of a poller as fresh, for the same time: one poll a gap, and one at the start."""
        return ENDPOINTS * max(1, self.updates)

    @property
    def polled_in_window(self) -> int:
        """The same, had it gone on for 15 minutes."""
        return round(ENDPOINTS * WINDOW_S / self.gap) if self.gap > 0 else 0

    @property
    def lazy_in_window(self) -> int:
        """Requests in 15 minutes of a page that polls every 30 s."""
        return round(ENDPOINTS * WINDOW_S / LAZY_S)


def bill_lines(bill: Bill) -> list[str]:
    """The bill for a person."""
    ms = bill.gap * 1000
    window = WINDOW_S // 60
    lazy = f"a poll every {LAZY_S:.0f} s, and up to {LAZY_S:.0f} s behind"
    pushed = f"{bill.requests} HTTP requests and {bill.connections} connection"
    fresh = f"({ENDPOINTS} endpoints every {ms:.0f} ms, the mean gap)"
    return [
        f"pushed   {pushed} brought {bill.updates:,} updates",
        f"polled   {bill.polled:,} requests to be about as fresh {fresh}",
        f"         in {window} minutes at this pace: {bill.polled_in_window:,} requests, against {pushed}",
        f"lazily   {bill.lazy_in_window} requests per client in {window} minutes: {lazy}",
        "         (whoever looks once and leaves is better off with one GET)",
    ]
