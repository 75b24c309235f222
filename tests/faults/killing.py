"""Killing lives at chosen points, and looking at what they leave."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import IO, Any, Final

import apsw
import msgspec

from jobctl.model import JobQuery
from jobctl.store import reads
from jobctl.store.check import check
from jobctl.store.sqlite_writer import SqliteSnapshot
from tests.faults.life import Order, commands_of, lines
from tests.model.replay import Replay

ROOT: Final = Path(__file__).parents[2]
STRACE: Final = shutil.which("strace")
PATIENCE_S: Final = 60.0
ENDED: Final = ("completed", "failed", "cancelled")


class Nursery:
    """The process that lives are forked from."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBCTL_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.life"],
            cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            bufsize=0,  # a line that waits in a buffer is one that ``select`` knows nothing of
        )  # fmt: skip

    def bear(self, order: Order) -> int:
        """A new life, that waits for ``go``; its pid."""
        go = Path(order.folder) / "go"
        if not go.exists():
            os.mkfifo(go)
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        return int(self.hear("pid"))

    def hear(self, word: str) -> str:
        """Wait for a line that begins with ``word``; the rest of it. Others are left out."""
        assert self._process.stdout is not None
        while True:
            line = _line(self._process.stdout).split()
            if not line:
                raise AssertionError("the process that lives are forked from has ended")
            if line[0] == "ended" and word != "ended":
                raise AssertionError(f"a life has ended by itself with {line[1]}")
            if line[0] == word:
                return line[1] if len(line) > 1 else ""

    def close(self) -> None:
        """End it."""
        for each in (self._process.stdin, self._process.stdout):
            assert each is not None
            each.close()
        self._process.wait(10)


def _line(stream: IO[bytes]) -> str:
    ready, _, _ = select.select([stream], [], [], PATIENCE_S)
    assert ready, "nothing was heard for too long"
    return stream.readline().decode()


