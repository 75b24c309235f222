"""The counts at the hub's head, kept by adding up events: snapshots cost no query and are never newer than the head."""

from jobctl.events import JOBS_PRUNED, Event, pruning_of
from jobctl.model import Stats
from jobctl.store.base import Counters
from jobctl.store.reads import make_stats

Counts = dict[str, dict[str, int]]
"""queue -> status -> n"""


class Tally:
    """Counts per owner and in all (``None``)."""

    def __init__(self, start: Counters) -> None:
        self._queues = dict(start.queues)
        self._counts: dict[str | None, Counts] = {None: {}}
        self._changed: set[str | None] = set()
        for (owner, queue, status), n in start.counts.items():
            self._add(owner, queue, status, n)

    def apply(self, event: Event) -> None:
        """Count one event; each exactly once."""
        if event.kind == JOBS_PRUNED:
            self._pruned(event)
            return
        before, after, owner = event.status_before, event.status, event.owner
        if before == after:
            return
        for whose in (owner, None):
            counts = self._of(whose, event.queue)
            if before is not None:
                counts[before] = counts.get(before, 0) - 1
            if after is not None:
                counts[after] = counts.get(after, 0) + 1
        self._changed.update((owner, None))

    def _pruned(self, event: Event) -> None:
        for owner, queues in pruning_of(event).counts.items():
            for queue, statuses in queues.items():
                for status, n in statuses.items():
                    self._add(owner, queue, status, -n)
            self._changed.update((owner, None))

    def queue_changed(self, name: str, paused: bool) -> None:
        """A queue is new, paused or resumed: everybody who has jobs there sees it."""
        self._queues[name] = paused
        self._changed.add(None)
        self._changed.update(owner for owner, counts in self._counts.items() if name in counts)

    def take_changed(self) -> set[str | None]:
        """Owners (None: the whole) whose counts have changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed

    def stats(self, owner: str | None) -> Stats:
        """The snapshot for ``owner`` (None: of everything)."""
        return make_stats(self._counts.get(owner, {}), self._queues, all_queues=owner is None)

    def _add(self, owner: str, queue: str, status: str, n: int) -> None:
        for whose in (owner, None):
            counts = self._of(whose, queue)
            counts[status] = counts.get(status, 0) + n

    def _of(self, whose: str | None, queue: str) -> dict[str, int]:
        """Counts by status, made where there are none."""
        try:
            return self._counts[whose][queue]
        except KeyError:
            return self._counts.setdefault(whose, {}).setdefault(queue, {})
