"""``jobctl serve``: run the server."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_CONFIG = Path("jobctl.toml")


def serve(
    config: Annotated[
        Path | None, typer.Option("--config", metavar="F", help="TOML settings; else ./jobctl.toml where it exists.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", metavar="HOST", help="Listen here [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="PORT", help="Listen on this port [8000].")] = None,
    db: Annotated[Path | None, typer.Option("--db", metavar="PATH", help="The database file [jobctl.db].")] = None,
    app: Annotated[
        str | None, typer.Option("--app", metavar="MODULE", help="Module with @job handlers; several by commas.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", metavar="N", help="Jobs that run at the same time [10].")
    ] = None,
    certfile: Annotated[Path | None, typer.Option("--certfile", metavar="F", help="TLS certificate (PEM).")] = None,
    keyfile: Annotated[Path | None, typer.Option("--keyfile", metavar="F", help="TLS key (PEM).")] = None,
) -> int:
    """Run the server: queue, stream, API and runner in one process, on one file."""
    from jobctl import service, settings

    if config is None and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
    return service.main(
        settings.load(
            config, host=host, port=port, db=db, app=app, concurrency=concurrency, certfile=certfile, keyfile=keyfile
        )
    )
