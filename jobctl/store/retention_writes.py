"""Retention: the functions of a transaction, and ``Store.retention``."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
RUNNING_LOOKED_AT: Final = 20
"""Running jobs with old lines that one batch takes up."""
EXCESS_AT_ONCE: Final = 10_000
"""Jobs beyond the number to keep that one batch steps over to see where they end, where many ended at the same time (a
step in an index: 0.1 us on SQLite, 1 us on PostgreSQL)."""
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
        await self._submit(lambda tx: tx.fold_counters())
        # The table is looked through beside the writer: most counters are not at zero.
        zeros = (await self._read(_zero_counters, limit)).value
        return await self._submit(lambda tx: tidy(tx, zeros, limit))

    async def ended_before(self, statuses: Sequence[str], *, older_than: float) -> Read[Mapping[str, int]]:
        return await self._read(_ended_before, tuple(statuses), self._clock() - _ms(older_than))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _list(pks: Iterable[int]) -> str:
    return msgspec.json.encode([*pks]).decode()


def _before(tx: Tx, older_than: float | None) -> int:
    return 0 if older_than is None else tx.now - _ms(older_than)


# --- jobs ----------------------------------------------------------------------------------------------------------


class _Ended(NamedTuple):
    pk: int
    id: str
    owner: str
    queue: str
    first_line: int | None
    last_line: int | None
    """Numbers in its log."""
    small: int
    """Bytes of data and result in the row itself."""
    data: int
    result: int
    """Bytes of those that stand apart because they are large."""


def prune_jobs(tx: Tx, status: str, older_than: float | None, keep: int | None, limit: int) -> Pruned:
    """One batch of the jobs that ended first."""
    tx.begin_pruning()
    excess = _excess(tx, status, keep, 2 * limit)
    before = max(_before(tx, older_than), excess.before)
    found = tx.all("prune_oldest_ended", status, before, limit + 1)
    held = tx.one("prune_first_held", status)[0]
    due = [each for each in found if held is None or each[1] < held] or found
    batch = _batch(tx, [pk for pk, _ in due[:limit]])
    if not batch:
        return Pruned(0, more=False)
    if not _empty_logs(tx, batch):
        return Pruned(0, more=True)
    more = len(found) > len(batch) or excess.more
    if held is not None and due[0][1] >= held:  # the event of a pruning would take the one that stays along
        for row in batch:
            writes.delete(tx, row.id, None)
        return Pruned(len(batch), more)
    tx.run("prune_delete_jobs", _list(row.pk for row in batch))
    if data := [row.pk for row in batch if row.data]:
        tx.run("prune_delete_data", _list(data))
    if results := [row.pk for row in batch if row.result]:
        tx.run("prune_delete_results", _list(results))
    lost = Counter((row.owner, row.queue, status) for row in batch)
    last = due[len(batch) - 1][1]
    # A group of runs ends in one millisecond. Where the batch ends amid one, only what ended before is gone for sure.
    whole = len(due) == len(batch) or due[len(batch)][1] > last
    tx.pruned(dict(lost), last + 1 if whole else last)
    return Pruned(len(batch), more)


class _Excess(NamedTuple):
    """Jobs that are too many: those that ended before this time (ms), and whether there are more."""

    before: int
    more: bool


def _excess(tx: Tx, status: str, keep: int | None, steps: int) -> _Excess:
    """The first of them, about as many as ``steps``. The time is that of one that stays, so that its fellows do too."""
    n = 0 if keep is None else _ended_in_all(tx, status) - keep
    if n <= 0:
        return _Excess(0, more=False)
    oldest, place = _ended_at(tx, status, 0), min(n, steps)
    before = _ended_at(tx, status, place)
    if before == oldest:
        place = min(n, EXCESS_AT_ONCE)
        before = _ended_at(tx, status, place)
    return _Excess(before, more=place < n)


def _ended_at(tx: Tx, status: str, place: int) -> int:
    found = tx.one("prune_ended_at_place", status, place)
    return _NEVER if found is None else int(found[0])


def _ended_in_all(tx: Tx, status: str) -> int:
    pending = sum(n for (owner, _, of), n in tx.counts().items() if not owner and of == status)
    return int(tx.one("prune_ended_in_all", status)[0]) + pending


def _batch(tx: Tx, pks: Sequence[int]) -> list[_Ended]:
    """The first of these jobs, as many as one batch takes by their size; one at least."""
    batch: list[_Ended] = []
    size = 0
    rows = {row[0]: _Ended(*row) for row in tx.all("prune_look_at", _list(pks))} if pks else {}
    for pk in pks:
        row = rows[pk]
        size += row.small + row.data + row.result
        if batch and size > BATCH_BYTES:
            break
        batch.append(row)
    return batch


def _empty_logs(tx: Tx, batch: Sequence[_Ended]) -> bool:
    """Delete the lines of these jobs; False if there are more of them than one batch takes."""
    room, cuts = LINES, []
    for row in batch:
        if row.first_line is not None and row.last_line is not None and room > 0:
            upto = min(row.last_line, row.first_line + room - 1)
            cuts.append((row.pk, upto))
            room -= upto - row.first_line + 1
    tx.run_many("prune_cut_log", cuts)
    return room > 0


# --- events --------------------------------------------------------------------------------------------------------


def prune_events(tx: Tx, older_than: float | None, keep: int | None, limit: int) -> Pruned:
    """One batch from the start of the log."""
    tx.begin_pruning()
    before = _before(tx, older_than)
    rows = tx.all("prune_first_events", limit)
    excess = 0 if keep is None or not rows else tx.head() - rows[0][0] + 1 - keep
    due = 0
    for place, (_, at) in enumerate(rows):
        if at >= before and place >= excess:
            break
        due = place + 1
    if due:
        tx.cut_events(rows[due - 1][0])
    return Pruned(due, more=due == limit)


# --- logs ----------------------------------------------------------------------------------------------------------

LogMarks = dict[str, tuple[int, int]]
"""By status: (completed_at, pk) of the last job whose log has been cut."""


def prune_logs(tx: Tx, older_than: float, limit: int, done: LogMarks) -> tuple[Pruned, LogMarks]:
    """One batch of lines; ``done`` and what is returned for it say how far the jobs have been looked through."""
    tx.begin_pruning()
    before = _before(tx, older_than)
    marks = dict(done)
    count, more = _cut_running(tx, before, limit)
    looked = 0
    for status in sorted(TERMINAL):
        if count >= limit:
            return Pruned(count, more=True), marks
        ended = tx.all("prune_ended_after", status, *marks.get(status, (0, 0)), before, JOBS_LOOKED_AT - looked)
        cut, seen = _cut_ended(tx, [pk for pk, _ in ended], limit - count)
        count += cut
        looked += seen
        if seen:
            pk, completed_at = ended[seen - 1]
            marks[status] = (completed_at, pk)
        if seen < len(ended) or looked >= JOBS_LOOKED_AT:
            return Pruned(count, more=True), marks
    return Pruned(count, more=more or count >= limit), marks


def _cut_ended(tx: Tx, pks: Sequence[int], room: int) -> tuple[int, int]:
    """Delete lines of these jobs but the last of each, up to ``room``: how many, and of how many jobs all."""
    cuts, seen = [], len(pks)
    lines = {pk: (first, last) for pk, first, last in tx.all("prune_lines_of", _list(pks))} if pks else {}
    for place, pk in enumerate(pks):
        first, last = lines.get(pk, (0, 0))
        if first == last:
            continue
        upto = min(last, first + room) - 1
        if upto >= first:
            cuts.append((pk, upto))
            room -= upto - first + 1
        if upto < last - 1:
            seen = place
            break
    return tx.run_many("prune_cut_log", cuts), seen


def _cut_running(tx: Tx, before: int, room: int) -> tuple[int, bool]:
    """Delete old lines of jobs that run, and write, for weeks: how many, and whether there may be more."""
    found, cuts = tx.all("prune_old_lines", room, before, RUNNING_LOOKED_AT), []
    for pk, first, old in found:
        upto = min(old, first + room - 1)
        if upto >= first:
            cuts.append((pk, upto))
            room -= upto - first + 1
    return tx.run_many("prune_cut_log", cuts), len(found) == RUNNING_LOOKED_AT


# --- the rest ------------------------------------------------------------------------------------------------------


def tidy(tx: Tx, zeros: Sequence[Any], limit: int) -> Pruned:
    """Old idempotency keys, and of these counters those that are still at zero."""
    counters = tx.run_many("prune_delete_zero", zeros)  # before keys, as all do
    keys = tx.run("prune_forget_keys", tx.now - IDEMPOTENCY_TTL_MS, limit)
    return Pruned(keys + counters, more=keys == limit or (len(zeros) == limit and counters > 0))


def _zero_counters(db: Queries, limit: int) -> list[Any]:
    return db.all("prune_zero_counters", limit)


def _ended_before(db: Queries, statuses: tuple[str, ...], before: int) -> Mapping[str, int]:
    wanted = msgspec.json.encode(statuses).decode()
    return dict(db.all("prune_ended_before", wanted, before))
