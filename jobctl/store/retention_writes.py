"""Retention: the functions of a transaction, and ``Store.retention``."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from jobctl.states import TERMINAL
from jobctl.store import writes
from jobctl.store.base import Read
from jobctl.store.enqueue import IDEMPOTENCY_TTL_MS
from jobctl.store.queries import Queries
from jobctl.store.retention import BATCH_BYTES, EVENTS, JOBS, LINES, Pruned
from jobctl.store.schedule_store import ReadIn, Submit
from jobctl.store.transaction import Tx

JOBS_LOOKED_AT: Final = 500
"""Jobs whose logs are looked at in one batch, mostly to find that they have one line or none."""
EXCESS_AT_ONCE: Final = 10_000
"""Jobs beyond the number to keep that one batch steps over to see where they end (a step in an index, 0.1 us)."""
_NEVER: Final = 2**62


class Retention:
    """A ``RetentionStore``."""

    def __init__(self, submit: Submit, read: ReadIn, clock: Callable[[], int]) -> None:
        self._submit = submit
        self._read = read
        self._clock = clock
        self._logs_done: LogMarks = {}

    async def prune_jobs(
        self, status: str, *, older_than: float | None = None, keep: int | None = None, limit: int = JOBS
    ) -> Pruned:
        return await self._submit(lambda tx: prune_jobs(tx, status, older_than, keep, limit))

    async def prune_events(
        self, *, older_than: float | None = None, keep: int | None = None, limit: int = EVENTS
    ) -> Pruned:
        return await self._submit(lambda tx: prune_events(tx, older_than, keep, limit))

    async def prune_logs(self, *, older_than: float, limit: int = LINES) -> Pruned:
        done = self._logs_done
        pruned, self._logs_done = await self._submit(lambda tx: prune_logs(tx, older_than, limit, done))
        return pruned

    async def tidy(self, *, limit: int = LINES) -> Pruned:
        # The table is looked through beside the writer: most counters are not at zero.
        zeros = (await self._read(_zero_counters, limit)).value
        return await self._submit(lambda tx: tidy(tx, zeros, limit))

    async def ended_before(self, statuses: Sequence[str], *, older_than: float) -> Read[Mapping[str, int]]:
        return await self._read(_ended_before, tuple(statuses), self._clock() - _ms(older_than))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _before(tx: Tx, older_than: float | None) -> int:
    return 0 if older_than is None else tx.now - _ms(older_than)


# --- jobs ----------------------------------------------------------------------------------------------------------


class _Ended(NamedTuple):
    pk: int
    owner: str
    queue: str
    has_log: int
    small: int
    """Bytes of data and result in the row itself."""
    data: int
    result: int
    """Bytes of those that stand apart because they are large."""


def prune_jobs(tx: Tx, status: str, older_than: float | None, keep: int | None, limit: int) -> Pruned:
    """One batch of the jobs that ended first."""
    before = max(_before(tx, older_than), _end_of_excess(tx, status, keep))
    found = tx.all("prune_oldest_ended", status, before, limit + 1)
    held = tx.one("prune_first_held", status)[0]
    due = [each for each in found if held is None or each[1] < held] or found
    batch = _batch(tx, [pk for pk, _ in due[:limit]])
    if not batch:
        return Pruned(0, more=False)
    if not _empty_logs(tx, batch):
        return Pruned(0, more=True)
    more = len(found) > len(batch)
    if held is not None and due[0][1] >= held:  # the event of a pruning would take the one that stays along
        for row in batch:
            writes.delete(tx, tx.one("prune_id", row.pk)[0], None)
        return Pruned(len(batch), more)
    tx.run_many("prune_delete_job", [(row.pk,) for row in batch])
    tx.run_many("delete_data", [(row.pk,) for row in batch if row.data])
    tx.run_many("delete_result", [(row.pk,) for row in batch if row.result])
    lost = Counter((row.owner, row.queue, status) for row in batch)
    last = due[len(batch) - 1][1]
    # A group of runs ends in one millisecond. Where the batch ends amid one, only what ended before is gone for sure.
    whole = len(due) == len(batch) or due[len(batch)][1] > last
    tx.pruned(dict(lost), last + 1 if whole else last)
    return Pruned(len(batch), more)


def _end_of_excess(tx: Tx, status: str, keep: int | None) -> int:
    """The time (ms) before which jobs are too many: that of the first that stays, so that its fellows stay as well."""
    excess = 0 if keep is None else _ended_in_all(tx, status) - keep
    if excess <= 0:
        return 0
    first = tx.one("prune_ended_at_place", status, min(excess, EXCESS_AT_ONCE))
    return _NEVER if first is None else int(first[0])


def _ended_in_all(tx: Tx, status: str) -> int:
    pending = sum(n for (owner, _, of), n in tx.counts().items() if not owner and of == status)
    return int(tx.one("prune_ended_in_all", status)[0]) + pending


def _batch(tx: Tx, pks: Sequence[int]) -> list[_Ended]:
    """The first of these jobs, as many as one batch takes by their size; one at least.

    They are looked at one by one, since the rest may be left.
    """
    batch: list[_Ended] = []
    size = 0
    for pk in pks:
        row = _Ended(pk, *tx.one("prune_job", pk))
        size += row.small + row.data + row.result
        if batch and size > BATCH_BYTES:
            break
        batch.append(row)
    return batch


def _empty_logs(tx: Tx, batch: Sequence[_Ended]) -> bool:
    """Delete the lines of these jobs; False if there are more of them than one batch takes."""
    room = LINES
    for row in batch:
        if row.has_log:
            lines, upto = tx.one("prune_log_of", row.pk, room)
            if lines:
                tx.run("prune_cut_log", row.pk, upto)
                room -= lines
            if room <= 0:
                return False
    return True


# --- events --------------------------------------------------------------------------------------------------------


def prune_events(tx: Tx, older_than: float | None, keep: int | None, limit: int) -> Pruned:
    """One batch from the start of the log."""
    before = _before(tx, older_than)
    rows = tx.all("prune_first_events", limit)
    excess = 0 if keep is None or not rows else tx.head() - rows[0][0] + 1 - keep
    due = 0
    for place, (_, at) in enumerate(rows):
        if at >= before and place >= excess:
            break
        due = place + 1
    if due:
        last = rows[due - 1][0]
        tx.run("prune_delete_events", last)
        tx.log_start = last + 1
    return Pruned(due, more=due == limit)


# --- logs ----------------------------------------------------------------------------------------------------------

LogMarks = dict[str, tuple[int, int]]
"""By status: (completed_at, pk) of the last job whose log has been cut."""


def prune_logs(tx: Tx, older_than: float, limit: int, done: LogMarks) -> tuple[Pruned, LogMarks]:
    """One batch of lines; ``done`` and what is returned for it say how far the jobs have been looked through."""
    before = _before(tx, older_than)
    marks = dict(done)
    count, looked = _cut_running(tx, before, limit), 0
    for status in sorted(TERMINAL):
        mark = marks.get(status, (0, 0))
        for pk, completed_at in tx.all("prune_ended_after", status, *mark, before, JOBS_LOOKED_AT - looked):
            if count >= limit:
                return Pruned(count, more=True), marks
            cut, whole = _cut_log(tx, pk, limit - count)
            count += cut
            looked += 1
            if not whole:
                return Pruned(count, more=True), marks
            marks[status] = (completed_at, pk)
        if looked >= JOBS_LOOKED_AT:
            return Pruned(count, more=True), marks
    return Pruned(count, more=count >= limit), marks


def _cut_log(tx: Tx, pk: int, room: int) -> tuple[int, bool]:
    """Delete lines but the last, up to ``room``: how many, and whether only the last is left."""
    last = tx.one("prune_last_line", pk)[0]
    if last is None:
        return 0, True
    _, upto = tx.one("prune_log_of", pk, room)
    upto = min(upto, last - 1)
    return tx.run("prune_cut_log", pk, upto), upto == last - 1


def _cut_running(tx: Tx, before: int, room: int) -> int:
    """A job may run, and write, for weeks."""
    count = 0
    for (pk,) in tx.all("prune_running"):
        upto = tx.one("prune_old_lines", pk, room - count, before)[0]
        if upto is not None:
            last = tx.one("prune_last_line", pk)[0]
            count += tx.run("prune_cut_log", pk, min(upto, last - 1))
        if count >= room:
            break
    return count


# --- the rest ------------------------------------------------------------------------------------------------------


def tidy(tx: Tx, zeros: Sequence[Any], limit: int) -> Pruned:
    """Old idempotency keys, and of these counters those that are still at zero."""
    keys = tx.run("prune_forget_keys", tx.now - IDEMPOTENCY_TTL_MS, limit)
    counters = tx.run_many("prune_delete_zero", zeros)
    return Pruned(keys + counters, more=keys == limit or (len(zeros) == limit and counters > 0))


def _zero_counters(db: Queries, limit: int) -> list[Any]:
    return db.all("prune_zero_counters", limit)


def _ended_before(db: Queries, statuses: tuple[str, ...], before: int) -> Mapping[str, int]:
    wanted = msgspec.json.encode(statuses).decode()
    return dict(db.all("prune_ended_before", wanted, before))
