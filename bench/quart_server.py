"""Quart on Hypercorn, both as they come: a peer of two benchmarks."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart


async def serve_while(app: Quart, work: Callable[[int], Awaitable[object]]) -> None:
    """Serve ``app`` on a free port until ``work``, given the port, has returned."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=4096)
    config = Config()
    config.bind = [f"fd://{sock.fileno()}"]
    config.graceful_timeout = 0
    config.loglevel = "WARNING"
    over = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=over.wait))
    await work(sock.getsockname()[1])
    over.set()
    await serving
