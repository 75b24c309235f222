"""Sessions: from a one-time code to access tokens of 15 minutes, by refresh tokens that each work once.

A refresh token is ``HANDLE.SECRET``. The handle is the same for all of a session, so that one that was used before is
known for what it is; it is never told anywhere else, so that only who has had one can raise the alarm. When one comes
back that was used before, somebody has a copy: the session is ended, its access tokens and streams with it.

Two tabs that refresh at the same moment are no theft, nor is one whose answer was lost. For ``GRACE_S`` after a
refresh token was used it is therefore answered again, with the same successor: that is not kept, it is an HMAC of the
token that it follows.

A session is known by a digest of its handle that is keyed with the secret. Without that secret, or one after it that
was given it as a previous one, nobody finds the session again: who changes a secret because it was stolen, and lets
the old one go, has thrown out everybody who might have come in by it.
"""

import base64
import hashlib
import hmac
import logging
import math
import secrets
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from jobctl import auth
from jobctl.access.codes import Codes
from jobctl.errors import NotFound, StoreUnavailable, Unauthorized
from jobctl.store.tokens import NewSession, Session, TokenStore

log = logging.getLogger("jobctl.access")

GRACE_S: Final = 10
"""Tabs that race, and a page that is loaded anew in the middle of a refresh: seconds, not minutes (Okta allows 60)."""
IDLE_S: Final = 7 * 86400
"""A session that is not used for so long ends."""
LIFE_S: Final = 30 * 86400
"""And after so long in any case."""
MAX_REFRESH: Final = 200
_SUCCESSOR: Final = b"jobctl refresh successor\0"
_HANDLE: Final = b"jobctl session handle\0"


class Grant(msgspec.Struct, frozen=True):
    """What somebody who is signed in gets.

    ``expires_at`` is the access token's, in seconds since the epoch; ``keep_s`` is how long to keep ``refresh``.
    """

    access_token: str
    expires_at: float
    subject: str
    role: str
    refresh: str
    keep_s: int


class Sessions:
    """Signing in, staying so, and out.

    Args:
        store: Where sessions are kept.
        secrets: Signs access tokens (the first), and those that did before it.
        codes: What one signs in with.
        ended: Whether a token or session was revoked a short while ago.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        store: TokenStore,
        secrets: Callable[[], Sequence[bytes]],
        codes: Codes,
        *,
        ended: Callable[[str], bool],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._codes = codes
        self._ended = ended
        self._clock = clock

    async def login(self, text: str) -> Grant:
        """Sign in with a one-time code.

        Raises:
            Unauthorized: it is wrong, was used, has expired, or who made it was revoked.
        """
        code = self._codes.take(text)
        if code is None or (code.origin is not None and self._ended(code.origin)):
            raise Unauthorized("Invalid, used or expired code")
        handle = secrets.token_urlsafe(16)
        refresh = f"{handle}.{secrets.token_urlsafe(32)}"
        new = NewSession(
            id=secrets.token_urlsafe(16),
            handle=self._handles(handle)[0],
            current=_digest(refresh),
            subject=code.subject,
            role=code.role,
            origin=code.origin,
            idle_ms=IDLE_S * 1000,
            life_ms=round(min(LIFE_S, math.inf if code.until is None else code.until - self._clock()) * 1000),
        )
        try:
            session = await self._store.begin_session(new)
        except StoreUnavailable:
            self._codes.put(text, code)
            raise
        except NotFound:  # who made it was revoked a moment ago, by another server perhaps
            raise Unauthorized("Invalid, used or expired code") from None
        if code.origin is not None and self._ended(code.origin):  # in the meantime
            await self._store.end_session([new.handle])
            raise Unauthorized("Invalid, used or expired code")
        log.info("%s (%s) signed in", ascii(session.subject), session.role)
        return self._grant(session, refresh)

    async def refresh(self, token: str) -> Grant:
        """A fresh access token, and the next refresh token.

        Raises:
            Unauthorized: the token is not one of a session that stands. If it was used before, none of it does now.
        """
        handle, presented = _taken_apart(token)
        follows = hmac.digest(self._secrets()[0], _SUCCESSOR + token.encode(), hashlib.sha256)
        successor = f"{handle}.{base64.urlsafe_b64encode(follows).decode().rstrip('=')}"
        done = await self._store.rotate(
            self._handles(handle), presented, _digest(successor), grace_ms=GRACE_S * 1000, idle_ms=IDLE_S * 1000
        )
        if done.session is None or done.outcome == "reused":
            if done.session is not None:
                log.warning(
                    "a refresh token of %s came back after it had been used: its session is ended, for somebody "
                    "may have a copy",
                    ascii(done.session.subject),
                )
            raise Unauthorized
        return self._grant(done.session, successor)

    async def logout(self, token: str) -> bool:
        """End the session of a refresh token; False if there was none."""
        try:
            handle, _ = _taken_apart(token)
        except Unauthorized:
            return False
        return await self._store.end_session(self._handles(handle)) is not None

    def _handles(self, handle: str) -> list[bytes]:
        return [hmac.digest(secret, _HANDLE + handle.encode(), hashlib.sha256) for secret in self._secrets()]

    def _grant(self, session: Session, refresh: str) -> Grant:
        now = self._clock()
        left = session.expires_at / 1000 - now
        ttl = min(auth.ACCESS_TTL_S, left)
        if ttl < 1:
            raise Unauthorized
        token = auth.mint(
            self._secrets()[0], subject=session.subject, role=session.role, ttl=ttl, now=now, session=session.id
        )
        return Grant(token, float(int(now + ttl)), session.subject, session.role, refresh, int(left))


def _taken_apart(token: str) -> tuple[str, bytes]:
    """The handle, and the digest of the whole."""
    handle, dot, rest = token.partition(".")
    if len(token) > MAX_REFRESH or not token.isascii() or not handle or not dot or not rest:
        raise Unauthorized
    return handle, _digest(token)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
