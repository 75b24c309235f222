"""Whole snapshots beside the order of events: who gets those of one kind, and who is owed one."""

from typing import Protocol


class Follower(Protocol):
    """A live connection, as far as snapshots go."""

    def send_snapshot(self, kind: str, frame: bytes) -> None:
        """Take a snapshot; a newer one of the same kind replaces one that still waits."""


class Followers:
    """Those of one kind of snapshots."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._all: dict[Follower, None] = {}
        self._owed: dict[Follower, None] = {}
        self._last = b""

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, follower: Follower) -> None:
        """It has had none, or was behind and missed some."""
        self._all[follower] = self._owed[follower] = None

    def remove(self, follower: Follower) -> None:
        """No more of them; harmless if it does not follow."""
        self._all.pop(follower, None)
        self._owed.pop(follower, None)

    def due(self, now: bytes) -> tuple[Follower, ...]:
        """Who is to be told of a state: everybody if it is another than the last, else those who have had none."""
        changed, self._last = now != self._last, now
        to = tuple(self._all if changed else self._owed)
        self._owed.clear()
        return to

    def send(self, to: tuple[Follower, ...], frame: bytes) -> None:
        """Tell them."""
        for follower in to:
            follower.send_snapshot(self._kind, frame)
