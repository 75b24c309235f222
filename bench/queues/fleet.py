"""jobctl as one runs it on PostgreSQL: one ``jobctl serve``, any number of ``jobctl work``, and one who watches.

Real commands, told what to do over the API; nothing of them is in the benchmark's own process.
"""

import json
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.names import ENVIRONMENT
from bench.processes import READY_S, Failed, Process, environment
from bench.queues import load, peer, services
from bench.queues.database import Postgres
from bench.queues.order import BATCH, HOLD, MARK, NO_LIMIT, QUEUE
from bench.side_by_side import cpu_ns, resident
from jobctl import auth

LOOK_EVERY_S: Final = 0.05
PATIENCE_S: Final = 120.0
TASKS: Final = "bench.queues.fleet_tasks"


class Ran(NamedTuple):
    """What came of a turn."""

    rate: float
    """As of the peers: see ``peer.rate``."""
    cpu_us: float
    """CPU of all of our processes for each job."""
    database_us: float
    """CPU of the database's processes for each job."""
    rss: int


class Fleet:
    """Processes that share a database."""

    def __init__(self, folder: Path, port: int, token: str) -> None:
        self._folder = folder
        self._token = token
        self._caller = load.Caller(port)
        self.pids: list[int] = []

    def ask(self, path: str) -> Any:
        """A GET; its data."""
        answer = self._caller.call(load.get(path, self._token))
        return json.loads(answer.partition(b"\r\n\r\n")[2])["data"]

    def tell(self, path: str, body: object = None) -> Any:
        """A POST; its data."""
        raw = b"" if body is None else json.dumps(body).encode()
        return json.loads(self._caller.call(load.post(path, self._token, raw)).partition(b"\r\n\r\n")[2])["data"]

    def marks(self) -> list[tuple[int, int]]:
        """What the handlers have noted so far: a number, and when (CLOCK_MONOTONIC, ns)."""
        path = self._folder / "marks"
        return peer.read(path) if path.exists() else []

    def run(self, jobs: int, database: Postgres) -> Ran:
        """Jobs that all wait, from the moment they may run until the last has ended."""
        self.tell(f"/api/queues/{QUEUE}/pause")
        for first in range(0, jobs, BATCH):
            last = min(first + BATCH, jobs)
            self.tell("/api/jobs/batch", [{"name": MARK, "data": {"n": n}} for n in range(first, last)])
        spent, database_s = self._cpu_s(), database.cpu_s()
        self.tell(f"/api/queues/{QUEUE}/resume")
        path, size = self._folder / "marks", peer.RECORD.size * jobs
        self.await_("run them", lambda: path.exists() and path.stat().st_size >= size)
        self.await_("come to their end", lambda: self.ask("/api/jobs/stats")["completed"] == jobs)
        spent, database_s = self._cpu_s() - spent, database.cpu_s() - database_s
        marks = self.marks()
        if sorted(n for n, _ in marks) != [*range(jobs)]:
            raise Failed(f"of {jobs} jobs {len({n for n, _ in marks})} were run, {len(marks)} runs in all")
        rate = peer.rate(sorted(at for _, at in marks))
        return Ran(rate, spent / jobs * 1e6, database_s / jobs * 1e6, sum(map(resident, self.pids)))

    def cancel_elsewhere(self) -> float:
        """Ms from a cancel, asked of the server, until the handler in the other process has heard of it.

        One job runs in each process (they have one slot each); that of the server itself is cancelled afterwards.
        """
        before = len(self.marks())
        ids = self.tell("/api/jobs/batch", [{"name": HOLD, "data": {"n": n}} for n in range(len(self.pids))])["ids"]
        self.await_("start", lambda: self.ask("/api/jobs/stats")["running"] == len(ids))
        where = {each["id"]: each for each in self.ask("/api/workers")["workers"]}
        jobs = [self.ask(f"/api/jobs/{each}") for each in ids]
        jobs.sort(key=lambda job: where[job["processingBy"]]["kind"])  # serve, work
        took = 0.0
        for job in reversed(jobs):
            asked = time.monotonic_ns()
            self.tell(f"/api/jobs/{job['id']}/cancel")
            before += 1
            self.await_("be told", lambda expected=before: len(self.marks()) == expected, every=0.001)
            took = took or (self.marks()[-1][1] - asked) / 1e6
        self.await_("end", lambda: self.ask("/api/jobs/stats")["running"] == 0)
        return took

    def await_(self, what: str, there: Any, *, every: float = LOOK_EVERY_S) -> None:
        """Until it is ``there``. Raises Failed."""
        until = time.monotonic() + PATIENCE_S
        while not there():
            if time.monotonic() > until:
                raise Failed(f"the jobs did not {what} within {PATIENCE_S:.0f} s")
            time.sleep(every)

    def _cpu_s(self) -> float:
        return sum(map(cpu_ns, self.pids)) / 1e9


@contextmanager
def fleet(url: str, processes: int, concurrency: int, settings: Sequence[str] = ()) -> Iterator[Fleet]:
    """One server, ``processes - 1`` workers, a watcher; all gone at the end.

    Args:
        url: Of the database.
        processes: At least 1.
        concurrency: Jobs at once in each.
        settings: More lines for jobctl.toml.
    """
    with tempfile.TemporaryDirectory(prefix="jobctl-fleet-") as place, ExitStack() as stack:
        folder = Path(place)
        (folder / "empty").mkdir()
        secret, port = secrets.token_urlsafe(48), services.free_port()
        config = folder / "jobctl.toml"
        config.touch(0o600)
        lines = (
            f'db = "{url}"', f"port = {port}", f'state_dir = "{folder / "state"}"', f'app = "{TASKS}"', "grace = 0.1",
            f"concurrency = {concurrency}", f'rate_limit = "{NO_LIMIT}"', *settings, f'auth.secret = "{secret}"',
        )  # fmt: skip
        config.write_text("\n".join(lines) + "\n")
        token = auth.mint(secret.encode(), subject="bench", role="admin")

        env = {name: value for name, value in environment(folder).items() if name != ENVIRONMENT}  # no setting

        def start(name: str, *argv: str) -> Process:
            own = env | {peer.MARKS: str(folder / "marks")}
            process = Process(name, [sys.executable, "-m", *argv], folder, folder / "empty", env=own)
            stack.callback(process.end)
            return process

        server = start("server", "jobctl", "serve", "--config", str(config))
        _await_server(server, port)
        found = Fleet(folder, port, token)
        found.pids.append(server.pid)
        for n in range(1, processes):
            found.pids.append(start(f"worker {n}", "jobctl", "work", "--config", str(config)).pid)
        watcher = start("watcher", "bench.queues.watcher", str(port))
        watcher.say(token.encode())
        watcher.hear(READY_S)
        found.await_("find all workers", lambda: len(found.ask("/api/workers")["workers"]) == processes)
        yield found


def _await_server(server: Process, port: int) -> None:
    """Until it answers. Raises Failed."""
    until = time.monotonic() + READY_S
    while True:
        try:
            load.Caller(port).sock.close()
        except OSError:
            if not server.alive or time.monotonic() > until:
                raise server.ended_early() from None
            time.sleep(LOOK_EVERY_S)
        else:
            return
