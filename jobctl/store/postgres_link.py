"""A connection to PostgreSQL as the store uses it: named statements, several in one round trip, no state of its own.

Every statement has a time-out, and so has a lock that is waited for, and a transaction that its client has left alone:
a server that is frozen must not hold the others up. Where a pooler hands connections out by the transaction, these are
set in each transaction; else once a connection.
"""

import contextlib
import logging
import re
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.numeric import Int8BinaryDumper

from jobctl.errors import StartupError, StoreUnavailable
from jobctl.store.postgres_arrays import DUMPERS, TextDumper
from jobctl.store.postgres_pipeline import Pipeline, Result, Statement
from jobctl.store.postgres_settings import PostgresOptions
from jobctl.store.queries import load
from jobctl.store.rows import COLUMNS, SCHEDULE_COLUMNS

log = logging.getLogger("jobctl.store")

_COLUMNS: Final = re.sub(r"\bseq$", "0::bigint AS seq", COLUMNS)  # a job's events are found by its number
JOB_COLUMNS: Final = ", ".join(each if "::" in each else f"job.{each}" for each in _COLUMNS.split(", "))
SQL: Final = load("postgres", columns=_COLUMNS, job_columns=JOB_COLUMNS, schedule_columns=SCHEDULE_COLUMNS)
"""PostgreSQL's named statements."""

IDLE_IN_TRANSACTION_MS: Final = 5000
"""A transaction sends one statement after the other; who pauses for longer is frozen, or gone."""

WRITER: Final = "writer"
__all__ = [
    "JOB_COLUMNS", "SQL", "WRITER", "Link", "Result", "Statement", "arguments", "configure", "connect", "is_url",
    "without_password",
]  # fmt: skip



def is_url(text: str) -> bool:
    """Whether ``db`` names a PostgreSQL database, and not a file."""
    return text.startswith(("postgresql://", "postgres://"))


def without_password(url: str) -> str:
    """``url`` for a person, a log or a list of processes."""
    try:
        parts = {key: str(value) for key, value in conninfo_to_dict(url).items() if key not in {"password", "passfile"}}
    except psycopg.Error:
        return "postgresql://?"
    user, host, port = parts.pop("user", ""), parts.pop("host", ""), parts.pop("port", "")
    name = parts.pop("dbname", "")
    return f"postgresql://{user and user + '@'}{host}{port and ':' + port}/{name}"


def arguments(url: str, options: PostgresOptions, name: str) -> dict[str, Any]:
    """Of ``psycopg.connect``, for a connection that is shown in ``pg_stat_activity`` as ``jobctl NAME``."""
    more: dict[str, Any] = {}
    if not options.transaction_pooling:
        given = conninfo_to_dict(url).get("options") or ""
        settings = [f"-c {key}={value}" for key, value in _settings(options, name).items()]
        more["options"] = " ".join([str(given), *settings]).strip()
    return {
        "conninfo": make_conninfo(url, application_name=f"jobctl {name}", **more),
        "autocommit": True,
        "cursor_factory": psycopg.RawCursor,
        "prepare_threshold": None,  # see postgres_pipeline
        "connect_timeout": max(1, round(options.connect_timeout)),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }


def _settings(options: PostgresOptions, name: str) -> dict[str, int | str]:
    settings: dict[str, int | str] = {
        "statement_timeout": round(options.statement_timeout * 1000),
        "lock_timeout": round(options.lock_timeout * 1000),
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS,
        "jit": "off",  # compiling takes longer than any statement of ours
    }
    # Each statement of the writer goes from the few rows that it has to others, by an index. The planner cannot know
    # how few: when a table had just been analysed, claims read the whole of it (55 ms for 100 jobs; by index 3 ms).
    # For the same reason it had other processes share in what reads three events, and waited 7 ms for them to start.
    if name == WRITER:
        settings |= dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin"), "off")
        settings["max_parallel_workers_per_gather"] = 0
        # With 500,000 ready jobs in a paused queue it thought each claim worth a plan of its own: 0.8 ms for 0.2.
        settings["plan_cache_mode"] = "force_generic_plan"
    return settings


