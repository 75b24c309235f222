"""A server of its own for ``jobctl demo``: in a temporary folder, on a free port, gone when the demo is."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from jobctl.errors import StartupError

READY_S: Final = 20.0
STOP_S: Final = 10.0

_PACK: Final = '''\
"""Checksum and compress one file; how far it is goes to stdout, where jobctl reads it."""
import gzip, hashlib, os, sys

source, target = sys.argv[1:]
total, done, digest = max(1, os.path.getsize(source)), 0, hashlib.sha256()
with open(source, "rb") as file, gzip.open(target + ".gz", "wb", 9) as packed:
    while chunk := file.read(max(4096, total // 8)):
        digest.update(chunk)
        packed.write(chunk)
        done += len(chunk)
        print(f"::progress {done / total:.2f} {os.path.basename(source)}", flush=True)
with open(target + ".sha256", "w") as sums:
    sums.write(f"{digest.hexdigest()}  {source}\\n")
print(digest.hexdigest(), os.path.getsize(target + ".gz"))
'''


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The URL of a server that runs ``pack``; its files are in ``folder``.

    Raises:
        StartupError: it does not come up.
    """
    port = _free_port()
    (folder / "pack.py").write_text(_PACK)
    config = folder / "jobctl.toml"
    config.write_text(_config(folder, port))
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "jobctl", "serve", "--config", str(config)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=_environment(),
            start_new_session=True,  # Ctrl-C is for the demo, which then stops the server in order
        )  # fmt: skip
    try:
        with _terminated():
            _await(process, port, folder / "server.log")
            yield f"http://127.0.0.1:{port}"
    finally:
        _stop(process)


def _config(folder: Path, port: int) -> str:
    import json

    argv = [sys.executable, "-I", "-S", str(folder / "pack.py"), "{source}", "{target}"]
    values = {
        "port": port, "db": str(folder / "demo.db"), "state_dir": str(folder / "state"), "grace": 1.0,
        "concurrency": max(2, os.cpu_count() or 2),
    }  # fmt: skip
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]  # JSON scalars and lists are TOML
    return "\n".join([*lines, "[commands.pack]", f"argv = {json.dumps(argv)}", "timeout = 60.0", ""])


def _environment() -> dict[str, str]:
    import jobctl

    found = {name: value for name, value in os.environ.items() if not name.startswith("JOBCTL_")}
    home = str(Path(jobctl.__file__).resolve().parent.parent)  # run from a checkout, it is not on the path elsewhere
    found["PYTHONPATH"] = os.pathsep.join(filter(None, (home, found.get("PYTHONPATH"))))
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    from jobctl.client.address import Address
    from jobctl.client.session import Session

    give_up = time.monotonic() + READY_S
    with Session(Address("http", "127.0.0.1", port), str) as session:
        while not session.ready():
            if process.poll() is not None or time.monotonic() > give_up:
                last = log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
                raise StartupError(f"the demo's server did not start: {last[0]}")
            time.sleep(0.05)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM and a closed terminal end the demo as Ctrl-C does: the server must not outlive it."""

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM] + ([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])
    before = [signal.signal(number, leave) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
