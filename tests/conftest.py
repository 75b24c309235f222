"""A real server in the test's own process: real store, real sockets, port chosen by the system."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from jobctl.engine.registry import Registry
from jobctl.service import Service, serve
from jobctl.settings import Settings, load
from tests.kit import Running, StartServer

pytest.register_assert_rewrite("tests.model", "tests.faults")

if threading.current_thread() is threading.main_thread():
    # A shell's `&` and nohup start programs that ignore these, and their children do, too: no test of Ctrl-C would end.
    for each, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(each) is signal.SIG_IGN:
            signal.signal(each, usual)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the long form of the model, the faults and the abuse: hours")


@pytest.fixture(scope="session")
def long_form(request: pytest.FixtureRequest) -> bool:
    """Whether the suites that try many things try as many as they can, not as many as CI has time for."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the developer's own reaches a test, and no test touches the developer's state folder."""
    for name in list(os.environ):
        if name.startswith("JOBCTL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("JOBCTL_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
async def start_server(nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StartServer:
    """Starts servers; they end with the test. Settings are given by name; ``registry`` replaces the handlers."""

    async def start(registry: Registry | None = None, **settings: Any) -> Running:
        defaults = {
            "port": 0,
            "db": tmp_path / "jobs.db",
            "state_dir": tmp_path / "state",
            "accept_unknown": True,
            "durability": "normal",  # what a sync is for has tests of its own; here it would only cost time
        }
        chosen = load(None, **defaults | settings)
        handlers = registry or Registry(accept_unknown=True)
        with monkeypatch.context() as patch:
            patch.setattr("jobctl.engine.registry.load", lambda _: handlers)
            service: Service = await nursery.start(_serve, chosen)
        return Running(service, chosen)

    return start


async def _serve(settings: Settings, *, task_status: trio.TaskStatus[Service]) -> None:
    await serve(settings, signals=False, task_status=task_status)


@pytest.fixture
async def server(start_server: StartServer) -> Running:
    """A server that takes every name. ``noop`` has no handler here: it stays pending; ``hold`` runs for ever."""
    registry = Registry(accept_unknown=True)

    @registry.job("hold")
    async def hold(ctx: object) -> None:
        await trio.sleep_forever()

    return await start_server(registry)
