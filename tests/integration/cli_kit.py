"""What the tests of the command line share: ``jobctl`` as a shell runs it. Import the fixture by name."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pty
import signal
import struct
import sys
import tempfile
import termios
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
import warm

from tests.kit import until

ROOT = Path(__file__).parents[2]


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **more}


class Cli:
    """Runs ``jobctl``; it knows the server once there is one."""

    def __init__(self, tmp_path: Path) -> None:
        self.url: str | None = None
        self.folder = tmp_path

    def arguments(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "jobctl", *arguments]

    def env(self, more: dict[str, str] | None = None) -> dict[str, str]:
        return environment(**({"JOBCTL_URL": self.url} if self.url else {}), **(more or {}))

    async def __call__(self, *arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Result:
        with contextlib.ExitStack() as stack:
            given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            given.write(stdin)
            given.seek(0)
            with trio.fail_after(60):
                code = await warm.run(
                    [*arguments], stdin=given.fileno(), stdout=out.fileno(), stderr=err.fileno(), env=self.env(env),
                    cwd=self.folder,
                )  # fmt: skip
            told = [each.read().decode() for each in (out, err) if each.seek(0) == 0]
        result = Result(code, *told)
        assert "Traceback" not in result.err, result.err
        assert "Warning" not in result.err, result.err
        return result

    @contextlib.asynccontextmanager
    async def piped(self, *arguments: str) -> AsyncIterator[Piped]:
        """A command that runs, with both of its outputs to read."""
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        command = self.start(*arguments, stdout=out_end, stderr=err_end)
        os.close(out_end)
        os.close(err_end)
        async with trio.lowlevel.FdStream(out) as stdout, trio.lowlevel.FdStream(err) as stderr:
            try:
                yield Piped(command, stdout, stderr)
            finally:
                command.kill()
                command.wait()

    def start(self, *arguments: str, stdout: int, stderr: int, **more: Any) -> warm.Command:
        return warm.Command([*arguments], stdout=stdout, stderr=stderr, env=self.env(), cwd=self.folder, **more)

    async def interrupted(self, *arguments: str, when: Callable[[bytes], bool]) -> Result:
        """Ctrl-C as soon as stdout satisfies ``when``."""
        out = b""
        with trio.fail_after(30):
            async with self.piped(*arguments) as command:
                while not when(out):
                    out += await command.stdout.receive_some()
                command.process.send_signal(signal.SIGINT)
                out += await rest(command.stdout)
                err = await rest(command.stderr)
                code = await command.process.ended()
        return Result(code, out.decode(), err.decode())


class Piped(NamedTuple):
    process: warm.Command
    stdout: trio.abc.ReceiveStream
    stderr: trio.abc.ReceiveStream


async def rest(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


class Terminal:
    """A pseudo-terminal with a ``jobctl`` on it."""

    def __init__(
        self, cli: Cli, *arguments: str, rows: int = 12, columns: int = 80, env: dict[str, str] | None = None
    ) -> None:
        self.text = b""
        main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = warm.Command(
            [*arguments], stdin=other, stdout=other, stderr=other, cwd=cli.folder, start_new_session=True,
            env=cli.env({"TERM": "xterm-256color", **(env or {})}),
        )  # fmt: skip
        os.close(other)
        os.set_blocking(main, False)
        self._main = main

    def read(self) -> bytes:
        while True:
            try:
                chunk = os.read(self._main, 65536)
            except BlockingIOError:
                return self.text
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                return self.text
            if not chunk:
                return self.text
            self.text += chunk

    async def shows(self, text: str, seconds: float = 20) -> None:
        try:
            await until(lambda: text.encode() in self.read(), seconds)
        except trio.TooSlowError:
            raise AssertionError(f"{text!r} is not in {self.text.decode()!r}") from None

    async def interrupt(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return await self.end()

    async def end(self) -> int:
        await until(lambda: self.process.poll() is not None, 30)
        self.read()
        os.close(self._main)
        return self.process.wait()


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)
