"""What the tests of ``configs/`` share: programs, ports, and a server. Import the fixtures by name."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.kit import LOOPBACK, Running, StartServer

CONFIGS = Path(__file__).parents[2] / "configs"
SBIN = os.pathsep.join(("/usr/sbin", "/usr/local/sbin", os.environ.get("PATH", "")))


def program(name: str, *, in_ci: bool = False) -> str:
    """Where a program is; without it the test is skipped, or fails in CI where it is expected."""
    found = shutil.which(name, path=SBIN)
    if found is None:
        if in_ci and os.environ.get("CI"):
            pytest.fail(f"{name} is needed in CI")
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
async def server(start_server: StartServer) -> Running:
    return await start_server(trusted_proxies=(LOOPBACK,), rate_limit="50/1h")


def given(text: str, *changes: tuple[str, str]) -> str:
    """``text`` with each of ``changes``, of which every one must be in it."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def listens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), 1).close()
    except OSError:
        return False
    return True
