"""Redis and PostgreSQL for the peers that need one: throw-away, on a free port of this machine, ended by their pid."""

import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.processes import Failed

HOST: Final = "127.0.0.1"
PROTOCOL: Final = 3 << 16
"""Of PostgreSQL, version 3.0."""
START_S: Final = 30.0
STOP_S: Final = 10.0
REDIS: Final = "redis"
POSTGRES: Final = "postgres"


def redis_program() -> str | None:
    """Where it is."""
    return shutil.which("redis-server")


def postgres_programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres``, which Debian keeps off the path."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis with its log on disk, synced once a second (its own default for that log); its URL."""
    program, port = redis_program(), free_port()
    assert program is not None  # noqa: S101 - the caller has looked
    argv = [
        program, "--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", "",
        "--appendonly", "yes", "--appendfsync", "everysec",
    ]  # fmt: skip
    with _running(argv, folder / "redis.log", port):
        yield f"redis://{HOST}:{port}/0"


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL with its defaults: every commit is synced; its URL."""
    with postgres_process(folder) as (url, _):
        yield url


@contextmanager
def postgres_process(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """The same, with its process id. ``options``: settings beside the defaults, ``NAME=VALUE``."""
    programs, port = postgres_programs(), free_port()
    assert programs is not None  # noqa: S101 - the caller has looked
    data = folder / "data"
    data.mkdir(mode=0o700)
    user = _unprivileged(folder, data)
    made = subprocess.run(  # noqa: S603 - found above
        [str(programs / "initdb"), "-D", str(data), "-A", "trust", "-E", "UTF8", "-U", "postgres"],
        capture_output=True, text=True, check=False, user=user, cwd=folder,
    )  # fmt: skip
    if made.returncode != 0:
        raise Failed(f"initdb: {(made.stderr.strip().splitlines() or ['it failed'])[-1]}")
    argv = [
        str(programs / "postgres"), "-D", str(data), "-p", str(port), "-c", f"listen_addresses={HOST}",
        "-c", "unix_socket_directories=", *(part for each in options for part in ("-c", each)),
    ]  # fmt: skip
    with _running(argv, folder / "postgres.log", port, user) as pid:
        _await_ready(port)
        yield f"postgresql://postgres@{HOST}:{port}/postgres", pid


def _await_ready(port: int) -> None:
    """It listens before it lets anybody in: then the first byte of its answer is no error's."""
    until = time.monotonic() + START_S
    hello = struct.pack(">i", PROTOCOL) + b"user\0postgres\0database\0postgres\0\0"
    while time.monotonic() < until:
        with socket.create_connection((HOST, port), timeout=START_S) as sock:
            sock.sendall(struct.pack(">i", len(hello) + 4) + hello)
            if sock.recv(1) == b"R":
                return
        time.sleep(0.05)
    raise Failed("postgres lets nobody in")


def _unprivileged(*folders: Path) -> str | None:
    """PostgreSQL refuses to run as root: whom to run it as, who then owns the folders."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        for folder in folders:
            os.chown(folder, found.pw_uid, found.pw_gid)
        return name
    raise Failed("PostgreSQL does not run as root, and there is no other user")


@contextmanager
def _running(argv: Sequence[str], log: Path, port: int, user: str | None = None) -> Iterator[int]:
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - found by the caller
            argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL, user=user, cwd=log.parent, start_new_session=True
        )
    try:
        _await_port(process, port, argv[0])
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)  # both end in order, and PostgreSQL does not wait for its clients
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_port(process: subprocess.Popen[bytes], port: int, name: str) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise Failed(f"{Path(name).name} does not start") from None
            time.sleep(0.05)
        else:
            return


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server((HOST, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port
