"""What all servers of the fan-out benchmark say to those who come."""

from typing import Final

from jobctl.protocol import messages

GREETING: Final = messages.encode(messages.AuthRequired())
CONNECTED: Final = messages.encode(
    messages.Connected(
        connection_id="00000000-0000-0000-0000-000000000000",
        timestamp="2026-01-01T00:00:00.000Z",
        token_expires_at="2026-01-01T00:15:00.000Z",  # noqa: S106 - a time
    )
)
SUBSCRIBED: Final = messages.encode(messages.JobsSubscribed(seq=0, head=0, epoch="", recovered=False))