class Tracer:
    """``strace`` on a process: kills it when it enters its ``nth`` call of ``syscall`` (counted by thread)."""

    def __init__(self, pid: int, syscall: str, nth: int) -> None:
        self._process = subprocess.Popen(
            [
                str(STRACE), "-f", "-p", str(pid), "-e", f"trace={syscall}", "-o", "/dev/null",
                "-e", f"inject={syscall}:signal=KILL:when={nth}",
            ],
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._process.stderr is not None
        line = _line(self._process.stderr)
        assert "attached" in line, line

    def close(self) -> None:
        """Let go."""
        self._process.terminate()
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process.wait(10)


class Series:
    """Many lives on one database, each killed, and the last one that brings all to its end."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self.folder = folder
        self._nursery = nursery
        self._seed = 0
        self._opened: list[int] = []
        self._pid = 0

    def _bear(self, seconds: float, *, last: bool = False) -> int:
        self._seed += 1
        while self._opened:
            os.close(self._opened.pop())
        order = Order(folder=str(self.folder), seed=self._seed, seconds=seconds, last=last)
        self._pid = self._nursery.bear(order)
        return self._pid

    def _go(self) -> None:
        # Both ends at once: this does not wait for a life that is killed before it opens its own.
        go = os.open(self.folder / "go", os.O_RDWR | os.O_NONBLOCK)
        os.write(go, b"!")
        self._opened.append(go)

    def kill_at(self, syscall: str, nth: int, seconds: float) -> bool:
        """A life that is killed at that call; where it does not come to it, after its load. Whether it came to it."""
        pid = self._bear(seconds)
        tracer = Tracer(pid, syscall, nth)
        try:
            self._go()
            reached = self._ended_before("loaded")
            if not reached:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    reached = True  # it came to it after its load
                assert self._nursery.hear("ended") == "-9"
        finally:
            tracer.close()
        return reached

    def kill_after(self, seconds: float) -> None:
        """A life that is killed so long after its start, wherever it is."""
        pid = self._bear(10.0)
        self._go()
        select.select([], [], [], seconds)
        os.kill(pid, signal.SIGKILL)
        assert self._nursery.hear("ended") == "-9", self.errors()

    def _ended_before(self, word: str) -> bool:
        try:
            self._nursery.hear(word)
        except AssertionError as error:
            if "by itself with -9" in str(error):
                return True
            raise AssertionError(f"{error}\n{self.errors()}\n{self.threads()}") from None
        return False

    def threads(self) -> str:
        """Where the last life stands, if it does."""
        return "\n".join(
            " ".join((task.name, *((task / what).read_text().strip()[:200] for what in ("comm", "wchan", "syscall"))))
            for task in Path(f"/proc/{self._pid}/task").glob("*")
        )

    def errors(self) -> str:
        """What the lives have said."""
        return "\n".join(lines(self.folder / "errors")[-40:])

    # --- what was left -------------------------------------------------------------------------------------------

    def look(self) -> None:
        """The files as the kill has left them, in a copy: sound, and nothing acknowledged is missing."""
        assert not lines(self.folder / "broken"), "\n".join(lines(self.folder / "broken")) + self.errors()
        database = self.folder / "jobs.db"
        if not database.exists() or not database.stat().st_size:
            assert not lines(self.folder / "acks"), "there are answers, and no database"
            return
        copied = self.folder / "copy"
        copied.mkdir()
        try:
            for suffix in ("", "-wal"):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(self.folder / f"jobs.db{suffix}", copied / f"jobs.db{suffix}")
            with contextlib.closing(apsw.Connection(str(copied / "jobs.db"))) as connection:
                if not connection.pragma("user_version"):
                    assert not lines(self.folder / "acks"), "there are answers, and no tables"
                    return
                there = {row[0] for row in connection.execute("SELECT id FROM job")}
            report = check(copied / "jobs.db")
            assert report.ok or not report.epoch, report.problems
            lost = self.acknowledged() - there
            assert not lost, f"{len(lost)} acknowledged jobs are lost: {sorted(lost)[:3]}"
        finally:
            shutil.rmtree(copied)

    def acknowledged(self) -> set[str]:
        """Ids of all jobs that somebody was told of."""
        found: set[str] = set()
        for line in lines(self.folder / "acks"):
            what, *values = line.split()
            if what == "jobs":
                found |= {*values}
            elif what == "key":
                found |= {*values[1:]}
        return found

    def finish(self) -> Counter[str]:
        """The last life ends all; the whole story is looked at. What became of how many jobs."""
        self._bear(0.0, last=True)
        self._go()
        try:
            assert self._nursery.hear("ended") == "0"
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.errors()}") from None
        self.look()
        assert not commands_of(self.folder), "a command is left"
        with contextlib.closing(apsw.Connection(str(self.folder / "jobs.db"))) as connection:
            log = reads.events(SqliteSnapshot(connection), 0, 10**6, None)
            jobs: list[Any] = []
            cursor = None
            while True:
                page = reads.jobs(SqliteSnapshot(connection), JobQuery(limit=200, cursor=cursor))
                jobs += page.jobs
                cursor = page.cursor
                if cursor is None:
                    break
        replay = Replay()
        ends: Counter[str] = Counter()
        for event in log.events:
            replay.take(event)
            if event.status in ENDED and event.status_before != event.status:
                ends[event.job_id] += 1
        assert {job.id: msgspec.json.decode(msgspec.json.encode(job)) for job in jobs} == replay.rows
        assert all(job.status in ENDED for job in jobs)
        assert ends == Counter({job.id: 1 for job in jobs}), "a job has had more or fewer ends than one"
        told = [f"{event.seq} {event.job_id} {event.status}" for event in log.events]
        assert lines(self.folder / "watch") == told, "a watcher has missed something, or seen it twice"
        keys = {line.split()[1] for line in lines(self.folder / "acks") if line.startswith("asks ")}
        made = Counter(tag for job in jobs for tag in job.tags)
        assert made == Counter(keys), "a key made more or fewer jobs than one"
        return Counter(job.status.value for job in jobs)
