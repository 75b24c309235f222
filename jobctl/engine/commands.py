"""Handlers that are programs: how their arguments are made, and one run of one.

An argument is a template: ``{field}`` becomes the job's value of that name, inside that one argument and never through
a shell; ``{{`` and ``}}`` are braces. The program itself (the first argument) takes no field, so that no job can run
what the operator did not name.
"""

import functools
import logging
import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from jobctl.engine import guard, proc, processes
from jobctl.engine.context import Run
from jobctl.engine.output import Output
from jobctl.errors import HandlersFailed, InvalidInput, StoreUnavailable
from jobctl.retry import backoff
from jobctl.store.base import Completed, Failed, Outcome

if TYPE_CHECKING:
    from jobctl.settings import CommandSettings

TIMEOUT_KILL_S: Final = 5.0
"""Between SIGTERM and SIGKILL for a command that has used up its time."""
OUTPUT_S: Final = 30.0
"""The most that reading what is left may take, however slowly the log takes it."""
_REAP_S: Final = 5.0
"""After SIGKILL; only a process stuck in the kernel takes longer."""
_TAIL_BYTES: Final = 4 * 1024
_INHERITED: Final = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SYSTEMROOT"}
)
_FORBIDDEN_ENV: Final = frozenset({"JOBCTL_SECRET", "JOBCTL_TOKEN", "JOBCTL_AUTH__SECRET"})
_TEMPLATE: Final = re.compile(r"(\{\{)|(\}\})|\{([A-Za-z_][A-Za-z0-9_.-]*)\}|([{}])")
log = logging.getLogger("jobctl.engine")

Template = tuple[tuple[str, str | None], ...]
"""Literal text, and the field that follows it (None at the end)."""


@dataclass(frozen=True, slots=True)
class Command:
    """A checked ``[commands.NAME]``. ``env`` is the whole environment, but for what differs from run to run."""

    name: str
    argv: tuple[Template, ...]
    fields: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path | None = None
    allow_dash: bool = False

    @classmethod
    def build(cls, name: str, settings: "CommandSettings") -> "Command":
        """Check and parse.

        Raises:
            HandlersFailed: a template is malformed, or the program, the folder or the environment is not usable.
        """
        where = f"commands.{name}"
        try:
            argv = tuple(parse_template(argument) for argument in settings.argv)
        except ValueError as error:
            raise HandlersFailed(f"{where}: {error}") from None
        if any(field for _, field in argv[0]):
            raise HandlersFailed(f"{where}: the program is fixed, {settings.argv[0]!r} must not hold a field")
        if forbidden := _FORBIDDEN_ENV & settings.env.keys():
            raise HandlersFailed(f"{where}: env must not hand {min(forbidden)} to a command")
        for key, value in settings.env.items():
            if not key or "=" in key or "\0" in key + value:
                raise HandlersFailed(f"{where}: env has a name or value that no environment can hold: {key!r}")
        if settings.cwd is not None and not settings.cwd.is_dir():
            raise HandlersFailed(f"{where}: there is no folder {str(settings.cwd)!r}")
        env = {**_minimal_environment(), **settings.env}
        fields = tuple(dict.fromkeys(field for template in argv for _, field in template if field))
        command = cls(name, argv, fields, env, settings.cwd, settings.allow_dash)
        command.program(where)
        return command

    def program(self, where: str) -> str:
        """The path of the program.

        Raises:
            HandlersFailed: there is none, or it may not be run; the message starts with ``where``.
        """
        name = "".join(text for text, _ in self.argv[0])
        if os.sep in name:
            path = (self.cwd or Path()) / name
            found = str(path) if path.is_file() and os.access(path, os.X_OK) else None
        else:
            found = shutil.which(name, path=self.env.get("PATH", os.defpath))
        if found is None:
            raise HandlersFailed(f"{where}: there is no program {name!r} that can be run")
        return found

    def check(self, data: Mapping[str, Any]) -> None:
        """Whether the fields make arguments.

        Raises:
            InvalidInput: one is missing or has a value that cannot be an argument; ``field`` names it.
        """
        for field in self.fields:
            self._text(data, field)

    def render(self, data: Mapping[str, Any]) -> list[str]:
        """The argument vector.

        Raises:
            InvalidInput: as ``check``.
        """
        return [
            "".join(text + (self._text(data, field) if field else "") for text, field in template)
            for template in self.argv
        ]

    def _text(self, data: Mapping[str, Any], field: str) -> str:
        where = f"data.{field}"
        if field not in data:
            raise InvalidInput(f"{self.name} needs {where}", field=where)
        value = data[field]
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, str | int | float):
            text = str(value)
        else:
            raise InvalidInput(f"{where} becomes an argument: a text, a number, true or false", field=where)
        if "\0" in text:
            raise InvalidInput(f"{where} holds a NUL, which no argument can", field=where)
        if text.startswith("-") and not self.allow_dash:
            raise InvalidInput(f"{where} starts with '-' and could be taken for an option", field=where)
        return text


