"""What a commit changed beside the event log, as the other servers are told of it: a row of ``note``."""

from typing import Final

import msgspec

from jobctl.events import AccessEnded, CancelAsked, LogsAppended, QueueChanged, TokenIssued


class Note(msgspec.Struct, frozen=True, omit_defaults=True, array_like=False):
    """All of a ``Commit`` but its events."""

    logs: tuple[LogsAppended, ...] = ()
    queues: tuple[QueueChanged, ...] = ()
    cancels: tuple[CancelAsked, ...] = ()
    issued: tuple[TokenIssued, ...] = ()
    ended: tuple[AccessEnded, ...] = ()
    work: bool = False
    schedules: bool = False
    log_start: int | None = None
    receipt: str | None = None
    """Of a transaction without events: whether it was committed can be seen by this."""


decode: Final = msgspec.json.Decoder(Note).decode
"""A note from its row."""
