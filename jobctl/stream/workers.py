"""The processes that run jobs, on the stream: whole snapshots for the admins who asked, when they have changed.

They come with this process's own heartbeats, so that following them costs the database nothing.
"""

from collections.abc import Callable, Sequence

import msgspec

from jobctl.model import wire_time
from jobctl.protocol import messages
from jobctl.stream import frames
from jobctl.stream.snapshots import Follower, Followers
from jobctl.worker import Worker


class WorkerFeed:
    """Told of every heartbeat. ``clock``: milliseconds since the epoch."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._followers = Followers("workers")
        self._now: tuple[Worker, ...] = ()

    def heard(self, workers: Sequence[Worker]) -> None:
        """Everybody, as of this heartbeat."""
        self._now = tuple(workers)
        if self._followers:
            self._send()

    def follow(self, follower: Follower) -> None:
        """Send snapshots to ``follower`` from now on, the first at once."""
        self._followers.add(follower)
        if self._now:
            self._send()

    def unfollow(self, follower: Follower) -> None:
        """No more of them."""
        self._followers.remove(follower)

    def _send(self) -> None:
        to = self._followers.due(msgspec.json.encode([_essence(each) for each in self._now]))
        if to:
            told = messages.WorkersUpdate(workers=self._now, timestamp=wire_time(self._clock()))
            self._followers.send(to, frames.text(messages.encode(told)))


def _essence(worker: Worker) -> Worker:
    """What is worth telling. That a live one was heard once more is not."""
    return msgspec.structs.replace(worker, seen_at="") if worker.state == "live" else worker
