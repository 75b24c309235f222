"""What ``jobctl db copy`` does: move a queue from a SQLite file into PostgreSQL, and tell how it goes."""

import sys
import time
from pathlib import Path
from typing import Final

from jobctl import database, settings
from jobctl.cli.output import drawable, emit, print_json, safe, say
from jobctl.cli.serve import DEFAULT_CONFIG, tell_of_password
from jobctl.database_url import DatabaseUrl, is_url
from jobctl.errors import ConfigError

EVERY_S: Final = 0.2
"""Between two looks at the progress."""
SHOWN: Final = 16
"""Digits of a checksum that a person compares; ``--json`` has all."""


class _Progress:
    """One line on a terminal, and none elsewhere."""

    def __init__(self) -> None:
        self._shown = drawable(sys.stderr)
        self._next = 0.0

    def __call__(self, table: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self._shown and (now >= self._next or done == total):
            self._next = now + EVERY_S
            rest = f" {done:,} of {total:,}" if total else ""
            sys.stderr.write(f"\r\x1b[K{table}{rest}")
            sys.stderr.flush()

    def end(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def copy(file: Path, url: str, config: Path | None, *, json: bool) -> int:
    """Copy, and print what was copied."""
    if not is_url(url):
        raise ConfigError(f"TO: {url} is no address of a database; it begins with postgresql://")
    if config is None and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
    tell_of_password(url)
    chosen = settings.load(config, db=url)
    database.require_postgres()
    from jobctl.store import postgres_copy

    assert isinstance(chosen.db, DatabaseUrl)  # noqa: S101 - looked at above
    progress = _Progress()
    try:
        done = postgres_copy.copy(file, chosen.db.secret, database.options(chosen), told=progress)
    except KeyboardInterrupt:
        progress.end()
        say(f"interrupted: {postgres_copy.begin_again(chosen.db.secret)}")
        raise
    finally:
        progress.end()
    told = f"everything is copied: {done.target}"
    if json:
        import msgspec

        print_json(msgspec.json.encode(done), done=told)
        return 0
    width = max(len(each.name) for each in done.tables)
    lines = [f"{each.name:<{width}}  {each.rows:>12,}  sha256 {each.sha256[:SHOWN]}  same" for each in done.tables]
    emit("".join(f"{safe(each)}\n" for each in lines), done=told)
    say(f"{done.target} has it all, up to {done.seq} of a new epoch, {done.epoch} ({done.seconds} s)")
    if done.replaced:
        say(f"{done.replaced:,} rows had a NUL in a text, which PostgreSQL does not take; it is \u2400 there")
    return 0
