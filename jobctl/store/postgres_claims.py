"""Claims of the PostgreSQL store: what has fallen due is made ready, then the best of each queue are started."""

from collections.abc import Mapping, Sequence
from typing import Final

from jobctl.errors import LeaseLost
from jobctl.store import writes
from jobctl.store.base import Claim, Claims, End
from jobctl.store.postgres_arrays import Ints, Texts
from jobctl.store.postgres_link import SQL
from jobctl.store.postgres_transaction import PostgresTx
from jobctl.store.rows import Row

LOOKED_AT: Final = 4000
"""Ready jobs that one claim looks at, over all its lanes: some milliseconds."""
MIN_LANES: Final = 16
_NOTHING: Final = Claims(claims=(), next_due=None, more=False)


def claim(
    tx: PostgresTx,
    slots: int,
    worker: str,
    limits: Mapping[str, int],
    busy: Mapping[str, int],
    ends: Sequence[End] = (),
    *,
    leased: bool = False,
) -> Claims:
    """End ``ends``, then start up to ``slots`` ready jobs, shared out evenly over the queues that have some.

    Raises:
        LeaseLost: with ``leased``, where ``worker`` is not among the living any more; nothing is claimed.
    """
    writes.finish(tx, *ends)
    if slots <= 0:
        return _NOTHING
    room = {name: limit - busy.get(name, 0) for name, limit in limits.items()}
    names = None if tx.known is None else Texts(sorted(tx.known))
    lanes = max(MIN_LANES, LOOKED_AT // slots)
    values = (
        slots, Texts(list(room)), Ints(list(room.values())), names, tx.now, worker, tx.memory.last_queue, lanes,
    )  # fmt: skip
    alive, staged, found, due = tx.flush(
        (SQL["alive"], (worker,)),
        (SQL["stage"], (tx.now, writes.STAGE_BATCH)),
        (SQL["claim"], values),
        (SQL["next_due"], ()),
    )
    wanted, taken = found[0][0][0], [Row(*each[1:]) for each in found[0] if each[1] is not None]
    tx.written += bool(staged[0][0][0] or taken)  # before what follows raises: it would have to be rolled back
    if leased and alive[0][:1] != [(True,)]:
        raise LeaseLost(f"{worker} was not heard of in time; others have taken its jobs over")
    claims = [_start(tx, row, worker) for row in taken]
    for row in taken:
        room[row.queue] = room.get(row.queue, slots + 1) - 1
    tx.memory.taken += len(taken)
    if taken:
        tx.memory.last_queue = taken[-1].queue
    staged_all = staged[0][0][0] < writes.STAGE_BATCH
    if staged[0][0][0] > len(taken):
        tx.work = True  # there is more than we take: others should look, too
    # A queue at its own limit is no reason to ask again soon: the end of one of its runs is.
    full = len(taken) == slots and any(room[row.queue] > 0 for row in taken)
    more = not staged_all or full or wanted > len(taken)
    return Claims(claims=tuple(claims), next_due=due[0][0][0] if due[0] else None, more=more)


def _start(tx: PostgresTx, row: Row, worker: str) -> Claim:
    before = row.status
    since = writes.begin(row, worker, tx.now)
    tx.adopt(row)  # as it stands in the table now
    tx.memory.running[row.id] = row
    return writes.started(tx, row, before, since)


def set_known(tx: PostgresTx, names: frozenset[str] | None) -> None:
    """Which jobs this process claims; other processes may know other names."""
    tx.known = names
    tx.work = True
