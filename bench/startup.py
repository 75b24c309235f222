"""``python -m bench.startup``: how long a command takes from its start, beside the commands of other queues.

Times are of the clock on the wall, from just before the process is made until it has ended (``serve``: until it says
``READY=1``, as a service manager is told). Commands take turns; a first round, which fills the caches, does not count.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.processes import KEPT, Failed
from bench.queues.services import free_port
from bench.side_by_side import ROUNDS, Absent, Asked, Report, Run, progress, ratio, show, spread, take_turns

HELP: Final = "jobctl --help"
PEERS: Final = {"celery --help": "celery", "rq --help": "rq", "huey_consumer --help": "huey"}
"""Commands, and the package that each comes with."""
PYTHON: Final = "python -c pass"
ENQUEUE: Final = "jobctl enqueue"
SERVE: Final = "jobctl serve, until it is ready"
TIMEOUT_S: Final = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.startup", description="How long a command takes to start.")
    parser.add_argument("--rounds", type=int, default=2 * ROUNDS, metavar="N", help=f"[{2 * ROUNDS}]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    run = Run("startup", {"rounds": options.rounds}, packages=("typer", *PEERS.values()))
    try:
        report = measure(run, options.rounds)
    except Failed as error:
        print(f"bench.startup: {error}", file=sys.stderr)
        return 1
    show(report, as_json=options.json)
    return 0


def measure(run: Run, rounds: int) -> Report:
    """All turns.

    Raises:
        Failed: a command did not work.
    """
    with tempfile.TemporaryDirectory(prefix="jobctl-startup-") as place:
        folder = Path(place)
        with server(folder) as port:
            ours = _environment(folder, port)
            measured = {PYTHON: _command([sys.executable, "-c", "pass"], ours), HELP: _command(_argv(HELP), ours)}
            for name, package in PEERS.items():
                if _script(name.split()[0]) is None:
                    run.absent.append(Absent(name, f"{package} is not installed: pip install 'jobctl[bench-peers]'"))
                else:
                    measured[name] = _command(_argv(name), ours)
            measured[ENQUEUE] = _command([*_argv(ENQUEUE), "noop", "text=hello"], ours)
            measured[SERVE] = lambda: _until_ready(folder)
            take_turns(1, measured)
            found = take_turns(rounds, measured, told=progress)
            progress("")
    run.add("from its start", "ms", found)
    _judge(run, found)
    return run.report()


def _judge(run: Run, found: Mapping[str, Sequence[float]]) -> None:
    there = [found[name] for name in PEERS if name in found]
    asked = Asked(f"{HELP}, against the median of {', '.join(PEERS)}", 0.7, "x")
    if len(there) == len(PEERS):
        run.ask(asked, ratio(found[HELP], [spread(each).median for each in zip(*there, strict=True)]))
    else:
        run.ask(asked, None, "not all of them are installed")
    run.ask(Asked(HELP, 150.0, "ms"), spread(found[HELP]))
    run.ask(Asked(f"{ENQUEUE}, to a running server", 300.0, "ms"), spread(found[ENQUEUE]))
    run.ask(Asked(SERVE, 1000.0, "ms"), spread(found[SERVE]))


# --- commands ----------------------------------------------------------------------------------------------------


def _script(name: str) -> Path | None:
    """A command that was installed beside this interpreter."""
    path = Path(sys.executable).parent / name
    return path if path.is_file() else None


def _argv(command: str) -> list[str]:
    name, *rest = command.split()
    path = _script(name)
    if path is None:
        raise Failed(f"there is no {name} beside {sys.executable}: pip install jobctl")
    return [str(path), *rest]


def _command(argv: Sequence[str], environment: Mapping[str, str]) -> Callable[[], float]:
    """Runs it once; ms that it took.

    Raises:
        Failed: it did not end well.
    """

    def measure() -> float:
        began = time.perf_counter()
        done = subprocess.run(  # noqa: S603 - our own words
            argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
        took = time.perf_counter() - began
        if done.returncode:
            words = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines() or [""]
            raise Failed(f"{argv[0]} ended with {done.returncode}: {words[-1]}")
        return took * 1e3

    return measure


def _environment(folder: Path, port: int | None = None) -> dict[str, str]:
    """Nothing that could make a command quicker or slower than on another machine."""
    found = {name: os.environ[name] for name in KEPT if name in os.environ}
    found |= {"HOME": str(folder), "JOBCTL_STATE_DIR": str(folder / "state"), "JOBCTL_ACCEPT_UNKNOWN": "true"}
    return found if port is None else {**found, "JOBCTL_URL": f"http://127.0.0.1:{port}"}


# --- a server ----------------------------------------------------------------------------------------------------


@contextmanager
def _serving(folder: Path, port: int) -> Iterator[Callable[[], None]]:
    """A server process; call what is yielded to wait until it is ready. Its database is new."""
    with tempfile.TemporaryDirectory(dir=folder) as place, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(f"{place}/notify")
        told.settimeout(TIMEOUT_S)
        argv = [*_argv("jobctl serve"), "--port", str(port), "--db", f"{place}/bench.db"]
        environment = {**_environment(folder), "NOTIFY_SOCKET": f"{place}/notify"}
        process = subprocess.Popen(  # noqa: S603 - likewise
            argv, env=environment, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def ready() -> None:
            try:
                while b"READY=1" not in told.recv(4096):
                    pass
            except TimeoutError:
                raise Failed(f"jobctl serve was not ready within {TIMEOUT_S:.0f} s") from None

        try:
            yield ready
        finally:
            process.kill()
            process.wait()


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """A server that is ready; its port."""
    port = free_port()
    with _serving(folder, port) as ready:
        ready()
        yield port


def _until_ready(folder: Path) -> float:
    """From the start of a server until it is ready, ms; with a new database, as at the very first start."""
    port = free_port()
    began = time.perf_counter()
    with _serving(folder, port) as ready:
        ready()
        return (time.perf_counter() - began) * 1e3


if __name__ == "__main__":
    sys.exit(main())
