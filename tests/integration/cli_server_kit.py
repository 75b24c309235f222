"""The server of the command line's tests. Import the fixture by name."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

from typing import Any

import pytest
import trio
from cli_kit import Cli, Result, Terminal, cli  # noqa: F401

from jobctl.engine.registry import Registry
from jobctl.errors import NoRetry
from tests.kit import Running, StartServer

MISSING = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
async def server(start_server: StartServer, cli: Cli) -> Running:
    registry = Registry(accept_unknown=False)

    @registry.job("ok")
    async def ok(ctx: Any, **data: Any) -> Any:
        ctx.log("hello")
        return data

    @registry.job("fail")
    async def fail(ctx: Any) -> None:
        for n in range(15):
            ctx.log(f"line {n} \x1b[31m")
        raise NoRetry("broken \x1b[2J pipe")

    @registry.job("slow")
    async def slow(ctx: Any, seconds: float = 0.3) -> None:
        ctx.progress(0.5, "half way")
        await trio.sleep(seconds)

    @registry.job("hold")
    async def hold(ctx: Any) -> None:
        await trio.sleep_forever()

    running = await start_server(registry, cancel_grace=0.1)
    cli.url = running.service.url
    return running
