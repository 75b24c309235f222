"""Moving out of the way what SQLite would mix into a database that it does not belong to.

SQLite applies ``X-wal`` to whatever file is called ``X``. Where a backup was copied over the database of a server that
was killed, that makes a database of two halves, or undoes the copy in silence. So a server leaves its file in
rollback mode (the header says so) when it stops, as ``db backup`` does with a copy; and as SQLite deletes the log
before it writes that header, such a file has no log of its own.
"""

import contextlib
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

WAL: Final = "-wal"
SHARED_MEMORY: Final = "-shm"
_MAGIC: Final = b"SQLite format 3\0"
_READ_VERSION: Final = 19
"""Where the header has 2 for WAL and 1 for a rollback journal (sqlite.org/fileformat2.html, 1.3.3)."""


def has_foreign_log(path: Path) -> bool:
    """Whether a write-ahead log stands beside the database ``path``, or where it would be, that is not its own.

    Call it only where no server has the database open. Raises ``OSError`` where it cannot be read.
    """
    try:
        if not path.with_name(path.name + WAL).stat().st_size:
            return False
    except FileNotFoundError:
        return False
    try:
        with path.open("rb") as file:
            header = file.read(_READ_VERSION + 1)
    except FileNotFoundError:
        return True
    return not header or (header.startswith(_MAGIC) and header[_READ_VERSION:] == b"\1")


def move_away(path: Path, *suffixes: str) -> Path | None:
    """Rename the files ``path`` + suffix, those that there are; their new name without the suffix, None for none."""
    away = path.with_name(f"{path.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}")
    moved = False
    for suffix in suffixes:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(away.with_name(away.name + suffix))
            moved = True
    return away if moved else None
