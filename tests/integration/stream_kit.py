"""What the tests of the stream share."""

from __future__ import annotations

from typing import Any


async def numbers(peer: Any, last: int) -> list[int]:
    """The ``seq`` of every update up to ``last``."""
    seen: list[int] = []
    while not seen or seen[-1] < last:
        message = await peer.hear()
        if message["type"] in ("job_update", "job_deleted"):
            seen.append(message["seq"])
    return seen
