"""The reads of the SQLite store, each a function of a connection inside one read transaction.

Everything is fetched whole: an unfinished cursor would keep an old snapshot alive.
"""

import base64
import hashlib
from typing import Any, Final

import apsw
import msgspec

from jobctl.errors import InvalidCursor, NotFound
from jobctl.events import Event
from jobctl.model import Job, JobPage, JobQuery, LogLine, Queue, QueueStats, Stats, StatusCounts, wire_time
from jobctl.store.base import Counters, EventPage, LogPage
from jobctl.store.rows import COLUMNS, SQL, Row, event_of, fetch, fetch_one, fill, scalar

MAX_HISTORY: Final = 10_000
"""Events of one job that are told: the latest ones."""


def head(connection: apsw.Connection) -> int:
    """The newest number of the log."""
    return int(scalar(connection, SQL["head"]))


def find(connection: apsw.Connection, job_id: str, owner: str | None) -> Row:
    """The job, if ``owner`` may know of it."""
    found = fetch_one(connection, SQL["job_by_id"], job_id)
    if found is not None:
        row = Row(*found)
        if owner is None or row.created_by == owner:
            return row
    raise NotFound("there is no such job")


def job(connection: apsw.Connection, job_id: str, owner: str | None) -> Job:
    """One job, whole."""
    return fill(connection, find(connection, job_id, owner)).job(whole=True)


# --- pages ---------------------------------------------------------------------------------------------------------


def jobs(connection: apsw.Connection, query: JobQuery) -> JobPage:
    """One page by keyset: rows below the last one's key, newest first."""
    where, values = conditions(query)
    if query.cursor is not None:
        where.append("pk < ?")
        values.append(open_cursor(query))
    clause = " AND ".join(where) or "1"
    sql = f"SELECT {COLUMNS} FROM job WHERE {clause} ORDER BY pk DESC LIMIT ?"  # noqa: S608 - fixed conditions only
    rows = [Row(*found) for found in fetch(connection, sql, *values, query.limit + 1)]
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    return JobPage(
        jobs=tuple(row.job() for row in rows),
        cursor=cursor_of(query, rows[-1].pk) if more else None,
        has_more=more,
    )


def conditions(query: JobQuery) -> tuple[list[str], list[Any]]:
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
        where.append(f"EXISTS (SELECT 1 FROM json_each(tags) WHERE value IN ({marks}))")  # noqa: S608
        values += query.tags
    if query.q:
        # All in SQLite's own code: a search without a match reads the whole table, and must not hold the GIL for it.
        where.append("(instr(lower(name), ?) OR instr(id, ?) OR instr(tags_folded, ?))")
        values += [query.q.casefold()] * 3
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


def stats(connection: apsw.Connection, owner: str | None) -> Stats:
    """Counts over all, or of one owner, from the counters."""
    names = {name: bool(paused) for name, paused in fetch(connection, SQL["all_queues"])}
    counts: dict[str, dict[str, int]] = {}
    for queue, status, n in fetch(connection, SQL["counters_of"], owner or "") if owner != "" else ():
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


def queues(connection: apsw.Connection) -> tuple[Queue, ...]:
    """Every queue with its counts."""
    return tuple(
        Queue(name=name, paused=seen.paused, concurrency=None, counts=_plain(seen))
        for name, seen in stats(connection, None).by_queue.items()
    )


def _plain(seen: QueueStats) -> StatusCounts:
    return StatusCounts(**{field: getattr(seen, field) for field in StatusCounts.__struct_fields__})


def counters(connection: apsw.Connection) -> Counters:
    """All counters but the totals."""
    found = fetch(connection, SQL["all_counters"])
    names = fetch(connection, SQL["all_queues"])
    return Counters(
        counts={(owner, queue, status): n for owner, queue, status, n in found},
        queues={name: bool(paused) for name, paused in names},
    )


# --- logs and events -----------------------------------------------------------------------------------------------


def logs(connection: apsw.Connection, job_id: str, owner: str | None, after: int, limit: int) -> LogPage:
    """Lines of a job's log after number ``after``."""
    row = find(connection, job_id, owner)
    found = fetch(connection, SQL["log_lines"], row.pk, after, limit + 1)
    lines = tuple(LogLine(n=n, at=wire_time(at), stream=stream, text=text) for n, at, stream, text in found[:limit])
    last = int(scalar(connection, SQL["last_log_line"], row.pk))
    return LogPage(lines=lines, has_more=len(found) > limit, last=last)


def history(connection: apsw.Connection, job_id: str, owner: str | None) -> tuple[Event, ...]:
    """The job's events, found by walking their chain back from the last."""
    row = find(connection, job_id, owner)
    return tuple(event_of(found) for found in fetch(connection, SQL["history"], row.seq, MAX_HISTORY))


def events(connection: apsw.Connection, after: int, limit: int, upto: int | None) -> EventPage:
    """A page of the log, with the log's bounds at the same instant."""
    newest = head(connection)
    oldest = scalar(connection, SQL["log_start"])
    last = newest if upto is None else min(upto, newest)
    found = fetch(connection, SQL["events_after"], after, last, limit)
    return EventPage(
        events=tuple(event_of(row) for row in found),
        start=newest + 1 if oldest is None else int(oldest),
        head=newest,
    )
