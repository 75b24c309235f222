"""Why a stream is closed, as data: the code, the reason, and whether a client should come back."""

from typing import Final, NamedTuple


class Close(NamedTuple):
    """One row of the table. ``reconnect`` tells a client to try again (with jitter)."""

    code: int
    reason: str
    reconnect: bool


NORMAL: Final = Close(1000, "normal", False)
GOING_AWAY: Final = Close(1001, "going_away", True)
PROTOCOL_ERROR: Final = Close(1002, "protocol_error", False)
NOT_UTF8: Final = Close(1007, "invalid_payload", False)
TOO_BIG: Final = Close(1009, "too_big", False)
INTERNAL: Final = Close(1011, "internal", True)
BAD_REQUEST: Final = Close(4400, "bad_request", False)
UNAUTHORIZED: Final = Close(4401, "unauthorized", False)
FORBIDDEN: Final = Close(4403, "forbidden", False)
SLOW_CONSUMER: Final = Close(4408, "slow_consumer", True)
TOO_MANY: Final = Close(4429, "too_many", True)

TABLE: Final[dict[int, Close]] = {
    row.code: row
    for row in (
        NORMAL,
        GOING_AWAY,
        PROTOCOL_ERROR,
        NOT_UTF8,
        TOO_BIG,
        INTERNAL,
        BAD_REQUEST,
        UNAUTHORIZED,
        FORBIDDEN,
        SLOW_CONSUMER,
        TOO_MANY,
    )
}


def should_reconnect(code: int) -> bool:
    """Whether a client that was closed with ``code`` should come back; an unknown code is taken for an accident."""
    row = TABLE.get(code)
    return True if row is None else row.reconnect
