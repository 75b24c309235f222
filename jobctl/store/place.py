"""Whether a database's files are still where they were opened.

On POSIX a file that was moved, deleted or replaced can be written on through a descriptor, and SQLite does: every
commit would succeed, and the next start would find none of them. So the writer looks before each commit.
"""

import os
from pathlib import Path

import apsw

from jobctl.store.aside import WAL


class Place:
    """The database ``path`` and its log as they are now, while they are open."""

    def __init__(self, path: Path) -> None:
        self._files = {name: _identity(name) for name in (str(path), f"{path}{WAL}")}

    def check(self) -> None:
        """Raise ``apsw.CantOpenError`` unless both names lead to the same files as ever. Takes two microseconds."""
        for name, opened in self._files.items():
            try:
                found = _identity(name)
            except OSError:
                found = None
            if found != opened:
                raise apsw.CantOpenError(
                    f"{name} was moved or deleted while the server had it open; put the same file back, or stop the "
                    "server and restore a backup"
                )


def _identity(name: str) -> tuple[int, int]:
    found = os.stat(name)  # noqa: PTH116 - a Path would take as long as the rest of it
    return found.st_dev, found.st_ino
