"""``jobctl migrate``: bring a PostgreSQL database to this version, before servers are updated."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from jobctl.cli.output import print_json
from jobctl.cli.serve import DEFAULT_CONFIG, tell_of_password


def migrate(
    config: Annotated[
        Path | None, typer.Option("--config", metavar="F", help="TOML settings; else ./jobctl.toml where it exists.")
    ] = None,
    db: Annotated[str | None, typer.Option("--db", metavar="URL", help="postgresql://USER@HOST/NAME.")] = None,
    new_epoch: Annotated[
        bool,
        typer.Option("--new-epoch", help="Have clients fetch again: an older copy of the disk was put back."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> int:
    """Bring a PostgreSQL database to this version's schema; servers of the version before go on meanwhile."""
    from jobctl import database, settings

    if config is None and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
    tell_of_password(db)
    chosen = settings.load(config, db=db)
    done = database.migrate(chosen)
    epoch = database.begin_epoch(chosen) if new_epoch else None
    if json:
        import msgspec

        told = {"before": done.before, "now": done.now} | ({} if epoch is None else {"epoch": epoch})
        print_json(msgspec.json.encode(told))
        return 0
    if done.before == done.now:
        sys.stdout.write(f"{chosen.db} has the schema {done.now}, there is nothing to do\n")
    else:
        was = f"from schema {done.before}" if done.before else "a new one"
        sys.stdout.write(f"{chosen.db} has the schema {done.now} now ({was})\n")
    if epoch is not None:
        sys.stdout.write(f"its epoch is {epoch} now; start the servers again\n")
    return 0
