"""Where the queue of a history lives: how a server opens it, and what is left of it when that server is killed."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Protocol

import psycopg
import trio

from jobctl.store.postgres import open_postgres
from jobctl.store.postgres_settings import PostgresOptions
from jobctl.store.sqlite import open_store
from tests.postgres_kit import empty


class Database(Protocol):
    """One of them, of one life of the server."""

    @property
    def durability(self) -> str:
        """With ``normal`` a killed server's epoch is over."""

    def open(self) -> AbstractAsyncContextManager[Any]:
        """The store, until the block ends."""

    async def crash(self, stop: Callable[[], Awaitable[None]]) -> None:
        """The process is gone in this very moment. ``stop`` takes down what is left of it here, in good order."""


class SqliteFile:
    """A file in ``place``, with its state folder beside it."""

    def __init__(self, place: Path, durability: str) -> None:
        self.place, self.durability = place, durability

    def open(self) -> AbstractAsyncContextManager[Any]:
        return open_store(self.place / "jobs.db", state_dir=self.place / "state", durability=self.durability)

    async def crash(self, stop: Callable[[], Awaitable[None]]) -> None:
        """The files stay as they are now."""
        aside = self.place / "aside"
        aside.mkdir()
        for name in ("jobs.db", "jobs.db-wal"):
            shutil.copy(self.place / name, aside / name)
        shutil.copytree(self.place / "state", aside / "state")
        await stop()
        for each in self.place.iterdir():
            if each != aside:
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        for each in aside.iterdir():
            each.rename(self.place / each.name)
        aside.rmdir()


_END_OTHERS: Final = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class PostgresDatabase:
    """A database of a PostgreSQL server; ``url`` says which."""

    durability: Final = "full"

    def __init__(self, url: str) -> None:
        self.url = url

    def clear(self) -> None:
        """Make it as new."""
        empty(self.url)

    def open(self) -> AbstractAsyncContextManager[Any]:
        # Nobody else writes to it, and nobody has to be woken.
        return open_postgres(self.url, options=PostgresOptions(notify=False))

    async def crash(self, stop: Callable[[], Awaitable[None]]) -> None:
        """The database hears no more of it: its connections end in the middle of whatever they are at."""
        await trio.to_thread.run_sync(self._cut_off)
        await stop()

    def _cut_off(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(_END_OTHERS)
