"""Whether the event log continues the one that clients have seen.

The epoch stands in the database, beside what it holds for: this database cluster, its timeline, this database and this
table. A dump that was restored, a replica that was promoted, a cluster that was set back to a point in time differ in
one of them, and begin a new epoch. What cannot be seen from within is a copy of the cluster's files (a snapshot of its
disk) that takes the place of the original: after that, ``jobctl migrate --new-epoch`` must be run.

A crash takes nothing back, since every COMMIT is synced before it is answered.
"""

import logging
from typing import Final

import psycopg

from jobctl.store.epoch import fresh
from jobctl.store.postgres_link import SQL, Link

log = logging.getLogger("jobctl.store")

_IDENTITY: Final = (
    "SELECT system_identifier::text FROM pg_control_system()",
    "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)",
    "SELECT oid::text FROM pg_database WHERE datname = current_database()",
    "SELECT 'job_event'::regclass::oid::text",
)


def epoch_of(link: Link) -> str:
    """The epoch of the database; a new one where it is not what the last was given to."""
    identity = "/".join(_ask(link, sql) for sql in _IDENTITY)
    with link.raw.transaction():
        link.execute("LOCK TABLE log IN SHARE ROW EXCLUSIVE MODE")  # of servers that start at once, one decides
        meta: dict[str, str] = dict(link.execute(SQL["meta"])[0])
        if meta.get("identity") == identity and "epoch" in meta:
            return str(meta["epoch"])
        if "epoch" in meta:
            log.warning("the event log may not continue what clients have seen: a new epoch begins")
        return _begin(link, identity)


def new_epoch(link: Link) -> str:
    """Begin a new epoch; the servers must be started again afterwards."""
    with link.raw.transaction():
        link.execute("LOCK TABLE log IN SHARE ROW EXCLUSIVE MODE")
        meta: dict[str, str] = dict(link.execute(SQL["meta"])[0])
        return _begin(link, meta.get("identity", ""))


def _begin(link: Link, identity: str) -> str:
    epoch = fresh()
    link.execute(SQL["set_meta"], ("epoch", epoch))
    link.execute(SQL["set_meta"], ("identity", identity))
    return epoch


def _ask(link: Link, sql: str) -> str:
    try:
        return str(link.execute(sql)[0][0][0])
    except psycopg.Error as error:  # a managed database may not let us see it
        log.debug("cannot ask %r: %s", sql, error)
        return "?"
