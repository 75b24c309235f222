"""Quart on Hypercorn, both as they come. Run as ``python -m bench.fan.quart_peer ORDER.json``."""

import asyncio
from collections.abc import Sequence
from typing import Any

from quart import Quart, websocket

from bench.fan.peer import Peer, order
from bench.fan.speaking import CONNECTED, GREETING, SUBSCRIBED
from bench.quart_server import serve_while


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
    await serve_while(app, peer.obey)


if __name__ == "__main__":
    asyncio.run(main())
