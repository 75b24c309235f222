"""Where a PostgreSQL database is: an address that may hold a password, and does not show it.

Standard library only: whoever uses a file needs nothing of PostgreSQL.
"""

from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

SCHEMES: Final = ("postgresql://", "postgres://")
_SECRETS: Final = frozenset({"password", "sslpassword"})
"""Parameters of libpq that are passwords."""


def is_url(text: str) -> bool:
    """Whether ``text`` means a PostgreSQL database, and not a file."""
    return text.startswith(SCHEMES)


class DatabaseUrl:
    """``postgresql://user:password@host:port/name?parameter=value``, as libpq takes it.

    ``str`` has no password; ``secret`` is the whole.

    Raises:
        ValueError: it is no such address.
    """

    __slots__ = ("_shown", "passwords", "secret")

    def __init__(self, secret: str) -> None:
        if not is_url(secret):
            raise ValueError(f"an address of a database begins with {SCHEMES[0]}")
        if any(not each.isprintable() or each.isspace() for each in secret):
            raise ValueError("the address of the database holds a space or a control character; write it as %20")
        try:
            parts = urlsplit(secret)
            given = parse_qsl(parts.query, keep_blank_values=True)
            password = parts.password
        except ValueError as error:
            raise ValueError(f"the address of the database cannot be read: {error}") from None
        self.secret = secret
        found = [password or "", unquote(password or ""), *(value for key, value in given if key in _SECRETS)]
        self.passwords = tuple(dict.fromkeys(each for each in found if each))
        """What must not be shown anywhere: as it stands in the address, and as it is meant."""
        user, _, where = parts.netloc.rpartition("@")
        netloc = f"{user.partition(':')[0]}@{where}" if user.partition(":")[0] else where
        query = urlencode([(key, value) for key, value in given if key not in _SECRETS], safe="/:,", quote_via=quote)
        self._shown = f"{parts.scheme}://{netloc}{parts.path}{query and '?' + query}"

    def __str__(self) -> str:
        return self._shown

    def __repr__(self) -> str:
        return f"DatabaseUrl({self._shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatabaseUrl) and other.secret == self.secret

    def __hash__(self) -> int:
        return hash(self.secret)
