"""The bearer of one client."""

import base64
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

TokenFunction = Callable[[], str | Awaitable[str]]


class Token:
    """The bearer of one client: a string, or a function that gives a fresh one."""

    def __init__(self, source: str | TokenFunction) -> None:
        self._source = source
        self._value: str | None = None

    @property
    def renewable(self) -> bool:
        """Whether asking again can help."""
        return not isinstance(self._source, str)

    async def get(self, *, fresh: bool = False) -> str:
        """The token; ``fresh``: not the one that was given before."""
        if isinstance(self._source, str):
            return self._source
        if self._value is None or fresh:
            given = self._source()
            self._value = await given if inspect.isawaitable(given) else given
        return self._value


def claims_of(token: str) -> dict[str, Any]:
    """What a token says (the server checks it); empty where it is none that can be read."""
    try:
        body = token.split(".")[1]
        return msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=dict[str, Any])
    except (IndexError, ValueError, msgspec.MsgspecError):
        return {}


def subject_of(token: str) -> str | None:
    """Whom a token says it speaks for."""
    subject = claims_of(token).get("sub")
    return subject if isinstance(subject, str) else None
