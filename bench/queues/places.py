"""Where jobctl keeps its jobs in a turn of the queue benchmark: a file, or a database of the PostgreSQL of the run."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Protocol

from bench.queues import contestants, growth
from bench.queues.contestants import PEERS
from bench.queues.database import Postgres, postgres
from bench.queues.peer import Measured

SQLITE: Final = "sqlite"
POSTGRES: Final = "postgres"
ON_POSTGRES: Final = ("pgqueuer", "procrastinate")
"""The peers of the same kind."""
PROMISE: Final = {
    SQLITE: "SQLite, each commit synced: a crash loses nothing; a job that was running is tried again",
    POSTGRES: "PostgreSQL, each commit synced: a crash loses nothing; a job whose process dies is tried again",
}
SMALL_COPY: Final = 100 * 2**20
"""Bytes up to which a grown database is copied for each turn; in a larger one a turn's jobs do not count."""
Statements = tuple[float, float, float]
"""Median microseconds: to claim a job, for a page of 50, for the counts."""


class Place(Protocol):
    """Databases for our turns, each as ``Order.db`` has it."""

    unit: str
    """Of statements."""

    def fresh(self) -> AbstractContextManager[str]:
        """An empty one, gone at the end."""

    def build(self, name: str, *, finished: int = 0, delayed: int = 0, paused: int = 0) -> None:
        """One with so many jobs of each kind in it, kept until the run ends."""

    def statements(self, name: str) -> Statements:
        """What the store's own statements take in one that was built."""

    def grown(self, name: str) -> AbstractContextManager[str]:
        """One that was built, for a turn."""

    def peer(self, name: str) -> Measured:
        """A peer's turn."""


class Files:
    """SQLite, below ``folder``. Statements are measured as CPU of the thread: nothing else is at work for them."""

    unit = "us of CPU"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The server makes one in its own folder."""
        yield ""

    def build(self, name: str, *, finished: int = 0, delayed: int = 0, paused: int = 0) -> None:
        """Each in a folder of its own."""
        db = self._db(name)
        growth.build(db, db.parent / "state", finished=finished, delayed=delayed, paused=paused)

    def statements(self, name: str) -> Statements:
        """In this process."""
        db = self._db(name)
        grown = growth.Grown(db, db.parent / "state")
        try:
            return grown.claim(), grown.page(), grown.stats()
        finally:
            grown.close()

    @contextmanager
    def grown(self, name: str) -> Iterator[str]:
        """A copy, where that is cheap."""
        db = self._db(name)
        if db.stat().st_size <= SMALL_COPY:
            db = shutil.copyfile(db, db.with_name("copy.db"))
        yield str(db)

    def peer(self, name: str) -> Measured:
        """With a service of its own."""
        return contestants.measure(PEERS[name])

    def _db(self, name: str) -> Path:
        return self._folder / name / "jobs.db"


class Databases:
    """PostgreSQL, one for all. Statements are measured on the wall, with the way there and back."""

    unit = "us on the wall"

    def __init__(self, database: Postgres) -> None:
        self._database = database

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """A database of a turn."""
        with self._database.empty() as url:
            yield url

    def build(self, name: str, *, finished: int = 0, delayed: int = 0, paused: int = 0) -> None:
        """By statements of PostgreSQL's own."""
        from bench.queues import grown_postgres

        url = self._database.create(name)
        grown_postgres.build(url, finished=finished, delayed=delayed, paused=paused)

    def statements(self, name: str) -> Statements:
        """By the store, in this process."""
        from bench.queues import grown_postgres

        return grown_postgres.statements(self._database.url_of(name))

    @contextmanager
    def grown(self, name: str) -> Iterator[str]:
        """A copy, where that is cheap."""
        if self._database.size(name) > SMALL_COPY:
            yield self._database.url_of(name)
            return
        with self._database.empty(template=name) as url:
            yield url

    def peer(self, name: str) -> Measured:
        """In an empty database of the same PostgreSQL."""
        return contestants.measure_on(PEERS[name], self._database, jobs=PEERS[name].jobs)


@contextmanager
def place(store: str) -> Iterator[Place]:
    """``sqlite`` or ``postgres``; everything is gone at the end."""
    if store == POSTGRES:
        with postgres() as database:
            yield Databases(database)
        return
    with tempfile.TemporaryDirectory(prefix="jobctl-queue-") as folder:
        yield Files(Path(folder))
