"""Ends the programs of a process whose lease has run out, also when that process can do nothing itself.

A server that is frozen, or was killed, leaves its programs running, and their jobs are tried again elsewhere. So a
small process stands beside it, and is told over a pipe until when the lease stands, and what runs. When the lease has
ended it kills these groups, and whatever else says in its environment that it belongs to that lease. When the pipe
closes, its server is gone, and they are ended at once. Where there are no programs there is no guard.

    lease ID UNTIL      the lease ID stands until then, by a clock that both processes have in common
    run PID STARTED     a group leader, with its start time
    end PID             it has been reaped

Run as a program: standard library only, so that it takes 8 MB and 30 ms.
"""

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Final

from jobctl.engine import proc

LEASE: Final = "JOBCTL_WORKER"
"""In the environment of each program: the lease under which it was started."""
EARLY_S: Final = 1.0
"""Before the end of the lease; the server's own stop comes 2 s earlier."""
GRACE_S: Final = 2.0
"""Between SIGTERM and SIGKILL where the server is gone: nobody rescues its jobs so soon."""
AGAIN_S: Final = 0.1
"""Between two rounds of killing: what is being started while one looks is found by the next."""
ROUNDS: Final = 20
NOT_FOR_US: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
log = logging.getLogger("jobctl.guard")


def steady() -> float:
    """Seconds that never jump and go on while the machine sleeps, where the system has such a clock."""
    number = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if number is None else time.clock_gettime(number)


class Guard:
    """The server's end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lease = b""
        self._runs: dict[int, bytes] = {}
        self._wanted = False  # one has gone, and no other could be started

    def start(self) -> None:
        """Have one beside this process, where the system can tell whose a program is.

        Raises:
            OSError: there is no room for one more process.
        """
        if not proc.available():
            log.warning("this system has no /proc: programs of a server that is frozen or killed are not ended")
            return
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_FOR_US)  # it inherits that, until it ignores them
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-S", "-m", "jobctl.engine.guard"],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, cwd="/", start_new_session=True,
            )  # fmt: skip
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._wanted = False
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        os.set_blocking(self._process.stdin.fileno(), False)  # a guard that does not read must not hold up the server
        for line in (self._lease, *self._runs.values()):
            self._write(line)

    def lease(self, lease_id: str, until: float) -> None:
        """The lease was renewed, or is another."""
        self._lease = f"lease {lease_id} {until:.3f}\n".encode()
        self._write(self._lease)

    def began(self, pid: int, started: int) -> None:
        """A program runs, the leader of its group."""
        self._runs[pid] = f"run {pid} {started}\n".encode()
        self._write(self._runs[pid])

    def ended(self, pid: int) -> None:
        """It does so no more."""
        self._runs.pop(pid, None)
        self._write(f"end {pid}\n".encode())

    def _write(self, line: bytes) -> None:
        if self._process is None and self._wanted:
            self._replace()  # it is told all that is known
            return
        if self._process is None or self._process.stdin is None:
            return
        try:  # a line is far below what a pipe takes whole, and the guard does nothing but read
            os.write(self._process.stdin.fileno(), line)
        except OSError as error:
            log.error("the guard of programs is gone or does not read, another is started: %s", error)
            self._process.kill()  # one that is frozen would go by what it was told long ago when it goes on
            self.stop()
            self._wanted = True
            self._replace()

    def _replace(self) -> None:
        try:
            self.start()
        except OSError as error:  # the lease and its runs go on, and the next that is to be told tries again
            log.error("no other guard of programs can be started now: %s", error)

    def stop(self) -> None:
        """Nothing runs any more, or it may end what does."""
        process, self._process, self._wanted = self._process, None, False
        if process is not None:
            assert process.stdin is not None  # noqa: S101 - it was asked for
            with contextlib.suppress(OSError):
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S + AGAIN_S * ROUNDS)


class Watch:
    """The guard's end: what it has been told."""

    def __init__(self) -> None:
        self.leases: dict[str, float] = {}
        self.groups: dict[int, int] = {}

    def hear(self, line: str) -> None:
        """Take one line."""
        match line.split():
            case ["lease", lease_id, until]:
                self.leases = {lease_id: float(until)}
            case ["run", pid, started]:
                self.groups[int(pid)] = int(started)
            case ["end", pid]:
                self.groups.pop(int(pid), None)

    def left(self, now: float) -> float | None:
        """Seconds until the lease is over; None: none stands."""
        ends = max(self.leases.values(), default=None)
        return None if ends is None else ends - EARLY_S - now

    def end_all(self, *, grace: float = 0.0) -> None:
        """Kill everything of the lease, after so many seconds of SIGTERM, until nothing of it is left."""
        marks = {f"{LEASE}={each}".encode() for each in self.leases}
        by = steady() + grace
        number = signal.SIGTERM if grace else signal.SIGKILL
        for _ in range(ROUNDS):
            while found := proc.members(self.groups, marks):
                proc.send(found, number)
                time.sleep(AGAIN_S)
                if steady() >= by:
                    break
            number = signal.SIGKILL
            if not found:
                break
        self.groups.clear()
        self.leases.clear()


def watch(pipe: IO[bytes]) -> None:
    """Guard until the pipe closes."""
    told, rest = Watch(), b""
    selector = selectors.DefaultSelector()
    selector.register(pipe, selectors.EVENT_READ)
    while True:
        left = told.left(steady())
        over = left is not None and left <= 0
        # One that was frozen, while its server was not, may have yet to read that the lease was renewed.
        if not selector.select(0 if over else left):
            if over:
                told.end_all()
            continue
        read = os.read(pipe.fileno(), 65_536)
        if not read:
            told.end_all(grace=0.0 if over else GRACE_S)
            return
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            told.hear(line.decode())


def main() -> None:
    """The guard's program. What is meant for its server is not meant for it: it goes when that has gone."""
    for number in NOT_FOR_US:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOT_FOR_US)
    watch(sys.stdin.buffer)


if __name__ == "__main__":
    main()
