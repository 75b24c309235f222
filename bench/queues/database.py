"""The PostgreSQL that all contestants of a run share: one server with its defaults, an empty database for each turn.

Its defaults: every commit is synced before it is answered, for all alike.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
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
    def empty(self, name: str = NAME) -> Iterator[str]:
        """An empty database, gone at the end; its URL. What the one before has left to be written is written first."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            connection.execute(f"CREATE DATABASE {name}")  # a name of ours
            try:
                yield urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))
            finally:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Start one in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="jobctl-postgres-") as place:
        folder = Path(place)
        folder.chmod(0o711)  # its user has to come through
        (own := folder / services.POSTGRES).mkdir()
        with services.postgres_process(own) as (url, pid):
            yield Postgres(url, pid)
