"""Is a database file sound? Looks at it without a server, and changes nothing.

Beyond what SQLite knows about its pages, this holds the file to what jobctl promises: the counters are what counting
gives, the event log has no gap, and no job has an event that the log has not reached.
"""

import contextlib
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import apsw

from jobctl.errors import NotADatabase, StartupError
from jobctl.model import Wire
from jobctl.store.aside import WAL, has_foreign_log
from jobctl.store.rows import SQL, fetch, scalar
from jobctl.store.sqlite import APPLICATION_ID, BUSY_MS

MAX_PROBLEMS: Final = 20
"""Of each kind that are shown."""

COUNTERS: Final = """
WITH counted (owner, queue, status, n) AS (
    SELECT created_by, queue, status, count(*) FROM job GROUP BY created_by, queue, status
    UNION ALL
    SELECT '', queue, status, count(*) FROM job GROUP BY queue, status
), kept (owner, queue, status, n) AS (SELECT owner, queue, status, n FROM counter WHERE n <> 0)
SELECT coalesce(c.owner, k.owner), coalesce(c.queue, k.queue), coalesce(c.status, k.status),
       coalesce(k.n, 0), coalesce(c.n, 0)
FROM counted AS c FULL JOIN kept AS k ON (c.owner, c.queue, c.status) = (k.owner, k.queue, k.status)
WHERE coalesce(c.n, 0) <> coalesce(k.n, 0)
LIMIT ?
"""
GAPS: Final = """
SELECT seq, following FROM (SELECT seq, lead(seq) OVER (ORDER BY seq) AS following FROM job_event)
WHERE following <> seq + 1 LIMIT ?
"""
LOST: Final = """
SELECT (SELECT count(*) FROM job WHERE data = x'' AND pk NOT IN (SELECT job FROM job_data))
     + (SELECT count(*) FROM job WHERE result = x'' AND pk NOT IN (SELECT job FROM job_result))
"""
STRAY: Final = """
SELECT (SELECT count(*) FROM job_data WHERE job NOT IN (SELECT pk FROM job WHERE data = x''))
     + (SELECT count(*) FROM job_result WHERE job NOT IN (SELECT pk FROM job WHERE result = x''))
"""
_LARGE_SINCE: Final = 5
"""The schema in which large fields stand apart."""


class Report(Wire, frozen=True):
    """What was found. ``problems`` is empty where all is well; ``checks`` names what was looked at."""

    path: str
    ok: bool
    problems: tuple[str, ...]
    checks: tuple[str, ...]
    schema: int
    epoch: str
    seq: int
    jobs: int
    events: int
    copied_from: str | None = None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[apsw.Connection]:
    """A connection that reads ``path``.

    Raises:
        StartupError: it cannot be opened.
    """
    if not path.is_file():
        why = "it is a folder" if path.is_dir() else "it is no file" if path.exists() else "no such file"
        raise StartupError(f"cannot read {path}: {why}")
    try:
        connection = _connect(path)
    except apsw.NotADBError:
        raise NotADatabase(f"{path} is not a database") from None
    except apsw.ReadOnlyError:  # beside it is the journal of a change, which only a writer may take back
        raise StartupError(f"{path} was left in the middle of a change; start the server on it once first") from None
    except apsw.Error as error:
        raise StartupError(f"cannot read {path}: {error}") from None
    with contextlib.closing(connection):
        yield connection


