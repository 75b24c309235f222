"""The reads of a store, each a function of one read transaction.

Everything is fetched whole: an unfinished cursor would keep an old snapshot alive.
"""

import base64
import hashlib
from typing import Any, Final

import msgspec

from jobctl.errors import InvalidCursor, NotFound
from jobctl.events import Event
from jobctl.model import Job, JobPage, JobQuery, LogLine, Queue, QueueStats, Stats, StatusCounts, wire_time
from jobctl.store.base import Counters, EventPage, LogPage
from jobctl.store.queries import Snapshot
from jobctl.store.rows import Row, event_of, fill

MAX_HISTORY: Final = 10_000
"""Events of one job that are told: the latest ones."""


def head(db: Snapshot) -> int:
    """The newest number of the log."""
    return int(db.one("head")[0])


def find(db: Snapshot, job_id: str, owner: str | None) -> Row:
    """The job, if ``owner`` may know of it."""
    found = db.one("job_by_id", job_id)
    if found is not None:
        row = Row(*found)
        if owner is None or row.created_by == owner:
            return row
    raise NotFound("there is no such job")


def job(db: Snapshot, job_id: str, owner: str | None) -> Job:
    """One job, whole."""
    return fill(db, find(db, job_id, owner)).job(whole=True)


# --- pages ---------------------------------------------------------------------------------------------------------


def jobs(db: Snapshot, query: JobQuery) -> JobPage:
    """One page by keyset: rows below the last one's key, newest first."""
    where, values = conditions(db, query)
    if query.cursor is not None:
        where.append("pk < ?")
        values.append(open_cursor(query))
    clause = " AND ".join(where) or "TRUE"
    sql = f"SELECT {db.columns} FROM job WHERE {clause} ORDER BY pk DESC LIMIT ?"  # noqa: S608 - fixed conditions only
    rows = [Row(*found) for found in db.select(sql, [*values, query.limit + 1])]
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    return JobPage(
        jobs=tuple(row.job() for row in rows),
        cursor=cursor_of(query, rows[-1].pk) if more else None,
        has_more=more,
    )


def conditions(db: Snapshot, query: JobQuery) -> tuple[list[str], list[Any]]:
    """What a query asks for as SQL conditions, and their values."""
    where: list[str] = []
    values: list[Any] = []
    for owner in (query.owner, query.created_by):
        if owner is not None:
            where.append("created_by = ?")
            values.append(owner)
    for column, wanted in (("status", query.statuses), ("name", query.names), ("queue", query.queues)):
        if wanted:
            where.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            values += wanted
    if query.statuses and "completed" not in query.statuses:
        where.append("status <> 'completed'")  # lets the partial index serve
    if query.tags:
        marks = ", ".join("?" * len(query.tags))
        where.append(db.has_tag.format(marks))
        values += query.tags
    if query.q:
        # All in the database's own code: a search without a match reads the whole table, and must not hold the GIL.
        where.append(db.finds if "\x00" not in query.q else "FALSE")  # no database of ours finds, or keeps, a NUL
        values += [query.q.casefold()] * 3 if "\x00" not in query.q else []
    return where, values


def _digest(query: JobQuery) -> str:
    asked = msgspec.json.encode(
        [query.owner, query.created_by, query.statuses, query.names, query.queues, query.tags, query.q]
    )
    return hashlib.blake2b(asked, digest_size=9).hexdigest()


def cursor_of(query: JobQuery, pk: int) -> str:
    """A cursor that continues this query after row ``pk``."""
    return base64.urlsafe_b64encode(f"1.{pk}.{_digest(query)}".encode()).decode().rstrip("=")


def open_cursor(query: JobQuery) -> int:
    """The row that a query's cursor continues after. Raises InvalidCursor."""
    text = query.cursor or ""
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
        version, pk, digest = plain.split(".")
        if version != "1" or digest != _digest(query) or not pk.isdecimal() or len(pk) > 18:
            raise InvalidCursor
        return int(pk)
    except ValueError:
        raise InvalidCursor from None


# --- figures -------------------------------------------------------------------------------------------------------


def stats(db: Snapshot, owner: str | None) -> Stats:
    """Counts over all, or of one owner, from the counters."""
    names = {name: bool(paused) for name, paused in db.all("all_queues")}
    counts: dict[str, dict[str, int]] = {}
    for queue, status, n in db.all("counters_of", owner or "") if owner != "" else ():
        counts.setdefault(queue, {})[status] = n
    return make_stats(counts, names, all_queues=owner is None)


def make_stats(counts: dict[str, dict[str, int]], queues: dict[str, bool], *, all_queues: bool) -> Stats:
    """``Stats`` from counts by queue and status; queues without jobs are shown only to who may see all."""
    names = sorted(queues) if all_queues else sorted(name for name in counts if any(counts[name].values()))
    total: dict[str, int] = {}
    by_queue = {}
    for name in names:
        here = {status: n for status, n in counts.get(name, {}).items() if n}
        by_queue[name] = QueueStats(**here, total=sum(here.values()), paused=queues.get(name, False))
        for status, n in here.items():
            total[status] = total.get(status, 0) + n
    return Stats(**total, total=sum(total.values()), by_queue=by_queue)


def queues(db: Snapshot) -> tuple[Queue, ...]:
    """Every queue with its counts."""
    return tuple(
        Queue(name=name, paused=seen.paused, concurrency=None, counts=_plain(seen))
        for name, seen in stats(db, None).by_queue.items()
    )


def _plain(seen: QueueStats) -> StatusCounts:
    return StatusCounts(**{field: getattr(seen, field) for field in StatusCounts.__struct_fields__})


def counters(db: Snapshot) -> Counters:
    """All counters but the totals."""
    found = db.all("all_counters")
    names = db.all("all_queues")
    return Counters(
        counts={(owner, queue, status): n for owner, queue, status, n in found},
        queues={name: bool(paused) for name, paused in names},
    )


# --- logs and events -----------------------------------------------------------------------------------------------


def logs(db: Snapshot, job_id: str, owner: str | None, after: int, limit: int) -> LogPage:
    """Lines of a job's log after number ``after``."""
    row = find(db, job_id, owner)
    found = db.all("log_lines", row.pk, after, limit + 1)
    lines = tuple(LogLine(n=n, at=wire_time(at), stream=stream, text=text) for n, at, stream, text in found[:limit])
    last = int(db.one("last_log_line", row.pk)[0])
    return LogPage(lines=lines, has_more=len(found) > limit, last=last)


def history(db: Snapshot, job_id: str, owner: str | None) -> tuple[Event, ...]:
    """The job's events, found from its row, or from the last of them, which each database knows in its own way."""
    row = find(db, job_id, owner)
    return tuple(event_of(found) for found in db.all("history", row.pk, row.seq, MAX_HISTORY))


def events(db: Snapshot, after: int, limit: int, upto: int | None) -> EventPage:
    """A page of the log, with the log's bounds at the same instant."""
    newest = head(db)
    oldest = db.one("log_start")[0]
    last = newest if upto is None else min(upto, newest)
    found = db.all("events_after", after, last, limit)
    return EventPage(
        events=tuple(event_of(row) for row in found),
        start=newest + 1 if oldest is None else int(oldest),
        head=newest,
    )
