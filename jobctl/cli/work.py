"""``jobctl work``: run jobs beside other servers."""

from pathlib import Path
from typing import Annotated

import typer

from jobctl.cli.serve import DEFAULT_CONFIG, tell_of_password


def work(
    config: Annotated[
        Path | None, typer.Option("--config", metavar="F", help="TOML settings; else ./jobctl.toml where it exists.")
    ] = None,
    db: Annotated[
        str | None, typer.Option("--db", metavar="URL", help="The database that it shares: postgresql://USER@HOST/NAME.")
    ] = None,
    app: Annotated[
        str | None, typer.Option("--app", metavar="MODULE", help="Module with @job handlers; several by commas.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", metavar="N", help="Jobs that run at the same time [10].")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", metavar="HOST:PORT", help="Answer /metrics, /healthz and /readyz there [nowhere]."),
    ] = None,
) -> int:
    """Run jobs of a PostgreSQL database that servers share; no API."""
    from jobctl import settings, work

    if config is None and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
    tell_of_password(db)
    return work.main(settings.load(config, db=db, app=app, concurrency=concurrency, metrics=metrics))
