"""What each sweep does for one connection: the token that ends, the peer that has gone, the goodbye that takes long."""

import logging
from typing import Final, Protocol

from jobctl.protocol.session import AUTH_FAILED
from jobctl.stream import frames
from jobctl.stream.connection import Connection

log = logging.getLogger("jobctl.stream")

WARN_BEFORE_S: Final = 60.0
CLOSE_TIMEOUT_S: Final = 5.0
"""How long a peer gets to take the last frames and close its side."""


class Limits(Protocol):
    """Settings of the stream; see ``settings.Stream``."""

    @property
    def max_connections(self) -> int: ...
    @property
    def max_per_subject(self) -> int: ...
    @property
    def max_waiting_per_address(self) -> int: ...
    @property
    def outbox_bytes(self) -> int: ...
    @property
    def auth_timeout(self) -> float: ...
    @property
    def ping_interval(self) -> float: ...
    @property
    def dead_after(self) -> float: ...


def look_after(connection: Connection, limits: Limits, *, since: float, now: float, wall: float) -> None:
    """Warn it, ask whether it is alive, or end it, as its times say.

    Args:
        connection: Any that is open, also one that has not signed in, or has been told to go.
        limits: Bounds and times.
        since: When it came, in seconds of trio's clock.
        now: The present on trio's clock, which the peer's signs of life are held against.
        wall: The present in seconds since the epoch, which tokens are held against.
    """
    if connection.closing:
        if now - connection.ended_at > CLOSE_TIMEOUT_S:
            connection.abort()
        return
    if connection.identity is None:
        if now - since > limits.auth_timeout:
            connection.end(AUTH_FAILED.close, AUTH_FAILED.text)
        return
    if wall >= connection.identity.expires_at - WARN_BEFORE_S:
        connection.warn()
    if now - connection.last_life >= limits.ping_interval:  # seldom: it is a system call
        taken = connection.transport.acknowledged()
        if taken > connection.acknowledged:
            connection.acknowledged = taken
            connection.last_life = now
    if now - connection.last_life > limits.dead_after:
        log.debug("a peer neither sent nor took anything for %.0f s", limits.dead_after)
        connection.abort()
    elif now - connection.last_ping >= limits.ping_interval:
        connection.last_ping = now
        if not connection.outbox.pending:  # a reader that is behind is seen by what it takes
            connection.control(frames.PING)
