"""``jobctl demo``: what it does, and that nothing of it stays, however it ends."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import gzip
import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from cli_kit import Cli, cli  # noqa: F401

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
    process = await trio.lowlevel.open_process(
        cli.arguments("demo", "--path", str(source), "--limit", "300"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=cli.env({"TMPDIR": str(tmp_path)}), cwd=cli.folder,
    )  # fmt: skip
    assert process.stdout is not None
    said = b""
    with trio.fail_after(40):
        while when not in said:
            said += await process.stdout.receive_some()
        process.send_signal(number)
        async for chunk in process.stdout:
            said += chunk
        assert await process.wait() == 128 + number
    await process.stdout.aclose()
    assert said.endswith(b"jobctl: stopped; the server and its jobs are gone\n")
    assert b"Traceback" not in said
    assert not left_behind(tmp_path)
    assert processes_of(tmp_path) == b""


async def test_the_server_of_a_demo_that_is_killed_ends_and_takes_its_folder_along(cli: Cli, tmp_path: Path) -> None:
    source = a_folder(tmp_path / "source", 300)
    process = await trio.lowlevel.open_process(
        cli.arguments("demo", "--path", str(source), "--limit", "300"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=cli.env({"TMPDIR": str(tmp_path)}), cwd=cli.folder,
    )  # fmt: skip
    assert process.stdout is not None
    said = b""
    with trio.fail_after(40):
        while b"running" not in said:
            said += await process.stdout.receive_some()
        await until(lambda: processes_of(tmp_path), 20)
        process.kill()
        await process.wait()
    await process.stdout.aclose()
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
