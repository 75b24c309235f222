"""``jobctl demo``: what it does, and that nothing of it stays, however it ends."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import warm
from cli_kit import Cli, cli, rest  # noqa: F401

from tests.kit import until


def a_folder(path: Path, files: int) -> Path:
    path.mkdir()
    for n in range(files):
        (path / f"file {n} ü.txt").write_text(f"line {n}\n" * 2000)
    return path


def contents(folder: Path, pattern: str = "*") -> dict[Path, bytes]:
    return {each: each.read_bytes() for each in sorted(folder.glob(pattern))}


def left_behind(folder: Path) -> list[Path]:
    return list(folder.glob("jobctl-demo-*"))


async def test_the_demo_packs_files_shows_the_bill_and_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    source = a_folder(tmp_path / "source", 8)
    before = contents(source)
    done = await cli("demo", "--path", str(source), "--limit", "6", env={"TMPDIR": str(tmp_path)})
    assert done.code == 0, done.err
    assert "6 of 6 files packed" in done.out
    assert "pushed   2 HTTP requests and 1 connection" in done.out
    assert "90 requests per client in 15 minutes" in done.out
    assert contents(source) == before
    assert not left_behind(tmp_path)


async def test_the_demo_keeps_what_it_made_if_asked(cli: Cli, tmp_path: Path) -> None:
    source = a_folder(tmp_path / "source", 2)
    done = await cli("demo", "--path", str(source), "--keep", env={"TMPDIR": str(tmp_path)})
    [folder] = left_behind(tmp_path)
    assert str(folder) in done.err
    packed = contents(folder / "packed", "*.gz")
    assert [gzip.decompress(each) for each in packed.values()] == list(contents(source).values())
    sums = (folder / "packed" / "SHA256SUMS").read_text("utf-8").splitlines()
    assert sums == [f"{hashlib.sha256(text).hexdigest()}  {each}" for each, text in contents(source).items()]


@contextlib.asynccontextmanager
async def a_demo(cli: Cli, source: Path) -> AsyncIterator[tuple[warm.Command, trio.lowlevel.FdStream]]:
    """A demo that goes on for a while, and all that it says. It ends with the block, if not before."""
    reader, writer = os.pipe()
    env = cli.env({"TMPDIR": str(cli.folder)})
    arguments = ["demo", "--path", str(source), "--limit", "300"]
    process = warm.Command(arguments, stdout=writer, stderr=writer, env=env, cwd=cli.folder)
    os.close(writer)
    with trio.fail_after(60):
        async with trio.lowlevel.FdStream(reader) as output:
            try:
                yield process, output
            finally:
                process.terminate()


def processes_of(folder: Path) -> bytes:
    return subprocess.run(["pgrep", "-f", str(folder / "jobctl-demo-")], capture_output=True, check=False).stdout


@pytest.mark.parametrize(
    ("number", "when"),
    [(signal.SIGHUP, b"checksums"), (signal.SIGINT, b"running"), (signal.SIGTERM, b"running")],
)
async def test_the_demo_that_is_stopped_leaves_nothing_and_says_so(
    cli: Cli, tmp_path: Path, number: signal.Signals, when: bytes
) -> None:
    source = a_folder(tmp_path / "source", 300)
    said = b""
    async with a_demo(cli, source) as (process, output):
        while when not in said:
            said += await output.receive_some()
        process.send_signal(number)
        said += await rest(output)
        assert await process.ended() == 128 + number
    assert said.endswith(b"jobctl: stopped; the server and its jobs are gone\n")
    assert b"Traceback" not in said
    assert not left_behind(tmp_path)
    assert processes_of(tmp_path) == b""


async def test_the_server_of_a_demo_that_is_killed_ends_and_takes_its_folder_along(cli: Cli, tmp_path: Path) -> None:
    source = a_folder(tmp_path / "source", 300)
    said = b""
    async with a_demo(cli, source) as (process, output):
        while b"running" not in said:
            said += await output.receive_some()
        await until(lambda: processes_of(tmp_path), 20)
        process.kill()
        await process.ended()
    await until(lambda: not processes_of(tmp_path), 20)
    assert not left_behind(tmp_path)


async def test_a_demo_whose_reader_leaves_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    source = a_folder(tmp_path / "source", 20)
    command = f"{sys.executable} -m jobctl demo --path {source} | head -1; exit ${{PIPESTATUS[0]}}"
    done = await trio.run_process(
        ["bash", "-c", command], capture_stdout=True, capture_stderr=True, env=cli.env({"TMPDIR": str(tmp_path)}),
        cwd=cli.folder,
    )  # fmt: skip
    assert done.stderr.count(b"\n") == 1
    assert not left_behind(tmp_path)
    assert processes_of(tmp_path) == b""
