"""Bringing a PostgreSQL database to this version's schema.

Forward only: ``sql/postgres/NNNN_*.sql`` in order, each with its version row in one transaction, under an advisory
lock, so that of many servers that start at once one does it and the others wait. A migration says by which older
schema's code the result can still be used (``-- works with: N``): servers of that version go on while others are
updated.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import psycopg

from jobctl.errors import NotADatabase, StartupError
from jobctl.store.postgres_link import Link, connect
from jobctl.store.postgres_settings import PostgresOptions
from jobctl.store.postgres_unfinished import refuse_unfinished
from jobctl.store.queries import migrations

LOCK: Final = 1785684580
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS jobctl_schema (
    version    integer PRIMARY KEY,
    works_with integer NOT NULL,
    at         timestamptz NOT NULL DEFAULT now()
)
"""


_DONE: Final = "INSERT INTO jobctl_schema (version, works_with) VALUES ($1, $2)"
_VERSION: Final = "SELECT coalesce(max(version), 0), coalesce(max(works_with), 0) FROM jobctl_schema"


class Migrated(NamedTuple):
    """The schema's version before (0: there was none) and now."""

    before: int
    now: int


def newest() -> int:
    """The schema that this version of jobctl is made for."""
    return len(migrations("postgres"))


def migrate(url: str, options: PostgresOptions | None = None) -> Migrated:
    """Bring the database to the newest schema.

    Raises:
        NotADatabase: its schema is newer, and cannot be used by this version.
        StartupError: it cannot be done, or the database is half a copy.
        StoreUnavailable: there is no server.
    """
    link = connect(url, options or PostgresOptions(), "migrate")
    try:
        done = migrate_on(link)
        refuse_unfinished(link)
    except psycopg.Error as error:
        raise StartupError(f"cannot bring the database to this version: {' '.join(str(error).split())}") from error
    finally:
        link.close()
    return done


def migrate_on(link: Link) -> Migrated:
    """As ``migrate``, on a connection."""
    steps = migrations("postgres")
    if link.raw.info.server_version < 140_000:
        raise StartupError(f"PostgreSQL {link.raw.info.server_version // 10_000} is too old; 14 or later is needed")
    before = check(link)
    if before >= len(steps):
        return Migrated(before, before)
    try:
        _bring_up(link, steps)
    except psycopg.errors.InsufficientPrivilege as error:
        raise StartupError(
            f"{_line(error)}; jobctl makes its tables there: let this user own the database, or grant it CREATE on "
            "the schema"
        ) from error
    except psycopg.errors.DuplicateTable as error:
        raise StartupError(f"{_line(error)}, and is not jobctl's; give it a database of its own") from error
    return Migrated(before, len(steps))


def _bring_up(link: Link, steps: Sequence[tuple[str, str]]) -> None:
    raw = link.raw
    with raw.transaction():
        raw.execute("SET LOCAL lock_timeout = 0")  # who comes second waits until the first is done
        raw.execute("SET LOCAL statement_timeout = 0")
        raw.execute("SET LOCAL client_min_messages = warning")
        raw.execute("SELECT pg_advisory_xact_lock($1)", (LOCK,))
        raw.execute(_TABLE)
        done = check(link)
        for number, (_, text) in enumerate(steps[done:], done + 1):
            for statement in statements(text):
                raw.execute(statement, prepare=False)
            raw.execute(_DONE, (number, _oldest(number, text)))


def _line(error: psycopg.Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split())


def check(link: Link) -> int:
    """The schema's version, if this jobctl can work with it, or bring it up to date. Raises NotADatabase."""
    ((there,),), _ = link.execute("SELECT to_regclass('jobctl_schema') IS NOT NULL")
    if not there:
        return 0
    ((version, oldest),), _ = link.execute(_VERSION)
    if oldest > newest():
        raise NotADatabase(f"the database has the schema {version} of a newer jobctl; update jobctl")
    return int(version)


def statements(text: str) -> list[str]:
    """The statements of a migration: each ends with a semicolon at the end of a line, outside of a function's body."""
    plain = re.sub(r"--[^\n]*", "", text)
    found, body = [""], False
    for line in plain.splitlines():
        body ^= line.count("$body$") % 2 == 1
        found[-1] += line + "\n"
        if line.rstrip().endswith(";") and not body:
            found.append("")
    return [each.strip() for each in found if each.strip()]


def _oldest(number: int, text: str) -> int:
    said = re.search(r"^-- works with: (\d+)", text, re.MULTILINE)
    return int(said[1]) if said else number
