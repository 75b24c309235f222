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
    json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> int:
    """Bring a PostgreSQL database to this version's schema; servers of the version before go on meanwhile."""
    from jobctl import database, settings

    if config is None and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
    tell_of_password(db)
    chosen = settings.load(config, db=db)
    done = database.migrate(chosen)
    if json:
        import msgspec

        print_json(msgspec.json.encode({"before": done.before, "now": done.now}))
        return 0
    if done.before == done.now:
        sys.stdout.write(f"{chosen.db} has the schema {done.now}, there is nothing to do\n")
    else:
        was = f"from schema {done.before}" if done.before else "a new one"
        sys.stdout.write(f"{chosen.db} has the schema {done.now} now ({was})\n")
    return 0
