"""One-time codes: what a link signs in with.

They live five minutes in memory, as SHA-256 digests, and need not survive a restart: a fresh one is a command away.
"""

import hashlib
import secrets
from collections.abc import Callable
from typing import Final

import msgspec

CODE_TTL_S: Final = 300
MAX_CODES: Final = 1000
"""Codes that wait to be used; beyond that the oldest is forgotten."""
_BYTES: Final = 24
"""192 bits: guessing is out of the question, whatever the rate."""


class Code(msgspec.Struct, frozen=True):
    """Whom a code signs in. ``origin`` is the token or session of who made it; None: the server itself.

    ``until`` is when the sign-in ends at the latest (seconds since the epoch), where the store cannot know it.
    """

    subject: str
    role: str
    origin: str | None
    expires_at: float
    until: float | None = None


class Codes:
    """The codes of one server. ``clock`` is in seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waiting: dict[bytes, Code] = {}

    def make(
        self, subject: str, role: str, origin: str | None = None, until: float | None = None
    ) -> tuple[str, Code]:
        """A fresh code and what it stands for."""
        text = secrets.token_urlsafe(_BYTES)
        code = Code(subject, role, origin, self._clock() + CODE_TTL_S, until)
        if len(self._waiting) >= MAX_CODES:
            del self._waiting[next(iter(self._waiting))]
        self.put(text, code)
        return text, code

    def take(self, text: str) -> Code | None:
        """What ``text`` stands for, once; None: nothing (any more)."""
        code = self._waiting.pop(_digest(text), None)
        return code if code is not None and self._clock() < code.expires_at else None

    def put(self, text: str, code: Code) -> None:
        """Make it good (again): it was taken, and then nothing could be done with it."""
        self._waiting[_digest(text)] = code


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
