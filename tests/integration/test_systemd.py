"""systemd's side of ``configs/``, and what other systems lack."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from deployment_kit import CONFIGS, given, listens, program, server  # noqa: F401

from jobctl.store.sqlite import _durable_pragmas
from tests.kit import LOOPBACK, StartServer

# --- systemd ---------------------------------------------------------------------------------------------------------


def test_systemd_takes_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    binary = program("systemd-analyze")
    unit = tmp_path / "jobctl.service"
    unit.write_text(given((CONFIGS / "jobctl.service").read_text(), ("/opt/jobctl/bin/jobctl", "/bin/true")))
    verified = subprocess.run([binary, "verify", str(unit)], capture_output=True, text=True, check=False)
    complaints = [line for line in verified.stderr.splitlines() if "jobctl.service" in line]
    assert (verified.returncode, complaints) == (0, [])
    rated = subprocess.run(
        [binary, "security", "--offline=true", "--threshold=20", str(unit)], capture_output=True, text=True, check=False
    )
    if "unrecognized option" not in rated.stderr:  # before systemd 250
        assert rated.returncode == 0, rated.stdout[-2000:]


def test_the_unit_gives_a_stop_the_time_that_it_may_take() -> None:
    from jobctl.engine.engine import LAST_MOMENT_S
    from jobctl.settings import Settings

    unit = (CONFIGS / "jobctl.service").read_text()
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(seconds) > Settings.model_fields["grace"].default + LAST_MOMENT_S
    assert "\nKillMode=mixed\n" in unit
    assert "\nType=notify\n" in unit


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        yield sock


async def told(manager: socket.socket, what: str) -> str:
    """The next datagram that says ``what``."""
    with trio.fail_after(10):
        while True:
            await trio.lowlevel.wait_readable(manager)
            message = manager.recv(4096).decode()
            if what in message.splitlines():
                return message


async def test_systemd_hears_of_readiness_liveness_reload_and_stop(
    manager: socket.socket, start_server: StartServer
) -> None:
    server = await start_server()
    assert f"STATUS=listens on http://{LOOPBACK}:{server.port}" in await told(manager, "READY=1")
    for _ in range(3):
        await told(manager, "WATCHDOG=1")
    server.service.reload()
    assert "MONOTONIC_USEC=" in await told(manager, "RELOADING=1")
    await told(manager, "READY=1")
    server.service.stop()
    await told(manager, "STOPPING=1")


async def test_the_manager_hears_nothing_while_the_event_loop_stands(
    manager: socket.socket, start_server: StartServer
) -> None:
    import time

    await start_server()
    await told(manager, "READY=1")
    await told(manager, "WATCHDOG=1")
    time.sleep(0.5)  # noqa: ASYNC251 - more than twice the interval
    heard = []
    try:
        while True:
            heard.append(manager.recv(4096))
    except BlockingIOError:
        pass
    assert len(heard) <= 1


# --- other systems ---------------------------------------------------------------------------------------------------


def test_macos_is_asked_to_write_through_the_drives_cache() -> None:
    assert _durable_pragmas("darwin") == ("fullfsync", "checkpoint_fullfsync")
    assert _durable_pragmas("linux") == ()


async def test_the_pragmas_are_known_to_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobctl.store import sqlite

    monkeypatch.setattr(sqlite, "_durable_pragmas", lambda _: _durable_pragmas("darwin"))
    async with sqlite.open_store(tmp_path / "jobs.db", state_dir=tmp_path / "state") as store:
        for name in _durable_pragmas("darwin"):
            assert store._connection.pragma(name) == 1
