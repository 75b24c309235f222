"""Tokens that somebody else has issued: an OpenID provider, a company's login. Asymmetric signatures only."""

import hashlib
import time
from collections.abc import Mapping
from typing import Any, Final

import jwt

from jobctl import auth
from jobctl.access.keys import KeySet
from jobctl.auth_settings import Auth
from jobctl.errors import Unauthorized
from jobctl.model import Identity

_REQUIRED: Final = ("iss", "aud", "iat", "exp")
_SPACED: Final = frozenset({"scope", "scp"})
"""Claims whose text is a list separated by spaces (RFC 8693 section 4.2)."""


class ExternalIssuer:
    """Checks tokens of the issuer that the settings name."""

    def __init__(self, settings: Auth, keys: KeySet) -> None:
        self.keys = keys
        self._settings = settings

    def verify(self, token: str, *, now: float | None = None) -> Identity:
        """Who the token speaks for here.

        Raises:
            Unauthorized: not a good one, or of somebody whose claims name no role here.
            KeysUnknown: signed with a key that ``keys.refresh`` may bring.
        """
        at = time.time() if now is None else now
        if len(token) > auth.MAX_TOKEN or not token.isascii():
            raise Unauthorized
        claims = self._claims(token)
        subject, role = _claim(claims, self._settings.subject_claim), self._role(claims)
        if role is None or not auth.is_subject(subject):
            raise Unauthorized
        issued, expires = auth.lifetime(claims, at)
        expires = min(expires, issued + self._settings.max_lifetime)
        if expires <= at:
            raise Unauthorized
        told = claims.get("jti")
        token_id = told if auth.is_name(told) else hashlib.sha256(token.encode()).hexdigest()[:32]
        return Identity(subject=subject, role=role, expires_at=expires, token_id=f"ext:{token_id}", foreign=True)

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid")
            if algorithm not in self._settings.algorithms or not isinstance(kid, str | None):
                raise Unauthorized
            return jwt.decode(
                token,
                self.keys.find(kid, algorithm),
                algorithms=[algorithm],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=auth.LEEWAY_S,
                options={"require": list(_REQUIRED), "verify_exp": False, "verify_iat": False},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise Unauthorized from None

    def _role(self, claims: Mapping[str, Any]) -> str | None:
        """The best role that the claims' values name; None: none."""
        name = self._settings.role_claim
        told = _claim(claims, name)
        if isinstance(told, str):
            told = told.split() if name in _SPACED else [told]
        values = [value for value in told if isinstance(value, str)] if isinstance(told, list) else []
        roles = {self._settings.roles[value] for value in values if value in self._settings.roles}
        return "admin" if "admin" in roles else "user" if roles else None


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of that name (some have dots in theirs), else along the dots."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
