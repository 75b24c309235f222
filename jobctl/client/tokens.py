"""The HTTP API's part about who may come in, as pure functions; see ``client.api``."""

from typing import Any, Final
from urllib.parse import quote

from jobctl.client.api import Call, encode
from jobctl.errors import InvalidInput
from jobctl.model import ApiToken, IssuedToken, LoginCode, Wire

_JSON: Final = (("Content-Type", "application/json"),)


class TokenList(Wire, frozen=True):
    """Every API token, newest first."""

    tokens: tuple[ApiToken, ...]


def make_code(*, subject: str | None = None, role: str | None = None) -> Call[LoginCode]:
    """A one-time code to sign in with; for whom the token speaks, unless somebody else is named."""
    given = {"subject": subject, "role": role}
    body = encode({key: value for key, value in given.items() if value is not None})
    return Call(method="POST", path="/api/auth/codes", kind=LoginCode, body=body, headers=_JSON, repeatable=True)


def issue(name: str, *, role: str, days: int, subject: str | None = None) -> Call[IssuedToken]:
    """A new API token. Not repeatable: the second time its name would be taken."""
    fields: dict[str, Any] = {"name": name, "role": role, "days": days}
    if subject is not None:
        fields["subject"] = subject
    return Call(method="POST", path="/api/tokens", kind=IssuedToken, body=encode(fields), headers=_JSON)


def tokens() -> Call[TokenList]:
    """All API tokens."""
    return Call(method="GET", path="/api/tokens", kind=TokenList, repeatable=True)


def revoke(which: str) -> Call[ApiToken]:
    """Revoke a token, by ``jti`` or by the name of a live one."""
    if not which:
        raise InvalidInput("a token's name or id is empty")
    return Call(method="DELETE", path=f"/api/tokens/{quote(which, safe='')}", kind=ApiToken, repeatable=True)
