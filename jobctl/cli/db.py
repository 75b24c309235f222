"""``jobctl db``: backups through the running server; checks, restores and copies without one."""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from jobctl.cli.connect import Json, Target, TokenFile, Url, WaitServer
from jobctl.cli.output import ExitCode, emit, print_json, safe, say
from jobctl.cli.quick import QuickCommand, QuickGroup

BACKUP_S: Final = 6 * 3600.0
"""That a backup may take: hundreds of GB on a slow disk."""

app: Final = typer.Typer(
    cls=QuickGroup, help="Back up, check, restore and move the database.", no_args_is_help=True, rich_markup_mode=None
)


@app.command(cls=QuickCommand)
def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.db", help="A new file on the server's machine; relative to here.")
    ],
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
    json: Json = False,
) -> int:
    """Let the running server write a consistent copy of its database, while it goes on working."""
    from jobctl.client import api

    call = api.backup(str(file.absolute()))
    with Target(url, token_file, wait_server).session(timeout=BACKUP_S) as session:
        answer = session.send(call)
    done = api.decode(call, answer)
    told = f"the backup is written: {done['path']}"
    if json:
        print_json(answer.data, done=told)
        return 0
    emit(f"{safe(done['path'])}\n", done=told)
    say(f"{done['size']:,} bytes, up to {done['epoch']}:{done['seq']}")
    return 0


@app.command(cls=QuickCommand)
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A database or a backup; a server may be using it.")],
    json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> int:
    """See whether a database is sound: pages, counters, event log, epoch. Exit code 0, or 1 with what is wrong."""
    from jobctl.store import check as checking

    _must_be_a_file(file)
    report = checking.check(file)
    if json:
        import msgspec

        print_json(msgspec.json.encode(report))
        return ExitCode.DONE if report.ok else ExitCode.FAILED
    for problem in report.problems:
        sys.stdout.write(f"{safe(problem)}\n")
    if not report.ok:
        say(f"{file} is damaged; a backup can be put in its place with `jobctl db restore`")
        return ExitCode.FAILED
    origin = f", copied from {report.copied_from}" if report.copied_from else ""
    sys.stdout.write(
        f"ok: {report.jobs:,} jobs, {report.events:,} events up to {report.epoch}:{report.seq} "
        f"(schema {report.schema}{origin})\n"
    )
    return ExitCode.DONE


@app.command(cls=QuickCommand)
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup, or any sound copy.")],
    db: Annotated[Path, typer.Option("--db", metavar="PATH", help="Where the server will look for its database.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Move a database that is there out of the way.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> int:
    """Put a backup in place, while no server runs on it. The next start begins a new epoch: clients fetch again."""
    from jobctl.store import backup as backups

    _must_be_a_file(file)
    _must_be_a_file(db)
    done = backups.restore(file, db, replace=replace)
    told = f"the backup is in place: {done.path}"
    if json:
        import msgspec

        print_json(msgspec.json.encode(done), done=told)
        return 0
    emit(f"{safe(done.path)}\n", done=told)
    if done.replaced is not None:
        say(f"what was there is now {done.replaced}")
    return 0


@app.command(cls=QuickCommand)
def copy(
    file: Annotated[Path, typer.Argument(metavar="FROM", help="The file of a server that has stopped, or a backup.")],
    url: Annotated[str, typer.Argument(metavar="TO", help="An empty database: postgresql://USER@HOST/NAME.")],
    config: Annotated[
        Path | None, typer.Option("--config", metavar="F", help="TOML settings, for [postgres]; else ./jobctl.toml.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> int:
    """Move everything from a SQLite file into PostgreSQL, compared row by row. The file stays as it is."""
    from jobctl.cli import db_copy

    return db_copy.copy(file, url, config, json=json)


def _must_be_a_file(path: Path) -> None:
    """A path that began as an address has lost a slash."""
    from jobctl.database_url import SCHEMES

    if str(path).startswith(tuple(scheme.replace("//", "/") for scheme in SCHEMES)):
        from jobctl.errors import ConfigError

        raise ConfigError("this is for database files; PostgreSQL has pg_dump, pg_restore and amcheck for the same")
