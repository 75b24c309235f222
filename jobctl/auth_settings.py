"""The settings of who may sign in: ``[auth]``."""

import ipaddress
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from jobctl.scalars import Number
from jobctl.upkeep_settings import Section

Asymmetric = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip
"""What an external issuer may sign with. Never HS*: a public key would then be the secret."""


def check_key_url(url: str) -> None:
    """Where keys may be fetched from: https, or this machine.

    Raises:
        ValueError: anything else.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("this is not a URL") from None
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.username is not None or not url.isprintable():
        raise ValueError("keys are fetched from a URL like https://login.example/keys")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("keys are fetched over https: whoever changes them on their way can sign in as anybody")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


ISSUER: Final = "jobctl"
"""What ``iss`` of this server's own tokens is (``auth.ISSUER``)."""


class Auth(Section):
    """Who may sign in."""

    secret: SecretStr | None = None
    """HS256 secret, at least 32 bytes; else the file ``secret`` in the state folder, made by the first start."""
    previous_secrets: tuple[SecretStr, ...] = Field((), max_length=5)
    """Secrets that signed before this one: their tokens are still taken, nothing more is signed with them."""
    jwks_url: str | None = None
    """Public keys of an external issuer (RFC 7517). With it ``issuer``, ``audience`` and ``roles`` must be set."""
    issuer: str | None = Field(None, min_length=1)
    audience: str | None = Field(None, min_length=1)
    algorithms: tuple[Asymmetric, ...] = Field(("RS256", "ES256", "EdDSA"), min_length=1)
    subject_claim: str = Field("sub", min_length=1)
    role_claim: str = Field("role", min_length=1)
    """Its values (one, or a list) are looked up in ``roles``; ``a.b`` is ``b`` in ``a``."""
    roles: dict[str, Literal["admin", "user"]] = {}
    """What a claim's value may do here. Who has none that is named here is refused."""
    max_lifetime: Number = Field(3600.0, ge=60, le=7 * 86400)
    """Seconds after its ``iat`` at which an external token ends here, whatever its ``exp`` says."""

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < 32:
            raise ValueError("a secret has at least 32 bytes (RFC 7518 section 3.2)")
        return value

    @field_validator("previous_secrets")
    @classmethod
    def _each_long_enough(cls, values: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(value.get_secret_value().encode()) < 32 for value in values):
            raise ValueError("a secret has at least 32 bytes (RFC 7518 section 3.2)")
        return values

    @field_validator("jwks_url")
    @classmethod
    def _safe_url(cls, value: str | None) -> str | None:
        if value is not None:
            check_key_url(value)
        return value

    @field_validator("issuer")
    @classmethod
    def _somebody_else(cls, value: str | None) -> str | None:
        if value == ISSUER:
            raise ValueError(f"{ISSUER!r} is what this server's own tokens say; an issuer elsewhere has another name")
        return value

    @model_validator(mode="after")
    def _whole_issuer(self) -> "Auth":
        if self.jwks_url is None:
            alone = [name for name in ("issuer", "audience", "roles") if getattr(self, name)]
            if alone:
                raise ValueError(f"{alone[0]} does nothing without jwks_url, where the issuer's keys are")
        if self.jwks_url is not None:
            missing = [name for name in ("issuer", "audience", "roles") if not getattr(self, name)]
            if missing:
                raise ValueError(f"jwks_url needs {' and '.join(missing)} as well")
        return self