def parse_template(argument: str) -> Template:
    """Split an argument at its fields.

    Raises:
        ValueError: a brace stands alone, or the argument holds a NUL.
    """
    if "\0" in argument:
        raise ValueError(f"{argument!r} holds a NUL")
    parts: list[tuple[str, str | None]] = []
    text, end = "", 0
    for found in _TEMPLATE.finditer(argument):
        text += argument[end : found.start()]
        end = found.end()
        opened, closed, field, stray = found.groups()
        if stray:
            raise ValueError(f"{argument!r} has a lone {stray!r}; a field is {{name}}, a brace is doubled")
        if field:
            parts.append((text, field))
            text = ""
        else:
            text += "{" if opened else "}" if closed else ""
    return (*parts, (text + argument[end:], None))


def _minimal_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key in _INHERITED or key.startswith("LC_")}


async def run_command(command: Command, run: Run, data: Mapping[str, Any], draw: float) -> Outcome | None:
    """Run it to its end, or to the end of its time, or until it is asked to stop.

    Returns:
        The outcome; None when the program was ended by us, and ``run.scope`` tells why. ``run.outlives`` is set in the
        rare case that not even SIGKILL ended it.
    """
    job, claim = run.job, run.claim
    own = {
        "JOBCTL_JOB_ID": job.id, "JOBCTL_RUN": str(claim.run), "JOBCTL_ATTEMPT": str(job.attempts + 1),
        guard.LEASE: job.processing_by or "",
    }  # fmt: skip
    try:
        argv = command.render(data)
    except InvalidInput as error:  # enqueued when the command was another
        return Failed(str(error), retry=False)
    try:
        process = await trio.lowlevel.open_process(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=command.cwd,
            env={**command.env, **own},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Failed(f"cannot start {argv[0]}: {reason}", delay=backoff(job.attempts + 1, draw))
    output = Output(run, process)
    started = proc.start_ticks(process.pid)
    if run.host.guard is not None:
        run.host.guard.began(process.pid, started)
    try:
        await _remember(run, process.pid, started)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(output.read, process.stdout, "stdout")
            nursery.start_soon(output.read, process.stderr, "stderr")
            stopped = await _leader(process, run)
            output.leader_ended()
            nursery.cancel_scope.deadline = trio.current_time() + OUTPUT_S
    finally:
        await _clean_up(process)
        if run.host.guard is not None and process.returncode is not None:
            run.host.guard.ended(process.pid)
    if process.returncode is None:
        run.outlives = functools.partial(_reap, process)
        return None
    if stopped:
        return None
    if process.returncode == 0:
        return Completed(b'{"exitCode":0}')
    return Failed(_describe(process.returncode, output.tail), delay=backoff(job.attempts + 1, draw))


async def _remember(run: Run, pid: int, started: int) -> None:
    """Write down the process before anything of it is read, so that the next start can end it if we die."""
    try:
        ours = await run.host.store.record_process(run.job.id, run.claim.run, pid, started)
    except StoreUnavailable as error:
        log.warning("the command of job %s could not be recorded, it would survive a crash: %s", run.job.id, error)
    else:
        if not ours:  # the job is not running this run any more
            run.scope.cancel()


async def _leader(process: trio.Process, run: Run) -> bool:
    """Wait for the program; True when its time ran out or it was asked to stop, and it was therefore ended."""
    with run.scope:
        await processes.leader_exit(process)
    if not run.scope.cancelled_caught:
        return False
    run.noticed = True
    processes.signal_group(process.pid, signal.SIGTERM)
    kill_at = run.kill_at if run.asked else trio.current_time() + TIMEOUT_KILL_S
    with trio.CancelScope(deadline=kill_at) as run.killer:
        await processes.leader_exit(process)
    processes.signal_group(process.pid, signal.SIGKILL)
    with trio.move_on_after(_REAP_S):
        await processes.leader_exit(process)
    return True


async def _clean_up(process: trio.Process) -> None:
    """Whatever is left of the group ends with its leader, which is reaped only then: its pid names the group."""
    processes.signal_group(process.pid, signal.SIGKILL)
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _REAP_S):
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                await pipe.aclose()
        await process.wait()


async def _reap(process: trio.Process) -> None:
    await process.wait()


def _describe(code: int, tail: deque[str]) -> str:
    if code < 0:
        try:
            what = f"killed by {signal.Signals(-code).name}"
        except ValueError:
            what = f"killed by signal {-code}"
    else:
        what = f"exit code {code}"
    text = "\n".join(tail)
    if len(text) > _TAIL_BYTES:
        text = "…" + text[-_TAIL_BYTES:]
    return f"{what}\n{text}" if text else what
