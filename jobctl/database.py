"""The database that ``db`` names, a file or one of PostgreSQL: opening it, its room, its copy.

What is asked of a store is the same for both (``store.base``); here is what differs for whoever runs a process.
"""

import logging
import shutil
from contextlib import AbstractAsyncContextManager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from jobctl.database_url import DatabaseUrl
from jobctl.errors import ConfigError, Conflict, StartupError, StoreUnavailable
from jobctl.metrics import Metrics
from jobctl.settings import Settings
from jobctl.store.backup import Backup, back_up
from jobctl.store.base import Store
from jobctl.store.sqlite import open_store

if TYPE_CHECKING:
    from jobctl.store.postgres_migrate import Migrated
    from jobctl.store.postgres_settings import PostgresOptions

log = logging.getLogger("jobctl")


def open_database(
    settings: Settings, metrics: Metrics, *, events: bool = True
) -> AbstractAsyncContextManager[Store]:
    """Open it until the block ends.

    Args:
        settings: Which, and how.
        metrics: Where commits are counted.
        events: Listeners hear the events of other processes, too.

    Raises:
        StartupError: it cannot be used, or what it takes is not installed.
    """
    if isinstance(settings.db, DatabaseUrl):
        require_postgres()
        from jobctl.store.postgres import open_postgres

        return open_postgres(
            settings.db.secret, options=options(settings), durability=settings.durability, metrics=metrics,
            events=events,
        )  # fmt: skip
    return open_store(settings.db, state_dir=settings.state_dir, durability=settings.durability, metrics=metrics)


def require_postgres() -> None:
    """Raises StartupError where the libraries for PostgreSQL are not installed."""
    missing = [each for each in ("psycopg", "psycopg_pool") if find_spec(each) is None]
    if missing:
        raise StartupError(f"PostgreSQL needs {' and '.join(missing)}; run: pip install 'jobctl[postgres]'")


def options(settings: Settings) -> "PostgresOptions":
    """``[postgres]`` as the store takes it."""
    from jobctl.store.postgres_settings import PostgresOptions

    said = settings.postgres
    return PostgresOptions(
        pool_size=said.pool_size,
        statement_timeout=said.statement_timeout,
        lock_timeout=said.lock_timeout,
        connect_timeout=said.connect_timeout,
        notify=said.notify == "on",
        transaction_pooling=said.transaction_pooling,
        lease=said.lease,
    )


def look_at(settings: Settings) -> None:
    """See whether a PostgreSQL database is there and can be used; it stays as it is. Blocks; raises StartupError."""
    assert isinstance(settings.db, DatabaseUrl)  # noqa: S101 - the caller has looked
    require_postgres()
    from jobctl.store.postgres_link import connect
    from jobctl.store.postgres_migrate import check

    if settings.durability != "full":
        raise ConfigError('durability = "normal" is for SQLite; with PostgreSQL every commit is synced')
    try:
        link = connect(settings.db.secret, options(settings), "check")
    except StoreUnavailable as error:
        raise StartupError(str(error)) from None
    try:
        check(link)
    finally:
        link.close()


def migrate(settings: Settings) -> "Migrated":
    """Bring the schema of a PostgreSQL database to this version; blocks.

    Raises:
        ConfigError: ``db`` is a file.
        StartupError: it cannot be done.
        StoreUnavailable: it is not there.
    """
    if not isinstance(settings.db, DatabaseUrl):
        raise ConfigError(f"db: {settings.db} is a file; `jobctl serve` brings it to its version when it starts")
    require_postgres()
    from jobctl.store.postgres_migrate import migrate as migrated

    return migrated(settings.db.secret, options(settings))


def begin_epoch(settings: Settings) -> str:
    """Have clients fetch again: the files under a PostgreSQL database were replaced by an earlier copy; blocks.

    Returns:
        The new epoch. Servers that run go on with the one before until they are started again.

    Raises:
        StartupError: the database cannot be used.
        StoreUnavailable: it is not there.
    """
    assert isinstance(settings.db, DatabaseUrl)  # noqa: S101 - it was migrated before
    from jobctl.store.postgres_epoch import new_epoch
    from jobctl.store.postgres_link import connect

    link = connect(settings.db.secret, options(settings), "epoch")
    try:
        return new_epoch(link)
    finally:
        link.close()


def shortage(settings: Settings) -> str | None:
    """Why the database may soon have no room; None where it has, or where another machine's disk is not ours to see."""
    if isinstance(settings.db, DatabaseUrl):
        return None
    free = free_bytes(settings.db)
    if free >= settings.health.min_free_bytes:
        return None
    return f"the disk is nearly full ({free // 2**20} MiB left for {settings.db})"


def free_bytes(database: Path) -> int:
    """Free space where it is."""
    try:
        return shutil.disk_usage(database.resolve().parent).free
    except OSError:
        return 0


async def copy(settings: Settings, path: Path) -> Backup:
    """Write a copy of it to ``path``, a new file.

    Raises:
        Conflict: PostgreSQL has its own ways.
    """
    if isinstance(settings.db, DatabaseUrl):
        raise Conflict(
            "the database is one of PostgreSQL, which has its own backups: pg_dump --format=custom, or pg_basebackup "
            "with WAL archiving"
        )
    work = partial(back_up, settings.db.resolve(), path, between=trio.from_thread.check_cancelled)
    done = await trio.to_thread.run_sync(work)
    log.info("wrote a backup to %s (%d bytes, up to %s:%d)", done.path, done.size, done.epoch, done.seq)
    return done
