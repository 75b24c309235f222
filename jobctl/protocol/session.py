"""The server's end of one stream connection, without I/O.

Feed it every text message with ``receive`` and carry out what it returns, in order. It knows who is signed in, counts
what was not understood, and decides when the connection must end; what a subscription means is the caller's part.

    AWAITING_AUTH --auth ok--> OPEN --auth ok (again)--> OPEN
          |                      |
          +-- anything else -----+-- bad token, 10 bad messages --> CLOSED
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from jobctl.errors import InvalidInput, KeysUnknown, Unauthorized
from jobctl.model import Identity, wire_time
from jobctl.protocol import close_codes, messages
from jobctl.protocol.close_codes import Close

MAX_BAD_MESSAGES: Final = 10
"""So many messages that make no sense, and the peer is not one of ours."""


class Say(msgspec.Struct, frozen=True):
    """Send ``text``."""

    text: bytes


class SignedIn(msgspec.Struct, frozen=True):
    """The connection speaks for ``identity`` from now on; ``drop``: end its subscriptions first."""

    identity: Identity
    drop: bool


class FetchKeys(msgspec.Struct, frozen=True):
    """Ask the issuer of the token for its keys, then go on; the token is looked at again."""


class End(msgspec.Struct, frozen=True):
    """Send ``text`` if there is any, then close with ``close``."""

    close: Close
    text: bytes | None = None


Step = (
    Say
    | SignedIn
    | FetchKeys
    | End
    | messages.SubscribeJobs
    | messages.UnsubscribeJobs
    | messages.SubscribeLogs
    | messages.UnsubscribeLogs
    | messages.Ping
)

AUTH_REQUIRED: Final = messages.encode(messages.AuthRequired())
AUTH_FAILED: Final = End(close_codes.UNAUTHORIZED, messages.encode(messages.AuthFailed()))


class ServerSession:
    """One connection's state.

    Args:
        connection_id: Told to the client in ``connected``.
        verify: Who a token speaks for; raises ``Unauthorized``.
        clock: Seconds since the epoch.
    """

    __slots__ = ("_bad", "_clock", "_verify", "connection_id", "identity")

    def __init__(
        self, connection_id: str, *, verify: Callable[[str], Identity], clock: Callable[[], float]
    ) -> None:
        self.connection_id = connection_id
        self.identity: Identity | None = None
        self._verify = verify
        self._clock = clock
        self._bad = 0

    def receive(self, text: str | bytes) -> Iterator[Step]:
        """What to do about one message of the client; after an ``End`` nothing more may be fed."""
        try:
            message = messages.decode_client(text)
        except InvalidInput as error:
            yield from self._refuse(error)
            return
        if isinstance(message, messages.Auth):
            yield from self._sign_in(message.token)
        elif self.identity is None:
            yield AUTH_FAILED
        elif not isinstance(message, messages.ClientPong):
            yield message

    def not_text(self) -> Iterator[Step]:
        """What to do about a binary message."""
        yield from self._refuse(InvalidInput("messages are JSON text, not binary"))

    def _refuse(self, error: InvalidInput) -> Iterator[Step]:
        if self.identity is None:
            yield AUTH_FAILED
            return
        self._bad += 1
        told = messages.encode(messages.Error(code="bad_message", message=str(error)))
        if self._bad >= MAX_BAD_MESSAGES:
            yield End(close_codes.BAD_REQUEST, told)
        else:
            yield Say(told)

    def _sign_in(self, token: str) -> Iterator[Step]:
        try:
            try:
                identity = self._verify(token)
            except KeysUnknown:
                yield FetchKeys()
                identity = self._verify(token)
        except Unauthorized:
            yield AUTH_FAILED
            return
        before = self.identity
        self.identity = identity
        drop = before is not None and (before.subject, before.role) != (identity.subject, identity.role)
        yield SignedIn(identity, drop)
        yield Say(
            messages.encode(
                messages.Connected(
                    connection_id=self.connection_id,
                    timestamp=wire_time(int(self._clock() * 1000)),
                    token_expires_at=wire_time(int(identity.expires_at * 1000)),
                )
            )
        )
