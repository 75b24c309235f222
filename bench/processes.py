"""The two processes of a block, server and load generator: how they are started, spoken to, and ended for certain."""

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import bench
import jobctl
from bench.names import CLIENTS, ENVIRONMENT, READY
from jobctl.errors import StartupError

READY_S: Final = 60.0
"""For either to stand by: a loaded machine starts Python slowly."""
STOP_S: Final = 5.0
LOOK_EVERY_S: Final = 0.01
LAST_WORDS: Final = 300
"""Characters of a process's log that go into an error."""
KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SYSTEMROOT")
"""What a process that is measured has of our environment."""
SCENARIO_FILE: Final = Path(bench.__file__).parent / "locustfiles" / "scenario.py"


class Failed(StartupError):
    """A process of a block did not do what it was started for."""


class Process:
    """One of them. Its log is in ``folder``; it ends with ``end``, or when its stdin closes: with its driver.

    A session of its own: Ctrl-C is for the driver, which then ends its processes in order.
    """

    def __init__(
        self, name: str, argv: Sequence[str], folder: Path, cwd: Path, cpus: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=cwd,
                env=environment(folder) if env is None else env,
                start_new_session=True,
            )  # fmt: skip
        self._rest = b""
        if cpus:
            os.sched_setaffinity(self._process.pid, cpus)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def say(self, line: bytes) -> None:
        """Write a line to its stdin."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self.ended_early() from None

    def hear(self, seconds: float) -> bytes:
        """A line of its stdout. Raises ``Failed``: there is none in time."""
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest:
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._process.stdout.fileno(), 65536) if readable else b""
            if not readable:
                raise Failed(f"the {self.name} did not answer within {seconds:.0f} s{self._last_words()}")
            if not data:
                raise self.ended_early()
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return line

    def await_file(self, path: Path, seconds: float) -> None:
        """Wait until it has made a file. Raises ``Failed``."""
        deadline = time.monotonic() + seconds
        while not path.exists():
            if self._process.poll() is not None and not path.exists():
                raise self.ended_early()
            if time.monotonic() > deadline:
                raise Failed(f"the {self.name} did not come to its end within {seconds:.0f} s{self._last_words()}")
            time.sleep(LOOK_EVERY_S)

    def ended_early(self) -> Failed:
        """An error that says so, with the last that it said."""
        return Failed(f"the {self.name} ended early{self._last_words()}")

    def _last_words(self) -> str:
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        return f": {lines[-1].strip()[:LAST_WORDS]}" if lines else ""

    def end(self) -> None:
        """End it now, and wait for that. What it had to write is written, and its database is of no more use."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def environment(folder: Path) -> Mapping[str, str]:
    """Of a process: nothing that could set up jobctl, Locust or Python otherwise than on another machine."""
    found = {name: os.environ[name] for name in KEPT if name in os.environ}
    homes = {str(Path(bench.__file__).resolve().parent.parent), str(Path(jobctl.__file__).resolve().parent.parent)}
    return {
        **found,
        "HOME": str(folder / "empty"),  # Locust reads ~/.locust.conf
        "PYTHONPATH": os.pathsep.join(sorted(homes)),  # run from a checkout, they are not on the path elsewhere
        "PYTHONUNBUFFERED": "1",
        ENVIRONMENT: str(folder),
    }


def start_server(order: Path, folder: Path, cpus: Sequence[int]) -> Process:
    """The server of a block; its order is in a file."""
    return Process("server", [sys.executable, "-m", "bench.server", str(order)], folder, folder / "empty", cpus)


def start_load(locustfile: Path, users: int, folder: Path, cpus: Sequence[int]) -> Process:
    """The load generator of a block; it stands by until its order comes.

    Its exit code says nothing and is not looked at: one 429 flips it.
    """
    argv = [
        sys.executable, "-m", "locust", "-f", str(locustfile), "--headless", "--users", str(users),
        "--spawn-rate", str(users), "--loglevel", "WARNING", "--only-summary",
    ]  # fmt: skip
    return Process("load generator", argv, folder, folder / "empty", cpus)


def stands_by(folder: Path) -> Path:
    """What the load generator makes once all clients stand by."""
    return folder / READY


def has_counted(folder: Path) -> Path:
    """What it makes once all have finished."""
    return folder / CLIENTS
