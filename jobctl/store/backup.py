"""A consistent copy of a database that is in use, and putting one back.

The copy is made with SQLite's online backup, page by page, from one read transaction on a connection of its own: the
writer is not held up for a moment, and what is committed meanwhile is not in it. A copy never continues the log that
clients have seen, so it is stamped with a start ("boot") that no high-water mark knows: a server that opens it begins
a new epoch, wherever it stands.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import apsw

from jobctl.errors import Conflict, DatabaseDamaged, InvalidInput, NotADatabase, StartupError
from jobctl.model import Wire, wire_time
from jobctl.store import epoch as epochs
from jobctl.store.aside import SHARED_MEMORY, WAL, move_away
from jobctl.store.check import check, opened
from jobctl.store.committer import now_ms
from jobctl.store.lock import own
from jobctl.store.rows import SQL, fetch, scalar

SUFFIX: Final = ".db"
"""What a backup's name ends in. A server may run with more rights than the admin who asks it to write a file; so
named, it is none that another program reads by its being there (``cron.d``, ``authorized_keys``, ``*.service``)."""
PAGES: Final = 2048
"""Copied at once, 8 MB: between two such pieces a backup can be cancelled."""


class Backup(Wire, frozen=True):
    """A finished backup: where it is, its size, and the place in the log up to which it reaches."""

    path: str
    size: int
    epoch: str
    seq: int
    created_at: str


class Restored(Wire, frozen=True):
    """A database that was put back; ``replaced`` is where the one before it is now."""

    path: str
    seq: int
    replaced: str | None = None


def target(text: str, folder: Path | None) -> Path:
    """Where a backup goes, if it may go there.

    Args:
        text: A path on the server's machine.
        folder: Backups go below it only.

    Raises:
        InvalidInput: it may not, or cannot; the field is ``path``.
    """
    if "\0" in text:
        raise InvalidInput("the path has a NUL character in it, which no file's name has", field="path")
    path = Path(text)
    if not path.is_absolute():
        raise InvalidInput("the path must be absolute: it is one on the server's machine", field="path")
    if path.suffix != SUFFIX:
        raise InvalidInput(f"the name of a backup ends in {SUFFIX}", field="path")
    try:
        path = path.parent.resolve(strict=True) / path.name  # links among the folders are followed before the check
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "a loop of links"
        raise InvalidInput(f"cannot write to {path.parent}: {why}", field="path") from None
    if folder is not None and not path.is_relative_to(folder.resolve()):
        raise InvalidInput(f"backups go below {folder} (the setting backup_dir)", field="path")
    if os.path.lexists(path):
        raise InvalidInput(f"{path} exists already; a backup replaces nothing", field="path")
    return path


def back_up(source: Path, path: Path, *, between: Callable[[], None] = lambda: None) -> Backup:
    """Copy the database ``source``, which may be in use, to ``path``, a new file that only its owner may read.

    Args:
        source: The database.
        path: From ``target``.
        between: Called now and then; what it raises ends the backup, and nothing is left of it.

    Raises:
        InvalidInput: the file cannot be written.
        DatabaseDamaged: the copy's pages are broken, as are the database's.
    """
    try:
        with _reserved(path) as partial:
            epoch, seq = _copy(source, partial, between)
            partial.replace(path)
            _sync_folder(path.parent)
            return Backup(
                path=str(path), size=path.stat().st_size, epoch=epoch, seq=seq, created_at=wire_time(now_ms())
            )
    except FileExistsError:
        raise InvalidInput(f"{path} exists already; a backup replaces nothing", field="path") from None
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}", field="path") from None
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise DatabaseDamaged(f"{source} is damaged ({error}): no backup was written") from None
    except apsw.Error as error:
        raise InvalidInput(f"cannot write {path}: {error}", field="path") from None


def restore(source: Path, path: Path, *, replace: bool = False) -> Restored:
    """Put the backup ``source`` (or any sound copy) at ``path``; the next start there begins a new epoch.

    Args:
        source: What ``db backup`` wrote, or files copied by hand.
        path: Where a server will look for it.
        replace: Move a database that is there out of the way; nothing is ever deleted.

    Raises:
        NotADatabase: ``source`` is none of jobctl, or damaged.
        DatabaseInUse: a server owns ``path``.
        Conflict: there is a database at ``path``.
        StartupError: the files cannot be read or written.
    """
    report = check(source)
    if report.problems:
        raise NotADatabase(f"{source} is damaged ({report.problems[0]}); see `jobctl db check {source}`")
    path = path.resolve()
    if path == source.resolve():
        raise Conflict(f"{source} cannot be restored onto itself")
    with own(path):
        if path.exists() and not replace:
            raise Conflict(f"{path} exists; --replace moves it out of the way")
        partial = _beside(path)
        try:
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            _, seq = _copy(source, partial, lambda: None)
            # A log that its database has left behind as well: SQLite would take it for that of the file to come.
            moved = move_away(path, WAL, SHARED_MEMORY, "")
            partial.replace(path)
            _sync_folder(path.parent)
        except (OSError, apsw.Error) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise StartupError(f"cannot write {path}: {why}") from None
        finally:
            partial.unlink(missing_ok=True)
    return Restored(path=str(path), seq=seq, replaced=None if moved is None else str(moved))


@contextlib.contextmanager
def _reserved(path: Path) -> Iterator[Path]:
    """Hold the name ``path`` with an empty file, and give the name of one beside it to write to."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    os.close(os.open(path, flags, 0o600))
    partial = _beside(path)
    try:
        os.close(os.open(partial, flags, 0o600))
        yield partial
    except BaseException:
        partial.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise


def _copy(source: Path, path: Path, between: Callable[[], None]) -> tuple[str, int]:
    with contextlib.closing(apsw.Connection(str(path))) as copy, opened(source) as original:
        original.execute("BEGIN")  # a snapshot: else each commit of the server would begin the backup anew
        epoch = dict(fetch(original, SQL["meta"])).get("epoch", "")
        seq = scalar(original, SQL["head"])
        copy.pragma("synchronous", 0)  # once at the end is enough
        with copy.backup("main", original, "main") as steps:
            while not steps.done:
                steps.step(PAGES)
                between()
        original.execute("ROLLBACK")
        _look_over(copy, source, between)
        copy.pragma("journal_mode", "delete")  # one file, without a log beside it
        for item in (("boot", epochs.fresh()), ("clean", "1"), ("copied_from", f"{epoch}:{seq}")):
            copy.execute(SQL["set_meta"], item)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return epoch, seq


def _look_over(copy: apsw.Connection, source: Path, between: Callable[[], None]) -> None:
    """Let SQLite look at each page of the copy: a third of a second for 100 MB.

    Raises:
        DatabaseDamaged: a page is broken, in ``source`` therefore too.
    """

    def turn() -> bool:
        between()
        return False

    copy.set_progress_handler(turn, PAGES)
    try:
        found = [row[0] for row in fetch(copy, "PRAGMA quick_check(1)")]
    except (apsw.CorruptError, apsw.NotADBError) as error:
        found = [str(error)]
    finally:
        copy.set_progress_handler(None)
    if found != ["ok"]:
        why = found[0].splitlines()[-1]
        raise DatabaseDamaged(
            f"{source} is damaged ({why}): no backup was written; see `jobctl db check`, and keep older backups"
        )


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
