"""What each sweep does for one connection: the token that ends, the peer that has gone, the goodbye that takes long."""

import logging
import math
from typing import Final

from jobctl.protocol.session import AUTH_FAILED
from jobctl.stream import frames
from jobctl.stream.connection import Connection
from jobctl.stream.limits import Limits
from jobctl.stream.pulse import LOOKS

log = logging.getLogger("jobctl.stream")

WARN_BEFORE_S: Final = 60.0
CLOSE_TIMEOUT_S: Final = 5.0
"""How long a peer gets to take the last frames and close its side."""


def look_after(connection: Connection, limits: Limits, *, since: float, now: float, wall: float) -> float:
    """Warn it, ask whether it is alive, or end it, as its times say.

    Args:
        connection: Any that is open, also one that has not signed in, or has been told to go.
        limits: Bounds and times.
        since: When it came, in seconds of trio's clock.
        now: The present on trio's clock, which the peer's signs of life are held against.
        wall: The present in seconds since the epoch, which tokens are held against.

    Returns:
        When, on trio's clock, it is to be ended unless it gives a sign of life; ``inf`` where that is not the question.
    """
    if connection.closing:
        if now - connection.ended_at > CLOSE_TIMEOUT_S:
            connection.abort()
        return math.inf
    if connection.identity is None:
        if now - since > limits.auth_timeout:
            connection.end(AUTH_FAILED.close, AUTH_FAILED.text)
        return math.inf
    if wall >= connection.identity.expires_at - WARN_BEFORE_S:
        connection.warn()
    pulse = connection.pulse
    if now - pulse.looked_at >= limits.dead_after / LOOKS:  # seldom: it is a system call
        pulse.look(now, connection.transport.acknowledged())
    dies = pulse.life + limits.dead_after
    if now >= dies:
        log.debug("a peer neither sent nor took anything for %.0f s", limits.dead_after)
        connection.abort()
        return math.inf
    if now - connection.last_ping >= limits.ping_interval:
        connection.last_ping = now
        if not connection.outbox.pending:  # a reader that is behind is seen by what it takes
            connection.control(frames.PING)
    return dies
