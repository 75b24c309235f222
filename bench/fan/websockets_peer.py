"""``websockets`` (asyncio) with its ``broadcast``. Run as ``python -m bench.fan.websockets_peer ORDER.json``."""

import asyncio
from collections.abc import Sequence

from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.fan.peer import Peer, order
from bench.fan.speaking import CONNECTED, GREETING, SUBSCRIBED


class Websockets(Peer):
    """See ``peer``."""

    async def talk(self, connection: ServerConnection) -> None:
        """One connection, whole."""
        await connection.send(GREETING.decode())
        self.check(await connection.recv())
        await connection.send(CONNECTED.decode())
        await connection.recv()
        self.members[connection] = None
        try:
            await connection.send(SUBSCRIBED.decode())
            async for _ in connection:
                pass
        finally:
            del self.members[connection]

    async def send(self, payloads: Sequence[str]) -> None:
        """Send each of these to every member."""
        for payload in payloads:
            broadcast(self.members, payload)


async def main() -> None:
    """Serve until stdin ends. No pings, which the crowd would not answer."""
    peer = Websockets(order())
    async with serve(peer.talk, "127.0.0.1", 0, ping_interval=None, backlog=4096) as server:
        await peer.obey(next(iter(server.sockets)).getsockname()[1])


if __name__ == "__main__":
    asyncio.run(main())
