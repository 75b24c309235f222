"""Commands without their start-up: a process that has imported everything, and forks for each command.

Most of what a short command costs is Python's start and its imports, and the tests run hundreds of them. What starts
here is ``python -m jobctl`` all the same, in a process, folder and environment of its own, on descriptors of its own,
and signals reach it as they reach any; only what it would import is there already. (What a command imports, how it
starts, and servers as processes of their own have tests that start them cold.)
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import trio


class Command:
    """A command that runs: what tests use of ``subprocess.Popen``, by the same names."""

    def __init__(
        self, arguments: list[str], *, stdin: int | None = None, stdout: int, stderr: int, env: Mapping[str, str],
        cwd: Path, start_new_session: bool = False,
    ) -> None:  # fmt: skip
        order = {"arguments": arguments, "env": dict(env), "cwd": str(cwd), "session": start_new_session}
        text = json.dumps(order).encode()
        self.returncode: int | None = None
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(_mill())
        with Path(os.devnull).open("rb") as nothing:
            given = nothing.fileno() if stdin is None else stdin
            socket.send_fds(self._line, [len(text).to_bytes(4, "big")], [given, stdout, stderr])
        self._line.sendall(text)
        self.pid = self._number()

    def poll(self) -> int | None:
        """The exit code, negative for a signal, once there is one."""
        if self.returncode is None:
            try:
                self._line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
        return self.wait()

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; ``TimeoutExpired`` where it goes on for longer than so many seconds."""
        if self.returncode is None:
            self._line.settimeout(timeout)
            try:
                self.returncode = self._number()
            except TimeoutError:
                raise subprocess.TimeoutExpired("jobctl", timeout or 0) from None
            self._line.close()  # until then its pid is nobody else's
        return self.returncode

    async def ended(self) -> int:
        """Wait for its end. Cancelled, it is killed."""
        try:
            while self.poll() is None:
                await trio.lowlevel.wait_readable(self._line)
        except trio.Cancelled:
            self.kill()
            self.wait()
            raise
        return self.wait()

    def send_signal(self, number: int) -> None:
        """Send one, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _number(self) -> int:
        text = b""
        while not text.endswith(b"\n"):
            if not (piece := self._line.recv(1)):
                raise ChildProcessError("the process that commands are forked from has ended, or could not start one")
            text += piece
        return int(text)


async def run(arguments: list[str], *, stdin: int, stdout: int, stderr: int, env: dict[str, str], cwd: Path) -> int:
    """Run a command; its exit code, negative for a signal. Cancelled, it is killed."""
    return await Command(arguments, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd).ended()


@functools.cache
def _mill() -> str:
    folder = tempfile.TemporaryDirectory(prefix="jobctl-warm-")
    path = f"{folder.name}/mill"
    process = subprocess.Popen(
        [sys.executable, "-W", "error", __file__, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()  # it listens

    def end() -> None:
        process.communicate()  # at the end of its stdin it leaves
        folder.cleanup()

    atexit.register(end)
    return path


def _serve(path: str) -> None:
    import jobctl

    for module in pkgutil.walk_packages(jobctl.__path__, "jobctl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    sys.path.remove(str(Path(__file__).parent))
    signal.signal(signal.SIGCHLD, _reap)
    gc.collect()
    gc.freeze()  # what is the same in all of them stays shared
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        if os.fork() == 0:
            _leave_with(os.getppid())
        while True:
            line, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _attend(line)
            line.close()


def _reap(*_: object) -> None:
    """What commands took of the processor is counted as the tests' own, as of any child."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _leave_with(mill: int) -> NoReturn:
    """End the mill once the tests have ended, however they did."""
    sys.stdin.buffer.read()
    with contextlib.suppress(ProcessLookupError):
        os.kill(mill, signal.SIGTERM)
    os._exit(0)


def _attend(line: socket.socket) -> NoReturn:
    """Start the command, wait for it, and tell its end."""
    size, descriptors, _, _ = socket.recv_fds(line, 4, 3)
    order: dict[str, Any] = json.loads(line.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
    child = os.fork()
    if child == 0:
        if order["session"]:
            os.setsid()
        line.sendall(b"%d\n" % os.getpid())
        line.close()
        _become(order, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)  # so that who reads the other end of a pipe hears of the command's end
    end = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert end is not None
    code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
    with contextlib.suppress(OSError):
        line.sendall(b"%d\n" % code)
        line.recv(1)  # it is remembered until whoever asked knows of its end
    os.waitpid(child, 0)
    os._exit(0)


def _become(order: dict[str, Any], descriptors: list[int]) -> NoReturn:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.path[:0] = [order["cwd"], *filter(None, order["env"].get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = ["jobctl", *order["arguments"]]
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    code: Any = 0
    try:
        runpy.run_module("jobctl", run_name="__main__", alter_sys=True)
    except SystemExit as left:
        code = left.code
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        sys.excepthook(*sys.exc_info())
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    _serve(sys.argv[1])
