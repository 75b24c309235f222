"""What a store keeps of those who may come in: API tokens and sessions. Digests only; no token can be made of them.

Every change that lets somebody in or out is told in ``Commit.access``, so that it takes effect in memory before its
caller is answered.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec


class TokenRow(NamedTuple):
    """A row of ``token``; times are ms since the epoch. ``key`` says what signed it, where that is known."""

    jti: str
    name: str
    subject: str
    role: str
    created_by: str
    created_at: int
    expires_at: int
    last_used: int | None = None
    revoked_at: int | None = None
    key: str | None = None


class NewToken(msgspec.Struct, frozen=True):
    """A token that is about to be issued; ``life_ms`` from now.

    ``key`` is the ``key_id`` of what signs it, ``accepted`` those of all that tokens may be signed with.
    """

    jti: str
    name: str
    subject: str
    role: str
    created_by: str
    life_ms: int
    key: str | None = None
    accepted: frozenset[str] = frozenset()


class NewSession(msgspec.Struct, frozen=True):
    """A sign-in that is about to begin.

    ``handle`` and ``current`` are digests of what all its refresh tokens begin with, and of the first whole one.
    ``origin`` is the token or session that made the one-time code. ``idle_ms``: it ends when it is not used for so
    long; ``life_ms``: and then in any case, or earlier with the life of ``origin``.
    """

    id: str
    handle: bytes
    current: bytes
    subject: str
    role: str
    origin: str | None
    idle_ms: int
    life_ms: int


class Session(msgspec.Struct, frozen=True):
    """A sign-in that stands, until ``expires_at`` (ms) if it is not used before."""

    id: str
    subject: str
    role: str
    expires_at: int


class Rotation(msgspec.Struct, frozen=True):
    """What became of a refresh token.

    ``rotated``: it was the good one, and its successor is now. ``repeated``: it was the good one a moment ago; its
    successor still is. ``reused``: it was used before, by somebody: the whole session has been ended. ``unknown``:
    not one of a session that stands.
    """

    outcome: Literal["rotated", "repeated", "reused", "unknown"]
    session: Session | None = None


class TokenStore(Protocol):
    """Part of a ``Store``."""

    async def issue(self, token: NewToken) -> TokenRow:
        """Register a token. One of the name whose key is accepted no more is revoked.

        Raises:
            Conflict: a live token has the name.
            TooLarge: there are 1,000 live ones.
        """

    async def revoke(self, which: str) -> TokenRow:
        """End a token, by ``jti`` or by the name of a live one, and every session that began with a code it made.

        Raises:
            NotFound: there is none, or (by name) none that is live.
        """

    async def touch(self, used: Mapping[str, int]) -> None:
        """Note when tokens were last used (ms, by ``jti``)."""

    async def tokens(self) -> tuple[TokenRow, ...]:
        """Every token, newest first; those that expired 30 days ago are forgotten."""

    async def begin_session(self, session: NewSession) -> Session:
        """Somebody has signed in. Of one subject's sessions at most 100 stand: the one idle the longest is ended.

        Raises:
            NotFound: its origin was revoked, or has signed out.
        """

    async def rotate(
        self, handles: Sequence[bytes], presented: bytes, successor: bytes, *, grace_ms: int, idle_ms: int
    ) -> Rotation:
        """Use a refresh token: ``presented`` is its digest, ``successor`` that of the one to follow.

        ``handles`` are the digests by which its session may be known, the first the one to know it by from now on.

        The one before the good one counts as ``repeated`` for ``grace_ms`` after it was used. One that is used later
        ends the session, and what began with codes that it made.
        """

    async def end_session(self, handles: Sequence[bytes]) -> str | None:
        """End the session (sign out); its id, None if there was none that stands."""

    async def ended_since(self, at: int) -> tuple[str, ...]:
        """Ids of sessions that were ended after ``at`` (ms)."""
