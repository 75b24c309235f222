"""Acting on all jobs that a query matches: a page of them is read, then written in small transactions.

What was read may have changed when it is written. Of all that a query asks for only the status does, so it is looked at
again, in the transaction that acts.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from jobctl.errors import Conflict, IllegalTransition, JobctlError, NotFound
from jobctl.model import JobQuery
from jobctl.store import writes
from jobctl.store.base import Acted, BulkAction, Matching, can
from jobctl.store.queries import Snapshot
from jobctl.store.reads import conditions, cursor_of, open_cursor
from jobctl.store.transaction import Tx

BUDGET_S: Final = 0.005
"""How long one transaction acts: everybody else's writes wait for it."""
MAX_ACTED: Final = 200
"""Jobs of one transaction, where the database lets so many be changed in that time."""
_WRITES: Final = {"retry": writes.retry, "cancel": writes.cancel, "delete": writes.delete}


def matching(db: Snapshot, query: JobQuery) -> Matching:
    """One page of ids by keyset, newest first."""
    where, values = conditions(db, query)
    if query.cursor is not None:
        where.append("pk < ?")
        values.append(open_cursor(query))
    clause = " AND ".join(where) or "TRUE"
    sql = f"SELECT pk, id, status FROM job WHERE {clause} ORDER BY pk DESC LIMIT ?"  # noqa: S608 - fixed conditions
    found = db.select(sql, [*values, query.limit + 1])
    page = found[: query.limit]
    return Matching(
        jobs={job_id: status for _, job_id, status in page},
        cursor=cursor_of(query, page[-1][0]) if len(found) > len(page) else None,
    )


def tally(db: Snapshot, query: JobQuery) -> Mapping[str, int]:
    """How many jobs a query matches, by status; its limit and cursor do not count."""
    where, values = conditions(db, query)
    clause = " AND ".join(where) or "TRUE"
    sql = f"SELECT status, count(*) FROM job WHERE {clause} GROUP BY status ORDER BY status"  # noqa: S608
    return dict(db.select(sql, values))


def act(tx: Tx, action: BulkAction, ids: Sequence[str], owner: str | None, statuses: Sequence[str]) -> Acted:
    """Act on the first of ``ids``, as many as there is time for, at least one."""
    changed = 0
    refused: dict[str, JobctlError] = {}
    ids = ids[:MAX_ACTED]
    tx.prefetch(ids)
    until = time.monotonic() + BUDGET_S
    for job_id in ids:
        try:
            _act(tx, action, job_id, owner, statuses)
            changed += 1
        except (NotFound, Conflict) as error:  # each is raised before anything is written
            refused[job_id] = error
        if time.monotonic() >= until:
            break
    return Acted(changed=changed, skipped=len(refused), refused=refused)


def _act(tx: Tx, action: BulkAction, job_id: str, owner: str | None, statuses: Sequence[str]) -> None:
    row = writes.find(tx, job_id, owner)
    if (statuses and row.status not in statuses) or not can(action, row.status):
        raise IllegalTransition(action, row.status)
    if action == "cancel" and row.cancel_requested:
        raise Conflict("it has been asked to stop already")
    _WRITES[action](tx, job_id, owner)
