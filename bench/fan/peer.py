"""What the asyncio servers of the fan-out benchmark share: who is there, and the driver's line.

Each keeps whom it has let in, and sends an update to each with whatever its library recommends for that.
"""

import asyncio
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
import msgspec

from bench.conversation import say
from bench.fan.order import Command, Done, Order, Ready

LOOK_EVERY_S = 0.02


def order() -> Order:
    """The order of this process."""
    return msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Order)


class Peer(ABC):
    """One server. ``members``: who has subscribed, in whatever form its library has them."""

    def __init__(self, given: Order) -> None:
        self.payload = given.payload
        self.members: dict[Any, None] = {}
        self._secret = given.secret

    def check(self, message: str | bytes) -> None:
        """Look at the token of an ``auth`` message; raises ``jwt.InvalidTokenError``."""
        token = msgspec.json.decode(message)["token"]
        jwt.decode(token, self._secret, algorithms=["HS256"], audience="jobctl")

    @abstractmethod
    async def send(self, payloads: Sequence[str]) -> None:
        """Send each of these to every member."""

    async def obey(self, port: int) -> None:
        """Say that it listens, then do what the driver says until it says nothing more."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        say(Ready(port))
        while line := await reader.readline():
            command = msgspec.json.decode(line, type=Command)
            while command.empty and self.members:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(LOOK_EVERY_S)
            payloads = [self.payload] * command.batch
            start = time.monotonic()
            for n in range(command.flushes):
                await asyncio.sleep(max(0.0, start + n / command.rate - time.monotonic()))
                await self.send(payloads)
            say(Done())