def _connect(path: Path) -> apsw.Connection:
    with contextlib.suppress(OSError):
        if has_foreign_log(path):  # the next start moves it away
            return _alone(path)
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(BUSY_MS)
        with contextlib.suppress(apsw.CorruptError):  # what is broken is told by whoever reads on
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except apsw.CantOpenError:
        # In a folder that cannot be written, SQLite cannot share its log; without one it need not.
        connection.close()
        if path.with_name(path.name + WAL).exists():
            raise
        return _alone(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _alone(path: Path) -> apsw.Connection:
    """Read the file itself, and nothing that stands beside it."""
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    return apsw.Connection(f"{path.resolve().as_uri()}?immutable=1", flags=flags)


def check(path: Path) -> Report:
    """Look at the database in ``path``; a server may be using it.

    Raises:
        NotADatabase: it is none of jobctl, or one of a newer version.
        StartupError: it cannot be read.
    """
    with opened(path) as connection:
        try:
            return _check(connection, path)
        except apsw.NotADBError:
            raise NotADatabase(f"{path} is not a database") from None
        except apsw.Error as error:  # so broken that it cannot even be asked
            return _report(path, [f"cannot be read: {error}"], ())


def _check(connection: apsw.Connection, path: Path) -> Report:
    schema = int(connection.pragma("user_version") or 0)
    if connection.pragma("application_id") != APPLICATION_ID:
        raise NotADatabase(f"{path} is not a database of jobctl")
    newest = sum(each.name[:4].isdecimal() for each in files("jobctl.store").joinpath("sql").iterdir())
    if schema > newest:
        raise NotADatabase(f"{path} was written by a newer jobctl (schema {schema}); update jobctl")
    connection.execute("BEGIN")
    try:
        problems: list[str] = []
        for look in CHECKS.values():
            problems += look(connection)
            if problems and look is _pages:  # what lies in broken pages is not worth counting
                return _report(path, problems, tuple(CHECKS), schema=schema)
        meta: dict[str, str] = dict(fetch(connection, SQL["meta"]))
        return _report(
            path,
            problems,
            tuple(CHECKS),
            schema=schema,
            epoch=meta.get("epoch", ""),
            seq=scalar(connection, SQL["head"]),
            jobs=scalar(connection, "SELECT count(*) FROM job"),
            events=scalar(connection, "SELECT count(*) FROM job_event"),
            copied_from=meta.get("copied_from"),
        )
    finally:
        connection.execute("ROLLBACK")


def _report(path: Path, problems: list[str], checks: tuple[str, ...], **facts: Any) -> Report:
    known: dict[str, Any] = {"schema": 0, "epoch": "", "seq": 0, "jobs": 0, "events": 0} | facts
    return Report(path=str(path), ok=not problems, problems=tuple(problems), checks=checks, **known)


def _pages(connection: apsw.Connection) -> list[str]:
    rows = fetch(connection, f"PRAGMA integrity_check({MAX_PROBLEMS})")
    return [f"pages: {row[0]}" for row in rows if row[0] != "ok"]


def _counters(connection: apsw.Connection) -> list[str]:
    return [
        f"counter of {owner or 'all'}, queue {queue}, {status}: {kept}, but there are {counted}"
        for owner, queue, status, kept, counted in fetch(connection, COUNTERS, MAX_PROBLEMS)
    ]


def _log(connection: apsw.Connection) -> list[str]:
    problems = [f"event log: {after} is followed by {next_}" for after, next_ in fetch(connection, GAPS, MAX_PROBLEMS)]
    head = scalar(connection, SQL["head"])
    last = scalar(connection, "SELECT max(seq) FROM job_event")
    if last is not None and last != head:
        problems.append(f"event log: it ends at {last}, but numbers were given out up to {head}")
    return problems


def _jobs(connection: apsw.Connection) -> list[str]:
    head = scalar(connection, SQL["head"])
    beyond = scalar(connection, f"SELECT count(*) FROM job WHERE seq > {int(head)}")  # noqa: S608 - a number
    return [f"jobs: {beyond} have an event that the log has not reached"] if beyond else []


def _large(connection: apsw.Connection) -> list[str]:
    if int(connection.pragma("user_version") or 0) < _LARGE_SINCE:
        return []
    problems = []
    if lost := scalar(connection, LOST):
        problems.append(f"large fields: {lost} jobs have lost theirs")
    if stray := scalar(connection, STRAY):
        problems.append(f"large fields: {stray} are of no job")
    return problems


def _epoch(connection: apsw.Connection) -> list[str]:
    meta = dict(fetch(connection, SQL["meta"]))
    return [] if meta.get("epoch") else ["epoch: there is none; no server has ever started on this file"]


CHECKS: Final[dict[str, Callable[[apsw.Connection], list[str]]]] = {
    "pages": _pages,
    "counters": _counters,
    "event log": _log,
    "jobs": _jobs,
    "large fields": _large,
    "epoch": _epoch,
}
