"""Memory that is free goes back to the system."""

import platform
import subprocess
import sys

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jobctl import spare_memory

PIECES = """
import os
from pathlib import Path
from jobctl.spare_memory import trimmer
trim = trimmer()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
start = resident()
pieces = [bytes(3000) for _ in range(20_000)]
high = pieces[::100]  # what stays is spread over it all
del pieces
full = resident()
trim()
print(full - start, resident() - start)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can")
def test_what_lies_between_pieces_that_stay_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PIECES], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 50_000_000
    assert after < before / 4


async def test_it_is_done_once_a_minute(
    nursery: trio.Nursery, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[None] = []
    monkeypatch.setattr(spare_memory, "trimmer", lambda: lambda: done.append(None))
    nursery.start_soon(spare_memory.give_back)
    for times in range(1, 4):
        await wait_all_tasks_blocked()
        mock_clock.jump(59)
        await wait_all_tasks_blocked()
        assert len(done) == times - 1
        mock_clock.jump(1)
        while len(done) < times:
            await trio.lowlevel.checkpoint()


async def test_where_it_cannot_be_done_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare_memory, "trimmer", lambda: None)
    with trio.fail_after(1):
        await spare_memory.give_back()
