"""Quart on Hypercorn as they come, answering an empty JSON POST. ``python -m bench.queues.quart_peer``."""

import asyncio
import os
from typing import Any

from quart import Quart, request

from bench.conversation import say
from bench.quart_server import serve_while
from bench.queues.order import Ready


async def answer() -> dict[str, Any]:
    """Read the body, answer with JSON."""
    await request.get_json()
    return {}


async def stand_by(port: int) -> None:
    """Until stdin ends."""
    say(Ready(port))
    await asyncio.to_thread(os.read, 0, 1)


async def main() -> None:
    """Serve until stdin ends."""
    app = Quart(__name__)
    app.post("/")(answer)
    await serve_while(app, stand_by)


if __name__ == "__main__":
    asyncio.run(main())
