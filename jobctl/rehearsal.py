"""Would the server start with these settings? Everything is looked at that can be without starting.

Nothing is left behind: no folder, no database, no secret. Two things are left out, for a server that runs now may be
the reason, and the one to come may take its place: who owns the database, and who has the port.
"""

import os
import tempfile
from pathlib import Path
from typing import Final

from jobctl import auth, database, tls
from jobctl.access.keys import KeySet
from jobctl.database_url import DatabaseUrl
from jobctl.door import check_hypercorn, listen
from jobctl.engine import registry as handlers
from jobctl.engine import schedules
from jobctl.errors import ConfigError, NotADatabase, StartupError
from jobctl.model import MAX_QUEUES
from jobctl.settings import Settings
from jobctl.store.sqlite import APPLICATION_ID
from jobctl.web.ratelimit import parse_proxies

_MAGIC: Final = b"SQLite format 3\0"
_HEADER: Final = 100
"""Bytes at the start of every SQLite file; the application's id is at 68 (sqlite.org/fileformat.html, 1.3)."""


def rehearse(settings: Settings) -> None:
    """See whether a start would take ``settings``, beyond their values.

    Raises:
        StartupError: it would not; or it would, and what was asked for could not work.
    """
    check_hypercorn()
    parse_proxies(settings.trusted_proxies)
    tls.context(settings)
    for each in listen(settings.host, 0):
        each.close()
    if len(settings.queues) > MAX_QUEUES:
        raise ConfigError(f"queues: a server has at most {MAX_QUEUES}")
    _secret(settings)
    if isinstance(settings.db, DatabaseUrl):
        database.look_at(settings)
    else:
        _database(settings.db)
    if settings.backup_dir is not None:
        _folder(settings.backup_dir, "backup_dir", must_exist=True)
    if settings.auth.jwks_url is not None:
        KeySet(settings.auth.jwks_url)
    schedules.configured(settings.schedules, handlers.load(settings))


def _secret(settings: Settings) -> None:
    """The state folder, where the high-water marks go too, and the secret that may be in it."""
    _folder(settings.state_dir, "state_dir", must_exist=False)
    if settings.auth.secret is None and auth.read_secret(settings.state_dir) is not None:
        auth.ensure_secret(settings.state_dir)


def _database(path: Path) -> None:
    path = path.resolve()
    _folder(path.parent, "db", must_exist=True)
    try:
        if not path.exists():
            return
        if not path.is_file():
            raise NotADatabase(f"db: {path} is no file")
        if not os.access(path, os.R_OK | os.W_OK):
            raise StartupError(f"db: {path} cannot be read and written by this user")
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except OSError as error:
        raise StartupError(f"db: cannot read {path}: {error.strerror}") from None
    # With a log beside it, the first page may be in there.
    ours = path.with_name(path.name + "-wal").exists() or header[68:72] == APPLICATION_ID.to_bytes(4, "big")
    if header and not (header.startswith(_MAGIC) and ours):
        raise NotADatabase(f"db: {path} is something else than a database of jobctl")


def _folder(path: Path, setting: str, *, must_exist: bool) -> None:
    """Whether files can be made in ``path``, or, where the server would make it, in the nearest folder above.

    That is tried: what permissions say is not all (a read-only disk, a quota).
    """
    path = path.absolute()
    found = path
    while not must_exist and not os.path.lexists(found):
        found = found.parent
    try:
        with tempfile.TemporaryFile(dir=found, prefix=".jobctl-"):
            pass
    except OSError as error:
        raise ConfigError(f"{setting}: files cannot be made in {path}: {error.strerror}") from None
