"""One process owns a database file: an OS lock on a file beside it, which ends with the process however that ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from jobctl.errors import DatabaseInUse, StartupError

_held: Final[set[int]] = set()


@contextlib.contextmanager
def own(path: Path) -> Iterator[None]:
    """Hold the lock of the database ``path``: one process at a time. Raises ``DatabaseInUse``, ``StartupError``."""
    if path.is_dir():
        raise StartupError(f"{path} is a folder; choose a file with --db")
    with contextlib.suppress(OSError):
        if path.stat().st_nlink > 1:  # under its other name it would have another lock, and another WAL
            raise StartupError(f"{path} has a second name (a hard link); remove one, or choose another file with --db")
    lock = path.with_name(path.name + ".lock")
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartupError(f"cannot write beside the database {path}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode("ascii", "replace").strip()
            who = f" (process {holder})" if holder.isdecimal() else ""
            raise DatabaseInUse(f"another server{who} owns {path}; stop it, or choose another file with --db") from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        _held.add(fd)
        yield
    finally:
        _held.discard(fd)
        os.close(fd)


def _let_go() -> None:
    """A child that a handler has forked may live on when we are gone; the lock must not."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)
