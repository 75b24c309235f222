"""A database into which a queue is being copied, or was until something came between: no server starts on it."""

from typing import Final

from jobctl.errors import StartupError
from jobctl.store.postgres_link import SQL, Link

UNFINISHED: Final = "unfinished_copy"
"""In ``meta`` from the first transaction of a copy to its last."""


def refuse_unfinished(link: Link) -> None:
    """Raises StartupError where a copy has begun and has not ended."""
    if UNFINISHED in dict(link.execute(SQL["meta"])[0]):
        raise StartupError(
            "the database is an unfinished copy; give `jobctl db copy` again, which begins anew, or use another"
        )