def configure(connection: psycopg.Connection[Any]) -> None:
    """Teach a new connection the types of parameters."""
    adapters = connection.adapters
    adapters.register_dumper(int, Int8BinaryDumper)  # else each size of a number makes another plan
    adapters.register_dumper(str, TextDumper)
    for column, dumper in DUMPERS.items():
        adapters.register_dumper(column, dumper)


class Link:
    """One connection. Used by one thread at a time.

    Args:
        connection: Made with ``arguments``.
        options: Time-outs, and whether a pooler is between.
        name: As for ``arguments``.
        weak_commits: A COMMIT would be answered before it is safe; not so in a transaction that ``begin`` opens.
    """

    def __init__(
        self, connection: psycopg.Connection[Any], options: PostgresOptions, name: str, *, weak_commits: bool = False
    ) -> None:
        self._connection = connection
        self._local: Statement | None = None
        if options.transaction_pooling:
            texts = [f"set_config('{key}', '{value}', true)" for key, value in _settings(options, name).items()]
            self._local = (f"SELECT {', '.join(texts)}", ())
        self._weak_commits = weak_commits
        self._pipeline = Pipeline(connection, prepares=not options.transaction_pooling)

    @property
    def raw(self) -> psycopg.Connection[Any]:
        """The connection itself."""
        return self._connection

    @property
    def broken(self) -> bool:
        """Whether it can be used no more."""
        return self._connection.closed

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open and has not failed."""
        return self._connection.info.transaction_status in {
            psycopg.pq.TransactionStatus.INTRANS, psycopg.pq.TransactionStatus.ACTIVE,
        }  # fmt: skip

    def begin(self, *, read_only: bool = False) -> list[Statement]:
        """The statements that open a transaction, to be sent with its first one."""
        how = " ISOLATION LEVEL REPEATABLE READ READ ONLY" if read_only else ""
        opening: list[Statement] = [(f"BEGIN{how}", ())]
        if self._local is not None:
            opening.append(self._local)
        if self._weak_commits and not read_only:
            opening.append(("SET LOCAL synchronous_commit = on", ()))
        return opening

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Result:
        """One statement."""
        cursor = self._connection.execute(sql, values, binary=True)
        return (cursor.fetchall() if cursor.description is not None else []), cursor.rowcount

    def execute_all(self, statements: Sequence[Statement]) -> list[Result]:
        """Several, in one round trip; what follows one that fails is not executed."""
        return self._pipeline.run(statements)

    def ask(self, *statements: Statement) -> list[Result]:
        """Several that only read, in one round trip; each sees what was committed before it."""
        if self._local is None:
            return self.execute_all(statements)
        try:
            return self.execute_all([("BEGIN READ ONLY", ()), self._local, *statements, ("COMMIT", ())])[2:-1]
        finally:
            self.roll_back()

    def roll_back(self) -> None:
        """End the transaction, if there is one; must not fail."""
        with contextlib.suppress(psycopg.Error):
            if not self.broken and self._connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close it."""
        self._connection.close()


class NoConnection(StoreUnavailable):
    """There is no server, or it lets nobody in at present; the message says where it would be."""


def connect(url: str, options: PostgresOptions, name: str) -> Link:
    """A connection.

    Raises:
        NoConnection: there is no server, or it lets nobody in at present.
        StartupError: it cannot be one that is of use.
    """
    try:
        connection = psycopg.connect(**arguments(url, options, name))
        configure(connection)
        row = connection.execute("SHOW synchronous_commit").fetchone()
        return Link(connection, options, name, weak_commits=row is None or row[0] in {"off", "local"})
    except psycopg.OperationalError as error:
        raise NoConnection(f"cannot reach the database {without_password(url)}: {_line(error)}") from error
    except psycopg.Error as error:
        raise StartupError(f"cannot use the database {without_password(url)}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
