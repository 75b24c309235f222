"""Every command: where it is, and what the list of commands says of it.

Only the module of the command that is called is imported, and only its options are looked at: the others stand in the
list by what is said of them here. That is half of the time that ``jobctl --help`` takes.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, Final, NamedTuple

import typer

from jobctl import __version__
from jobctl.cli import examples
from jobctl.cli.quick import QuickCommand, QuickGroup


class Place(NamedTuple):
    """``module:name`` below ``jobctl.cli``; the ``help`` is the command's own (a test compares them)."""

    where: str
    help: str

    def load(self) -> Any:
        """A function, or the ``Typer`` of a group."""
        module, _, name = self.where.partition(":")
        return getattr(import_module(f"jobctl.cli.{module}"), name)


COMMANDS: Final[Mapping[str, Place]] = {
    "serve": Place("serve:serve", "Run the server: queue, stream, API and runner in one process."),
    "work": Place("work:work", "Run jobs of a PostgreSQL database that servers share; no API."),
    "migrate": Place(
        "migrate:migrate",
        "Bring a PostgreSQL database to this version's schema; servers of the version before go on meanwhile.",
    ),
    "enqueue": Place("enqueue:enqueue", "Enqueue a job and print its id."),
    "watch": Place("watch:watch", "Follow jobs live; it reconnects by itself and misses nothing."),
    "workers": Place(
        "workers:workers", "List the processes that run jobs, with their slots and when they were last heard."
    ),
    "open": Place(
        "open:open_", "Open the server in the browser, signed in: by a link that works once, within five minutes."
    ),
    "doctor": Place("doctor:doctor", "Check, step by step, that this machine can work with the server."),
    "demo": Place(
        "demo:demo", "Pack a folder's files with a server of its own, live, and show what pushing saved over polling."
    ),
}
GROUPS: Final[Mapping[str, Place]] = {
    "jobs": Place("jobs:app", "List, show, retry, cancel and delete jobs."),
    "schedules": Place("schedules:app", "List, add, change and run schedules."),
    "queues": Place("queues:app", "List, pause and resume queues."),
    "token": Place("token:app", "Print a short-lived token, or issue, list and revoke API tokens."),
    "db": Place("db:app", "Back up, check, restore and move the database."),
    "config": Place("config:app", "Look at the settings."),
    "bench": Place("bench:app", "Measure what push saves over polling, on this machine."),
}


def build(only: str | None = None) -> typer.Typer:
    """The program. ``only``: the command that is called, whose module alone is imported; None: all of them."""
    app = typer.Typer(
        name="jobctl",
        cls=QuickGroup,
        help="A durable background-job queue with a live event stream.",
        epilog="Exit codes: 0 done, 1 a job or a threshold failed, 2 usage, 3 no connection or sign-in, 4 timed out, "
        "5 cancelled, 6 invalid bench run, 7 inconclusive bench run, 74 output not written, 130 Ctrl-C.",
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: importing rich for it costs 70 ms
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_main)
    for name, place in COMMANDS.items():
        if only in (None, name):
            app.command(name, cls=QuickCommand)(place.load())
        else:
            app.command(name, cls=QuickCommand, help=place.help)(_elsewhere)
    for name, place in GROUPS.items():
        if only in (None, name):
            app.add_typer(place.load(), name=name)
        else:
            app.command(name, cls=QuickCommand, help=place.help)(_elsewhere)
    examples.attach(app)
    return app


def called(arguments: list[str]) -> str:
    """The command that is called: the first word that is no option, for no option of the program takes a value."""
    return next((each for each in arguments if not each.startswith("-")), "")


def _elsewhere() -> None:
    """Stands in the list for a command that is not called."""


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"jobctl {__version__}\n")
        raise typer.Exit


def _main(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """A durable background-job queue with a live event stream."""
