"""``jobctl bench``: what push saves over polling, measured."""

from typing import Final

import typer

from jobctl.cli import bench_read
from jobctl.cli.quick import QuickGroup

app: Final = typer.Typer(
    cls=QuickGroup, help="Measure what push saves over polling.", no_args_is_help=True, rich_markup_mode=None
)
bench_read.attach(app)
