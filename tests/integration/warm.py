"""Commands without their start-up: a process that has imported everything, and forks for each command.

Most of what a short command costs is Python's start and its imports, and the tests run hundreds of them. What starts
here is ``python -m jobctl`` all the same, in a process, folder and environment of its own, on descriptors of its own;
only what it would import is there already. (What a command imports, and how it starts, has tests that start it cold.)
"""

from __future__ import annotations

import atexit
import contextlib
import functools
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
from pathlib import Path
from typing import Any, NoReturn

import trio

MAX_ORDER = 1024 * 1024


async def run(arguments: list[str], *, stdin: int, stdout: int, stderr: int, env: dict[str, str], cwd: Path) -> int:
    """Run a command; its exit code, negative for a signal. Cancelled, it is killed."""
    order = json.dumps({"arguments": arguments, "env": env, "cwd": str(cwd)}).encode()
    with trio.socket.socket(trio.socket.AF_UNIX) as line:
        await line.connect(_mill())
        raw = line.detach()  # the descriptors go by a call that trio does not have
    plain = socket.socket(fileno=raw)
    socket.send_fds(plain, [len(order).to_bytes(4, "big")], [stdin, stdout, stderr])
    plain.sendall(order)
    with trio.socket.from_stdlib_socket(plain) as line:
        return int(await line.recv(16))


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
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
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
        line.close()
        _become(order, descriptors)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        line.sendall(b"%d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(order: dict[str, Any], descriptors: list[int]) -> NoReturn:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
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
