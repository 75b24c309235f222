"""Quart on Hypercorn as they come, answering an empty JSON POST. ``python -m bench.queues.quart_peer``."""

import asyncio
import os
import socket
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, request

from bench.queues.order import Ready, say


async def answer() -> dict[str, Any]:
    """Read the body, answer with JSON."""
    await request.get_json()
    return {}


async def main() -> None:
    """Serve until stdin ends."""
    app = Quart(__name__)
    app.post("/")(answer)
    sock = socket.create_server(("127.0.0.1", 0), backlog=256)
    config = Config()
    config.bind = [f"fd://{sock.fileno()}"]
    config.graceful_timeout = 0
    config.loglevel = "WARNING"
    over = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=over.wait))
    say(Ready(sock.getsockname()[1]))
    await asyncio.to_thread(os.read, 0, 1)
    over.set()
    await serving


if __name__ == "__main__":
    asyncio.run(main())
