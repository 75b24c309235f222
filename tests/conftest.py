"""A real server in the test's own process: real store, real sockets, port chosen by the system."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import trio

from jobctl.engine.registry import Registry
from jobctl.service import Service, serve
from jobctl.settings import Settings, load
from tests.kit import Running, StartServer
from tests.postgres_kit import Cluster, empty, shared

pytest.register_assert_rewrite("tests.model", "tests.faults")

if threading.current_thread() is threading.main_thread():
    # A shell's `&` and nohup start programs that ignore these, and their children do, too: no test of Ctrl-C would end.
    for each, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(each) is signal.SIG_IGN:
            signal.signal(each, usual)

# The tests start Python hundreds of times: what is compiled once is kept, also where the environment says otherwise.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

MEMORY = Path("/dev/shm")
ROOM = 2 * 2**30
"""Bytes that must be free there: the folders of the whole suite take 700 MB."""


def pytest_configure(config: pytest.Config) -> None:
    """Have the temporary folders in memory where there is room for them, unless somebody has said where.

    A store takes some twenty syncs from its making to its end, and the suite makes thousands. On a disk the suite
    mostly waits for them; that they are made, and when, has tests that look at the calls.
    """
    if not os.access(MEMORY, os.W_OK):
        return
    found = os.statvfs(MEMORY)
    runs_programs = not found.f_flag & os.ST_NOEXEC  # containers often forbid it, and tests write some
    if runs_programs and found.f_bavail * found.f_frsize > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """One more worker than cores: every third second of a test is one that it waits."""
    return (yield) + ("PYTEST_XDIST_AUTO_NUM_WORKERS" not in os.environ)


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
            ended = trio.Event()
            service: Service = await nursery.start(_serve, chosen, ended)
        return Running(service, chosen, ended)

    return start


async def _serve(settings: Settings, ended: trio.Event, *, task_status: trio.TaskStatus[Service]) -> None:
    try:
        await serve(settings, signals=False, task_status=task_status)
    finally:
        ended.set()


@pytest.fixture
async def server(start_server: StartServer) -> Running:
    """A server that takes every name. ``noop`` has no handler here: it stays pending; ``hold`` runs for ever."""
    registry = Registry(accept_unknown=True)

    @registry.job("hold")
    async def hold(ctx: object) -> None:
        await trio.sleep_forever()

    return await start_server(registry)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """The session's PostgreSQL, which all workers share."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    base = tmp_path_factory.getbasetemp()
    return shared(base.parent if worker else base, os.getppid() if worker else os.getpid())


@pytest.fixture(scope="session")
def database(cluster: Cluster) -> str:
    """This worker's database there."""
    return cluster.create("jobctl_" + os.environ.get("PYTEST_XDIST_WORKER", "main"))


@pytest.fixture
def postgres_url(database: str) -> str:
    """This worker's database, with nothing in it."""
    empty(database)
    return database
