"""Who runs: a slot is taken from the claim until the end is in the store, and longer by a run that does not stop."""

from collections import Counter
from collections.abc import Iterable, Mapping

import trio

from jobctl.engine.context import Run
from jobctl.store.base import End


class Slots:
    """``total`` in all, and at most ``limits`` for each queue that it names."""

    def __init__(self, total: int, limits: Mapping[str, int]) -> None:
        self.limits = dict(limits)
        self.live: dict[str, Run] = {}
        """By the job's id; those that do not stop are among them."""
        self.held: set[str] = set()
        """Ids of jobs whose run was ended in the store but still goes on, and keeps its slot."""
        self.taken = trio.Event()
        """Set when a run begins; whoever waits for that makes it anew."""
        self._total = total
        self._busy: Counter[str] = Counter()

    @property
    def free(self) -> int:
        """How many."""
        return self._total - len(self.live)

    def take(self, run: Run) -> None:
        """A run begins."""
        self.live[run.job.id] = run
        self._busy[run.job.queue] += 1
        self.taken.set()

    def give_back(self, run: Run) -> None:
        """It has ended, and that is recorded."""
        self.live.pop(run.job.id, None)
        self.held.discard(run.job.id)
        self._busy[run.job.queue] -= 1

    def clear(self) -> None:
        """The server stops."""
        self.live.clear()
        self.held.clear()

    def running(self) -> list[Run]:
        """Runs whose end is not recorded yet."""
        return [run for run in self.live.values() if run.job.id not in self.held]

    def after(self, ended: Iterable[tuple[Run, End]]) -> tuple[int, dict[str, int], bool]:
        """What will be once ``ended`` have ended.

        Returns:
            How many are free, how many each limited queue has taken, and whether one of those has got room.
        """
        free, busy, room = self.free, {name: self._busy[name] for name in self.limits}, False
        for run, end in ended:
            if not end.held:
                free += 1
                if run.job.queue in busy:
                    busy[run.job.queue] -= 1
                    room = True
        return free, busy, room
