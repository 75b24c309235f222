"""Claims of the SQLite store: which jobs are ready, queue by queue, and which nobody here can run."""

import sys
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from jobctl.store import writes
from jobctl.store.base import Claim, Claims, End
from jobctl.store.rows import Row
from jobctl.store.sqlite_transaction import SqliteTx


def claim(
    tx: SqliteTx, slots: int, worker: str, limits: Mapping[str, int], busy: Mapping[str, int], ends: Sequence[End] = ()
) -> Claims:
    """End ``ends``, then start up to ``slots`` ready jobs, shared out evenly over the queues that have some."""
    writes.finish(tx, *ends)
    if slots <= 0:
        return NOTHING
    staged_all = _stage(tx)
    room = {
        name: limits[name] - busy.get(name, 0) if name in limits else sys.maxsize
        for name in tx.state.hot
        if not tx.state.paused[name]
    }
    asked = [name for name, free in room.items() if free > 0]
    claims: list[Claim] = []
    while asked and len(claims) < slots:
        share = -(-(slots - len(claims)) // len(asked))
        full = []
        for name in asked:
            wanted = min(share, room[name], slots - len(claims))
            if wanted <= 0:
                continue
            got = [Row(*found) for found in tx.all("ready_jobs", name, wanted)]
            claims += _start(tx, got, worker)
            room[name] -= len(got)
            if len(got) < wanted:
                tx.cool(name)
                room[name] = 0
            else:
                tx.state.hot[name] = tx.state.hot.pop(name)  # to the back: the next claim begins with another
                if room[name] > 0:
                    full.append(name)
        asked = full
    due = tx.one("next_due")
    # A queue at its own limit is no reason to ask again soon: the end of one of its runs is.
    more = not staged_all or any(free > 0 for free in room.values())
    return Claims(claims=tuple(claims), next_due=due and due[0], more=more)


NOTHING: Final = Claims(claims=(), next_due=None, more=False)


def _stage(tx: SqliteTx) -> bool:
    """Make ready what has fallen due; False if there was more of it than one batch."""
    due = tx.all("due_jobs", tx.now, writes.STAGE_BATCH)
    if due:
        tx.run_many("stage_job", [(int(tx.can_run(name)), pk) for pk, name, _ in due])
        for _, _, queue in due:
            tx.state.hot[queue] = None
    return len(due) < writes.STAGE_BATCH


def _start(tx: SqliteTx, rows: list[Row], worker: str) -> list[Claim]:
    claims, changes = [], []
    for row in rows:
        before = row.status
        since = writes.begin(row, worker, tx.now)
        claims.append(writes.started(tx, row, before, since))
        changes.append((row.run, row.version, row.started_at, row.processing_by, row.seq, row.pk))
        tx.state.running[row.id] = row
    tx.run_many("start_job", changes)
    return claims


def set_known(tx: SqliteTx, names: frozenset[str] | None) -> None:
    """Park ready jobs that nobody here can run, and bring back those that somebody can again."""
    tx.known = names
    wanted = None if names is None else msgspec.json.encode(sorted(names)).decode()
    if wanted is not None:
        tx.run("park_unknown", wanted)
    tx.run("unpark_known", wanted)
    for queue in tx.state.paused:
        tx.hot(queue)
    tx.work = True


