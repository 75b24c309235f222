"""What a reader makes of the event log: the table again, if the log is whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from typing import Any, Final

import msgspec

from jobctl.events import JOB_UPDATE, JOBS_PRUNED, Event, pruning_of
from jobctl.states import TRANSITIONS

Rows = dict[str, dict[str, Any]]
"""Jobs as they are on the wire, by id."""
_MOVES: Final = {(None, "pending"), *((before.value, after.value) for (before, _), after in TRANSITIONS.items())}


class Replay:
    """All that the log ever said, and the jobs that this leaves."""

    def __init__(self) -> None:
        self.history: list[Event] = []
        self.rows: Rows = {}
        self.seen: set[str] = set()
        """Ids of all jobs that there ever were."""

    def take(self, event: Event) -> None:
        """The next event; raises where it does not follow from those before."""
        assert event.seq == len(self.history) + 1, "seq has a gap, or does not follow commit order"
        self.history.append(event)
        if event.kind == JOBS_PRUNED:
            pruning = pruning_of(event)
            lost = prune_rows(self.rows, pruning.of(None), pruning.finished_before)
            assert lost == pruning.of(None), "more or fewer jobs were pruned than the log says"
            return
        before = self.rows.pop(event.job_id, None)
        assert event.status_before == (before and before["status"])
        if event.kind != JOB_UPDATE:
            assert event.status_before != "running", "a job was deleted while it ran"
            return
        row = msgspec.json.decode(event.body)
        assert event.status == row["status"]
        assert event.status == event.status_before or (event.status_before, event.status) in _MOVES
        assert before is not None or event.job_id not in self.seen, "a job came back from the dead"
        assert before is None or before["version"] < row["version"]
        assert row["attempts"] <= row["maxAttempts"]
        self.seen.add(event.job_id)
        self.rows[event.job_id] = row


def prune_rows(rows: Rows, statuses: Container[str], finished_before: str) -> dict[str, int]:
    """Do to ``rows`` what a ``jobs_pruned`` says; how many of each status went."""
    gone = [row for row in rows.values() if row["status"] in statuses and row["completedAt"] < finished_before]
    for row in gone:
        del rows[row["id"]]
    return dict(sorted(Counter(row["status"] for row in gone).items()))
