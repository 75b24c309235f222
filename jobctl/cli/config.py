"""``jobctl config``: what the server would start with, and whether it would start."""

import json as json_
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from jobctl.cli.output import print_json, safe
from jobctl.cli.quick import QuickCommand, QuickGroup
from jobctl.cli.serve import DEFAULT_CONFIG

if TYPE_CHECKING:
    from jobctl.settings import Settings

app: Final = typer.Typer(cls=QuickGroup, help="Look at the settings.", no_args_is_help=True, rich_markup_mode=None)

Config = Annotated[
    Path | None, typer.Option("--config", metavar="F", help="TOML settings; else ./jobctl.toml where it exists.")
]
Host = Annotated[str | None, typer.Option("--host", metavar="HOST", help="As for `serve`.")]
Port = Annotated[int | None, typer.Option("--port", metavar="PORT", help="As for `serve`.")]
Db = Annotated[str | None, typer.Option("--db", metavar="DB", help="As for `serve`.")]
App = Annotated[str | None, typer.Option("--app", metavar="MODULE", help="As for `serve`.")]
Concurrency = Annotated[int | None, typer.Option("--concurrency", metavar="N", help="As for `serve`.")]
Certfile = Annotated[Path | None, typer.Option("--certfile", metavar="F", help="As for `serve`.")]
Keyfile = Annotated[Path | None, typer.Option("--keyfile", metavar="F", help="As for `serve`.")]


@app.command(cls=QuickCommand)
def show(
    config: Config = None,
    host: Host = None,
    port: Port = None,
    db: Db = None,
    handlers: App = None,
    concurrency: Concurrency = None,
    certfile: Certfile = None,
    keyfile: Keyfile = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON array of {name, value, origin}.")] = False,
) -> int:
    """Print every setting that `serve` would start with, and where it comes from. Secrets are not shown."""
    from jobctl.cli.effective import effective

    flags = {
        "host": host, "port": port, "db": db, "app": handlers, "concurrency": concurrency, "certfile": certfile,
        "keyfile": keyfile,
    }  # fmt: skip
    settings, path = _load(config, flags)
    found = effective(settings, path, flags)
    if json:
        print_json(json_.dumps([each._asdict() for each in found]))
        return 0
    lines = [(f"{each.name} = {json_.dumps(each.value)}", each.origin) for each in found]
    width = min(60, max(len(line) for line, _ in lines))
    for line, origin in lines:
        sys.stdout.write(f"{safe(line).ljust(width)}  # {safe(origin)}\n")
    return 0


@app.command(cls=QuickCommand)
def check(
    config: Config = None,
    host: Host = None,
    port: Port = None,
    db: Db = None,
    handlers: App = None,
    concurrency: Concurrency = None,
    certfile: Certfile = None,
    keyfile: Keyfile = None,
) -> int:
    """See whether `serve` would start: values, handlers, files, folders, address, certificate. Exit code 0 or 2.

    Who owns the database now, and who has the port, is not looked at.
    """
    from jobctl.rehearsal import rehearse

    flags = {
        "host": host, "port": port, "db": db, "app": handlers, "concurrency": concurrency, "certfile": certfile,
        "keyfile": keyfile,
    }  # fmt: skip
    settings, path = _load(config, flags)
    rehearse(settings)
    where = str(path) if path else "no file: defaults and the environment"
    sys.stdout.write(f"ok ({safe(where)})\n")
    return 0


def _load(config: Path | None, flags: dict[str, Any]) -> "tuple[Settings, Path | None]":
    from jobctl import settings

    if config is None and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
    return settings.load(config, **flags), config
