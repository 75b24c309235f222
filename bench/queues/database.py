"""The PostgreSQL that all contestants of a run share: one server with its defaults, an empty database for each turn.

Its defaults: every commit is synced before it is answered, for all alike.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from bench.queues import services
from bench.queues.peer import database_cpu_s

NAME: Final = "turn"


class Postgres(NamedTuple):
    """One that runs. ``url``: of a database in which nothing is done."""

    url: str
    pid: int
    """Of its first process, whose children are all others."""

    def cpu_s(self) -> float:
        """Seconds of CPU that it has taken so far."""
        return database_cpu_s(self.pid)

    @contextmanager
    def empty(self, name: str = NAME, *, template: str = "template1") -> Iterator[str]:
        """An empty database, or a copy of ``template``, gone at the end; its URL.

        What the turn before has left to be written is written first.
        """
        self._execute("CHECKPOINT")
        try:
            yield self.create(name, template)
        finally:
            self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def create(self, name: str, template: str = "template1") -> str:
        """A database that stays; its URL."""
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url_of(name)

    def url_of(self, name: str) -> str:
        """Of one of its databases."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def size(self, name: str) -> int:
        """Bytes."""
        ((size,),) = self._execute(f"SELECT pg_database_size('{name}')")
        return int(size)

    def _execute(self, sql: str) -> list[tuple[Any, ...]]:
        """A statement; the names in it are ours."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start one in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="jobctl-postgres-") as place:
        folder = Path(place)
        folder.chmod(0o711)  # its user has to come through
        (own := folder / services.POSTGRES).mkdir()
        with services.postgres_process(own) as (url, pid):
            yield Postgres(url, pid)
