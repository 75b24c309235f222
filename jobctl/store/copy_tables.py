"""What ``jobctl db copy`` copies: each table of the SQLite schema, and what stands for it in PostgreSQL.

A test holds this to both schemas: a column that a later migration adds must be named here, or be named as left out.
"""

from typing import Final, NamedTuple

from jobctl.states import LIVE

_LIVE: Final = ", ".join(f"'{each}'" for each in sorted(LIVE))


class Table(NamedTuple):
    """One of them. ``columns`` are PostgreSQL's; where SQLite has not the same, ``instead`` says what is read there."""

    name: str
    columns: tuple[str, ...]
    key: str
    """Columns by which rows are ordered, the same in both."""
    instead: tuple[tuple[str, str], ...] = ()
    source: str = ""
    """What is read in SQLite, where it is more than the table of the same name."""

    @property
    def read(self) -> str:
        """The query on SQLite."""
        other = dict(self.instead)
        columns = ", ".join(other.get(each, each) for each in self.columns)
        return f"SELECT {columns} FROM {self.source or self.name} ORDER BY {self.key}"  # noqa: S608 - names of ours

    @property
    def total(self) -> str:
        """How many rows that gives."""
        return f"SELECT count(*) FROM {self.source or self.name}"  # noqa: S608 - names of ours

    @property
    def write(self) -> str:
        """The COPY into PostgreSQL."""
        return f"COPY {self.name} ({', '.join(self.columns)}) FROM STDIN (FORMAT BINARY)"

    @property
    def read_back(self) -> str:
        """The COPY out of it, in the same order."""
        query = f"SELECT {', '.join(self.columns)} FROM {self.name} ORDER BY {self.key}"  # noqa: S608 - names of ours
        return f"COPY ({query}) TO STDOUT (FORMAT BINARY)"


def _columns(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TABLES: Final = (
    Table("queue", _columns("name paused"), "name"),
    Table(
        "job",
        _columns("""
            pk id name queue data status priority attempts max_attempts error result progress progress_message
            created_at started_at completed_at scheduled_for processing_by created_by unique_key timeout tags
            tags_folded version cancel_requested run ready due held pid pid_started live_key
        """),
        "pk",
        # The commands that a server had started ended with it, or are another's: a backup's server may be running.
        (("pid", "NULL"), ("pid_started", "NULL"), ("live_key", f"iif(status IN ({_LIVE}), unique_key, NULL)")),
    ),
    Table("ready", _columns("queue name priority job"), "job", (("job", "pk AS job"),), "job WHERE ready = 1"),
    Table("job_data", _columns("job body"), "job"),
    Table("job_result", _columns("job body"), "job"),
    Table("job_log", _columns("job n at stream text"), "job, n"),
    Table(
        "job_event",
        _columns("seq kind job job_id at owner name queue tags status_before status body"),
        "seq",
        (
            *((each, f"e.{each} AS {each}") for each in _columns("seq name queue tags status")),
            ("job", "coalesce(j.pk, 0) AS job"),
        ),
        "job_event AS e LEFT JOIN job AS j ON j.id = e.job_id",
    ),
    Table("counter", _columns("owner queue status n"), "owner, queue, status"),
    Table("idempotency", _columns("owner key fingerprint answer at"), "owner, key"),
    Table(
        "schedule",
        _columns("""
            name cron timezone job_name data queue priority max_attempts timeout tags missed enabled source created_by
            created_at updated_at version next_run last_run last_job run_count error settled
        """),
        "name",
    ),
    Table("schedule_tick", _columns("schedule tick"), "schedule, tick"),
    Table(
        "token", _columns("jti name subject role created_by created_at expires_at last_used revoked_at key"), "jti"
    ),
    Table(
        "session",
        _columns("id handle current previous rotated_at subject role origin ends_at expires_at ended"),
        "id",
    ),
)
"""In the order in which they are copied."""
LEFT_OUT: Final = {
    ("meta", ""): "the epoch is new, and the marks are of a file",
    ("job", "seq"): "a job's events are found by its number",
    ("job_event", "prev"): "the same",
}
"""What of SQLite's schema is not copied, and why."""
NEW: Final = frozenset({"jobctl_schema", "leader", "log", "meta", "note", "worker"})
"""Tables that only PostgreSQL has, or whose rows are not copied."""
