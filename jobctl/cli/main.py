"""``jobctl``: the entry point, and what becomes of errors."""

import os
import sys
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from jobctl import __version__
from jobctl.cli import (
    bench,
    config,
    db,
    demo,
    doctor,
    enqueue,
    examples,
    jobs,
    prune,
    queues,
    schedules,
    serve,
    start,
    token,
    watch,
)
from jobctl.cli import open as opening
from jobctl.cli.output import ExitCode, exit_of, say, shorten
from jobctl.cli.quick import QuickCommand, QuickGroup
from jobctl.cli.stdio import OutputFailed, forget_stdout
from jobctl.errors import JobctlError

app: Final = typer.Typer(
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
app.command("serve", cls=QuickCommand)(serve.serve)
app.command("enqueue", cls=QuickCommand)(enqueue.enqueue)
app.command("watch", cls=QuickCommand)(watch.watch)
app.add_typer(jobs.app, name="jobs")
jobs.app.command("prune", cls=QuickCommand)(prune.prune)
app.add_typer(schedules.app, name="schedules")
app.add_typer(queues.app, name="queues")
app.add_typer(token.app, name="token")
app.command("open", cls=QuickCommand)(opening.open_)
app.add_typer(db.app, name="db")
app.add_typer(config.app, name="config")
app.command("doctor", cls=QuickCommand)(doctor.doctor)
app.command("demo", cls=QuickCommand)(demo.demo)
app.add_typer(bench.app, name="bench")
examples.attach(app)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"jobctl {__version__}\n")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """A durable background-job queue with a live event stream."""


def run() -> NoReturn:
    """Run the command of ``sys.argv`` and leave with its exit code; every error is one line on stderr."""
    try:
        code = _guarded(sys.argv[1:])
        start.leave_at_once()
    except KeyboardInterrupt:  # beside the command, which says itself what becomes of it
        start.leave_at_once()
        code = ExitCode.INTERRUPTED
    sys.exit(_flushed(code))


def _guarded(arguments: list[str]) -> int:
    try:
        start.leave_in_order()
        result = app(arguments, prog_name="jobctl", standalone_mode=False)
        return int(result or 0)
    except typer.TyperException as error:
        return _usage(error)
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except OutputFailed as error:
        return _unwritten(error)
    except Exception as error:
        if _debugging():
            raise
        return _failed(error)


def _failed(error: Exception) -> int:
    if isinstance(error, JobctlError):
        say(str(error))
        return exit_of(error)
    if isinstance(error, UnicodeEncodeError):  # an argument's bytes, where only text will do
        say(f"{shorten(repr(error.object), 100)} is not {error.encoding.upper()} text")
        return ExitCode.USAGE
    if isinstance(error, OSError) and error.strerror:  # what no command has words of its own for
        say(f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror} ({_where()})")
        return ExitCode.USAGE
    say(f"internal error: {type(error).__name__}: {error} (set JOBCTL_DEBUG=1 to see where)")
    return ExitCode.INTERNAL


def _where() -> str:
    try:
        return f"in {Path.cwd()}"
    except OSError:
        return "the current folder is gone"


def _usage(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is not None and message == context.get_help():  # called with nothing at all
        sys.stderr.write(message + "\n")
    else:
        place = context.command_path if context is not None else "jobctl"
        say(f"{message.rstrip('.')} (see `{place} --help`)")
    return ExitCode.USAGE


def _flushed(code: int) -> int:
    """Write what is left to be written; the exit code. A command that failed by itself goes on meaning that."""
    try:
        sys.stdout.flush()
    except OutputFailed as error:
        failed = _unwritten(error)
        return failed if code == ExitCode.DONE else code
    return code


def _unwritten(error: OutputFailed) -> int:
    forget_stdout()
    if error.gone and not error.done:  # nobody wants to know
        return ExitCode.DONE
    say(str(error))
    return ExitCode.OUTPUT


def _debugging() -> bool:
    return bool(os.environ.get("JOBCTL_DEBUG"))
