"""``jobctl serve``: run the server."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobctl.cli.output import emit, say

if TYPE_CHECKING:
    from jobctl.service import Service

DEFAULT_CONFIG = Path("jobctl.toml")


def serve(
    config: Annotated[
        Path | None, typer.Option("--config", metavar="F", help="TOML settings; else ./jobctl.toml where it exists.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", metavar="HOST", help="Listen here [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="PORT", help="Listen on this port [8000].")] = None,
    db: Annotated[
        str | None, typer.Option("--db", metavar="DB", help="A file, or postgresql://USER@HOST/NAME [jobctl.db].")
    ] = None,
    app: Annotated[
        str | None, typer.Option("--app", metavar="MODULE", help="Module with @job handlers; several by commas.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", metavar="N", help="Jobs that run at the same time [10].")
    ] = None,
    certfile: Annotated[Path | None, typer.Option("--certfile", metavar="F", help="TLS certificate (PEM).")] = None,
    keyfile: Annotated[Path | None, typer.Option("--keyfile", metavar="F", help="TLS key (PEM).")] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start again when a .py here or the configuration changes (development).")
    ] = False,
) -> int:
    """Run the server: queue, stream, API and runner in one process."""
    if reload:
        from jobctl.cli import reload as reloading

        arguments = [each for each in sys.argv[1:] if each != "--reload"]
        return reloading.supervise(arguments, config, DEFAULT_CONFIG)
    from functools import partial

    from jobctl import service, settings

    if config is None and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
    tell_of_password(db)
    read = partial(
        settings.load,
        config, host=host, port=port, db=db, app=app, concurrency=concurrency, certfile=certfile, keyfile=keyfile,
    )  # fmt: skip
    return service.main(read(), read, when_ready=_show_link)


def tell_of_password(db: str | None) -> None:
    """A password on the command line is in the list of processes, for everybody on the machine to read."""
    from jobctl.database_url import DatabaseUrl, is_url

    if db is not None and is_url(db):
        from contextlib import suppress

        with suppress(ValueError):  # told with the settings
            if DatabaseUrl(db).passwords:
                say("others on this machine can read the password in --db; JOBCTL_DB, jobctl.toml or ~/.pgpass hide it")


def _show_link(service: "Service") -> None:
    """On a terminal: how to come in. Not a line of the log, which others may read."""
    if sys.stdout.isatty():
        from contextlib import suppress

        from jobctl.cli.credentials import user_name
        from jobctl.cli.stdio import OutputFailed

        with suppress(OutputFailed):  # a terminal that is gone ends no server
            emit(f"\n  {service.link(user_name())}\n  (signs you in, once, within 5 minutes)\n\n")
