"""A server of its own for ``jobctl demo``: in a temporary folder, on a free port, gone when the demo is.

The demo's process holds the writing end of a pipe, to which nobody writes. It is closed when the demo ends, however
that ends, and then the server stops by itself (``python -m jobctl.cli.demo_server`` is the server's process).
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from jobctl.errors import StartupError

READY_S: Final = 20.0
STOP_S: Final = 10.0
LOOK_S: Final = 0.05

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
def server(folder: Path, *, check: Callable[[], None], keep: bool = False) -> Iterator[str]:
    """The URL of a server that runs ``pack``; its files are in ``folder``.

    Args:
        folder: A temporary one. The server removes it where the demo is killed and cannot, unless ``keep``.
        check: Called while it is waited for; raises where that is to end.
        keep: Leave ``folder`` in any case.

    Raises:
        StartupError: it does not come up.
    """
    port = _free_port()
    (folder / "pack.py").write_text(_PACK)
    config = folder / "jobctl.toml"
    config.write_text(_config(folder, port))
    parent, ours = os.pipe()
    try:
        with (folder / "server.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "jobctl.cli.demo_server", str(config), *([] if keep else [str(folder)])],
                stdin=parent, stdout=log, stderr=log, cwd=folder, env=_environment(),
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the server in order
            )  # fmt: skip
        try:
            _await(process, port, folder / "server.log", check)
            yield f"http://127.0.0.1:{port}"
        finally:
            _stop(process)
    finally:
        os.close(parent)
        os.close(ours)


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


def _await(process: "subprocess.Popen[bytes]", port: int, log: Path, check: Callable[[], None]) -> None:
    from jobctl.client.address import Address
    from jobctl.client.session import Session

    give_up = time.monotonic() + READY_S
    with Session(Address("http", "127.0.0.1", port), str) as session:
        while not session.ready():
            check()
            if process.poll() is not None or time.monotonic() > give_up:
                last = log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
                raise StartupError(f"the demo's server did not start: {last[0]}")
            time.sleep(LOOK_S)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main(config: Path, folder: Path | None) -> None:
    """The server's process: serve until SIGTERM, or until the demo is gone; then ``folder`` goes, too."""
    orphaned = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # until the server listens to it
    threading.Thread(target=_watch_parent, args=(orphaned,), daemon=True).start()
    try:
        from jobctl import service, settings

        service.main(settings.load(config))
    finally:
        if folder is not None and orphaned.is_set():
            import shutil

            shutil.rmtree(folder, ignore_errors=True)


def _watch_parent(orphaned: threading.Event) -> None:
    while os.read(0, 1):
        pass
    orphaned.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*(Path(each) for each in sys.argv[1:]), *[None] * (3 - len(sys.argv)))
