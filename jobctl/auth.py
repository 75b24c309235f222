"""Tokens: JWTs signed with HS256, and the secret that signs them.

Every token carries ``iss aud sub role iat exp jti``. Whatever is wrong with one, the answer is the same
``Unauthorized``: which check failed is nobody's business.
"""

import os
import secrets
import time
from pathlib import Path
from typing import Any, Final

import jwt

from jobctl.errors import ConfigError, Unauthorized
from jobctl.model import Identity

ISSUER: Final = "jobctl"
AUDIENCE: Final = "jobctl"
ROLES: Final = ("admin", "user")
ACCESS_TTL_S: Final = 15 * 60
LEEWAY_S: Final = 5
"""Clock skew between issuer and server that is forgiven for ``iat``; ``exp`` is exact."""
MAX_TOKEN: Final = 8192
MAX_SUBJECT: Final = 200
MIN_SECRET: Final = 32
_REQUIRED: Final = ("iss", "aud", "sub", "role", "iat", "exp", "jti")


def mint(secret: bytes, *, subject: str, role: str, ttl: float = ACCESS_TTL_S, now: float | None = None) -> str:
    """A token for ``subject`` that lives ``ttl`` seconds."""
    if role not in ROLES:
        raise ValueError(f"a role is one of {', '.join(ROLES)}")
    issued = time.time() if now is None else now
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "role": role,
        "iat": int(issued),
        "exp": int(issued + ttl),
        "jti": secrets.token_urlsafe(16),
    }
    return jwt.encode(claims, secret, algorithm="HS256")


class Verifier:
    """Checks tokens against one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def verify(self, token: str, *, now: float | None = None) -> Identity:
        """Who the token speaks for.

        Raises:
            Unauthorized: not a token of ours, or not any more.
        """
        if len(token) > MAX_TOKEN or not token.isascii():  # PyJWT raises other errors on lone surrogates
            raise Unauthorized
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": list(_REQUIRED), "verify_exp": False, "verify_iat": False, "strict_aud": True},
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError):
            raise Unauthorized from None
        return _identity(claims, time.time() if now is None else now)


def _identity(claims: dict[str, Any], now: float) -> Identity:
    subject, role, jti = claims["sub"], claims["role"], claims["jti"]
    texts = isinstance(subject, str) and isinstance(jti, str) and isinstance(role, str)
    if not texts or role not in ROLES or not 0 < len(subject) <= MAX_SUBJECT or not 0 < len(jti) <= MAX_SUBJECT:
        raise Unauthorized
    if not subject.isprintable() or not jti.isprintable():  # they become an owner, log fields and table rows
        raise Unauthorized
    times = (claims["iat"], claims["exp"])
    if any(isinstance(t, bool) or not isinstance(t, int | float) or not 0 <= t < 1e11 for t in times):
        raise Unauthorized
    issued, expires = times
    if issued > now + LEEWAY_S or expires <= now:
        raise Unauthorized
    return Identity(subject=subject, role=role, expires_at=float(expires), token_id=jti)


def secret_path(state_dir: Path) -> Path:
    """Where the local secret is kept."""
    return state_dir / "secret"


def read_secret(state_dir: Path) -> bytes | None:
    """The secret of ``JOBCTL_SECRET`` or of the state folder; None when there is none yet."""
    if text := os.environ.get("JOBCTL_SECRET"):
        return text.encode()
    try:
        return secret_path(state_dir).read_bytes().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {secret_path(state_dir)}: {error.strerror}") from None


def ensure_secret(state_dir: Path) -> bytes:
    """The secret, made now (mode 0600) if this is the first start.

    Raises:
        ConfigError: it cannot be read or written, or is shorter than 32 bytes.
    """
    found = read_secret(state_dir)
    if found is None:
        found = _create_secret(state_dir)
    if len(found) < MIN_SECRET:
        raise ConfigError(f"the secret has {len(found)} bytes; HS256 needs at least {MIN_SECRET}")
    return found


def _create_secret(state_dir: Path) -> bytes:
    path, fresh = secret_path(state_dir), secrets.token_urlsafe(48).encode()
    temporary = path.with_name(f".secret-{secrets.token_hex(8)}")
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(fresh)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # unlike a rename, never replaces what another server has just made
        except FileExistsError:
            return path.read_bytes().strip()
        finally:
            temporary.unlink()
    except OSError as error:
        raise ConfigError(f"cannot write the secret {path}: {error.strerror}; set JOBCTL_SECRET or state_dir") from None
    return fresh
