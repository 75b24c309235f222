"""How the driver of a benchmark and the processes that it starts speak: a JSON object a line."""

import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec


def say(answer: Any) -> None:
    """A line to the driver."""
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    sys.stdout.flush()


async def heard() -> AsyncIterator[bytes]:
    """What the driver says, line by line, until stdin ends."""
    import trio  # peers speak, too, and do without it

    stream, rest = trio.lowlevel.FdStream(os.dup(0)), b""
    while data := await stream.receive_some(4096):
        *lines, rest = (rest + bytes(data)).split(b"\n")
        for line in lines:
            yield line
