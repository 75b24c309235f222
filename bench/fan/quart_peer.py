"""Quart on Hypercorn, both as they come. Run as ``python -m bench.fan.quart_peer ORDER.json``."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, websocket

from bench.fan.peer import Peer, order
from bench.fan.speaking import CONNECTED, GREETING, SUBSCRIBED


class OnHypercorn(Peer):
    """See ``peer``. ``members`` are Quart's WebSockets."""

    async def talk(self) -> None:
        """One connection, whole."""
        await websocket.accept()
        await websocket.send(GREETING.decode())
        self.check(await websocket.receive())
        await websocket.send(CONNECTED.decode())
        await websocket.receive()
        current: Any = websocket
        member = current._get_current_object()  # noqa: SLF001 - as Quart's documentation has it
        self.members[member] = None
        try:
            await websocket.send(SUBSCRIBED.decode())
            while True:
                await websocket.receive()
        finally:
            del self.members[member]

    async def send(self, payloads: Sequence[str]) -> None:
        """Send each of these to every member."""
        for payload in payloads:
            for member in tuple(self.members):
                await member.send(payload)


async def main() -> None:
    """Serve until stdin ends."""
    peer = OnHypercorn(order())
    app = Quart(__name__)
    app.websocket("/api/notifications/ws")(peer.talk)
    sock = socket.create_server(("127.0.0.1", 0), backlog=4096)
    config = Config()
    config.bind = [f"fd://{sock.fileno()}"]
    config.graceful_timeout = 0
    config.loglevel = "WARNING"
    over = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=over.wait))
    await peer.obey(sock.getsockname()[1])
    over.set()
    await serving


if __name__ == "__main__":
    asyncio.run(main())
