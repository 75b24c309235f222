"""uvicorn, with an ASGI app that sends to one after the other.

Run as ``python -m bench.fan.uvicorn_peer ORDER.json``; see ``order``.
"""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Any

import uvicorn

from bench.fan.peer import Peer, order
from bench.fan.speaking import CONNECTED, GREETING, SUBSCRIBED


class Uvicorn(Peer):
    """See ``peer``. ``members`` are the connections' ``send``."""

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI: one connection, whole."""
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        await _say(send, GREETING.decode())
        self.check((await receive())["text"])
        await _say(send, CONNECTED.decode())
        await receive()
        self.members[send] = None
        try:
            await _say(send, SUBSCRIBED.decode())
            while (await receive())["type"] != "websocket.disconnect":
                pass
        finally:
            del self.members[send]

    async def send(self, payloads: Sequence[str]) -> None:
        """Send each of these to every member."""
        for payload in payloads:
            for member in tuple(self.members):
                await _say(member, payload)


async def _say(send: Any, text: str) -> None:
    await send({"type": "websocket.send", "text": text})


async def main() -> None:
    """Serve until stdin ends. No pings, which the crowd would not answer."""
    peer = Uvicorn(order())
    sock = socket.create_server(("127.0.0.1", 0), backlog=4096)
    config = uvicorn.Config(
        peer.app, interface="asgi3", lifespan="off", log_level="warning", ws_ping_interval=None, backlog=4096
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)
    await peer.obey(sock.getsockname()[1])
    server.should_exit = True
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(serving, 1)


if __name__ == "__main__":
    asyncio.run(main())
