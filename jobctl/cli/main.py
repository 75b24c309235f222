"""``jobctl``: the entry point, and what becomes of errors."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from jobctl.cli import commands, start
from jobctl.cli.output import ExitCode, exit_of, say, shorten
from jobctl.cli.stdio import OutputFailed, forget_stdout
from jobctl.errors import JobctlError

if TYPE_CHECKING:
    app: typer.Typer


def __getattr__(name: str) -> typer.Typer:
    """``app``, the whole of it: for whoever wants to look at all commands."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return commands.build()


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
        completing = "_JOBCTL_COMPLETE" in os.environ  # then the words are in the environment too
        app = commands.build(None if completing else commands.called(arguments))
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
