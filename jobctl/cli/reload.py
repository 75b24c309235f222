"""``jobctl serve --reload``: start the server again whenever its code changes. For development.

The server is a process of its own, so that nothing of the old code lives on. Before it is stopped, another process sees
whether the next one would start (``jobctl config check``): a mistake is shown, and the server that runs goes on.

What is watched are the modification times of every ``.py`` below the current folder and of the configuration: half a
second between two looks costs next to nothing, and works on every file system, also where no notification comes
(containers, network folders).
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from jobctl.cli.output import say

EVERY_S: Final = 0.5
GRACE_S: Final = 2.0
"""That running jobs get at a restart, unless JOBCTL_GRACE says otherwise: nobody waits 25 s for a change to work."""
STOP_S: Final = 10.0
"""Beyond the grace time; then the server is killed, and loses nothing but what ran."""
REHEARSAL_S: Final = 60.0
"""For all imports and a look at everything else; it takes about a second."""
MAX_FILES: Final = 20_000
SHOWN: Final = 3
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})

Seen = Mapping[str, tuple[int, int]]
"""Modification time and size by path."""


def supervise(arguments: Sequence[str], config: Path | None, default_config: Path) -> int:
    """Run ``jobctl ARGUMENTS`` again and again until a signal; the exit code.

    Args:
        arguments: The command line, without ``--reload``.
        config: The configuration that was named.
        default_config: The one that is taken where it exists.
    """
    watched = Files(Path.cwd(), (config or default_config,))
    program = [sys.executable, "-P", "-m", "jobctl"]
    # Both take the same options; a value of one may be "serve" too, but the command comes first.
    rehearsal = [*program, "config", "check", *arguments[1:]]
    with Server([*program, *arguments], _environment(), rehearsal) as server:
        server.start()
        seen = watched.look()
        while not server.stopping:
            server.rest(EVERY_S)
            if not server.stopping and (code := server.ended_by_itself()) is not None:
                say(f"the server ended with exit code {code}; waiting for a change")
            now = watched.look()
            if changed := differences(seen, now):
                seen = now
                restart(changed, watched.folder, server)
        return server.wait()


def restart(changed: Sequence[str], folder: Path, server: "Server") -> None:
    """Start again with the new code and settings, unless a server could not start with them.

    Where none runs, the start itself will tell.
    """
    shown = ", ".join(_relative(path, folder) for path in changed[:SHOWN])
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    if problem := syntax_error(changed, folder) or (server.rehearse() if server.running else None):
        running = "the server goes on as it is" if server.running else "waiting for the next change"
        say(f"{shown}{more} changed, but {problem}; {running}")
        return
    say(f"{shown}{more} changed; starting again")
    server.stop()
    server.start()


class Files:
    """What is watched: ``*.py`` below ``folder`` (hidden folders, environments and caches left out), and ``others``."""

    def __init__(self, folder: Path, others: Sequence[Path]) -> None:
        self.folder = folder
        self._others = tuple(str(folder / other) for other in others)

    def look(self) -> Seen:
        """What is there now."""
        seen: dict[str, tuple[int, int]] = {}
        for path in (*self._others, *self._sources()):
            try:
                found = os.stat(path)  # noqa: PTH116 - thousands of them, twice a second
            except OSError:
                continue
            seen[path] = (found.st_mtime_ns, found.st_size)
            if len(seen) >= MAX_FILES:
                break
        return seen

    def _sources(self) -> Iterator[str]:
        for folder, folders, files in os.walk(self.folder):
            if "pyvenv.cfg" in files:
                folders.clear()
                continue
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
            yield from (os.path.join(folder, name) for name in files if name.endswith(".py"))  # noqa: PTH118


def differences(before: Seen, now: Seen) -> list[str]:
    """Paths that were changed, added or removed."""
    return sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))


def syntax_error(paths: Sequence[str], folder: Path) -> str | None:
    """``tasks.py:3: invalid syntax``, of the first that cannot be compiled."""
    for path in paths:
        if not path.endswith(".py"):
            continue
        try:
            compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:  # ValueError: a NUL in the source
            line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            message = error.msg if isinstance(error, SyntaxError) else str(error)
            return f"{_relative(path, folder)}{line}: {message}"
        except OSError:
            continue  # removed meanwhile
    return None


class Server:
    """The server's process; signals to us are for it.

    It has a session of its own: Ctrl-C at a terminal would otherwise reach it twice, and the second one is the hard
    stop.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], rehearsal: Sequence[str] = ()) -> None:
        self._command = list(command)
        self._rehearsal = list(rehearsal)
        self._environment = dict(environment)
        self._grace = _seconds(environment.get("JOBCTL_GRACE", ""))
        self._process: subprocess.Popen[bytes] | None = None
        self._told = True
        self._asked = False
        self._before: dict[int, object] = {}
        self.stopping = False

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _pass_on(self, number: int, _: object) -> None:
        self.stopping = True
        if self.running and self._process is not None:
            self._process.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
            self._asked = True

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it."""
        if self.stopping:
            return
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            self._command, stdin=subprocess.DEVNULL, env=self._environment, start_new_session=True
        )
        self._told = self._asked = False

    def rehearse(self) -> str | None:
        """Why another one would not start, in a line; None when it would, or when there is no use in asking."""
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(  # noqa: S603 - our own program
                self._rehearsal, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
                env=self._environment, start_new_session=True,
            )  # fmt: skip
            give_up = time.monotonic() + REHEARSAL_S
            while process.poll() is None and not self.stopping and time.monotonic() < give_up:
                try:
                    process.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
            if process.returncode is None:
                process.kill()
                process.wait()
                return None if self.stopping else f"its import takes more than {REHEARSAL_S:.0f} s"
            if process.returncode == 0:
                return None
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").strip().splitlines()
        ours = [line.removeprefix("jobctl: ") for line in lines if line.startswith("jobctl: ")]
        return (ours or lines or [f"a start would end with exit code {process.returncode}"])[-1]

    def stop(self) -> None:
        """Stop it in order, or at last by force."""
        process = self._process
        if process is None or not self.running:
            return
        if not self._asked:
            process.terminate()
        try:
            process.wait(self._grace + STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait(self) -> int:
        """Wait for the end after a signal; the exit code."""
        self.stop()
        code = self._process.returncode if self._process is not None else 0
        return 128 - code if code < 0 else code

    def rest(self, seconds: float) -> None:
        """Sleep, less if the process ends meanwhile."""
        if self._process is None or self._told:
            time.sleep(seconds)
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return

    def ended_by_itself(self) -> int | None:
        """The exit code, if it has ended since the last look; it has said why."""
        if self._process is None or self.running or self._told:
            return None
        self._told = True
        return self._process.returncode


def _environment() -> dict[str, str]:
    import jobctl

    home = str(Path(jobctl.__file__).resolve().parent.parent)  # run from a checkout, it is not on the path by itself
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), home)))
    # Without bytecode of its own: that goes by whole seconds, and two changes in one second would run the first.
    return {"JOBCTL_GRACE": str(GRACE_S), **os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return GRACE_S  # the server itself says what is wrong with it


def _relative(path: str, folder: Path) -> str:
    return os.path.relpath(path, folder) if Path(path).is_relative_to(folder) else path


