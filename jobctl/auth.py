"""Tokens: JWTs signed with HS256, and the secret that signs them.

Every token carries ``iss aud sub role iat exp jti``, an access token of somebody who signed in also ``sid``. Whatever
is wrong with one, the answer is the same ``Unauthorized``: which check failed is nobody's business.

Here is what a token says about itself. Whether it still stands (is registered, has not been revoked) is the business
of ``jobctl.access``.
"""

import hmac
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import jwt

from jobctl.errors import ConfigError, Unauthorized
from jobctl.model import SCHEDULE_OWNER, Identity

ISSUER: Final = "jobctl"
AUDIENCE: Final = "jobctl"
ROLES: Final = ("admin", "user")
ACCESS_TTL_S: Final = 15 * 60
"""A token that lives longer is good only while it is registered."""
_ROUNDING_S: Final = 1
"""``iat`` and ``exp`` are whole seconds."""
LEEWAY_S: Final = 5
"""Clock skew between issuer and server that is forgiven for ``iat``; ``exp`` is exact."""
MAX_TOKEN: Final = 8192
KEPT: Final = 1024
"""Good tokens whose claims are kept: PyJWT takes 0.13 ms for one, a tenth of what a request costs."""
MAX_SUBJECT: Final = 200
MIN_SECRET: Final = 32
_REQUIRED: Final = ("iss", "aud", "sub", "role", "iat", "exp", "jti")


def mint(
    secret: bytes,
    *,
    subject: str,
    role: str,
    ttl: float = ACCESS_TTL_S,
    now: float | None = None,
    token_id: str | None = None,
    session: str | None = None,
) -> str:
    """A token for ``subject`` that lives ``ttl`` seconds. ``token_id``: of a registered one; ``session``: a sign-in."""
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
        "jti": token_id or secrets.token_urlsafe(16),
    }
    if session is not None:
        claims["sid"] = session
    return jwt.encode(claims, secret, algorithm="HS256")


def key_id(secret: bytes) -> str:
    """What tells one secret from another where it must not stand itself; from 32 random bytes nobody can guess back."""
    return hmac.digest(secret, b"jobctl key id", "sha256")[:8].hex()


class Verifier:
    """Checks tokens against the secret, and against those that signed before it (rotation)."""

    def __init__(self, secret: bytes, previous: Sequence[bytes] = ()) -> None:
        self._secrets = (secret, *previous)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The one that signs, and those before it."""
        return self._secrets

    @property
    def key_ids(self) -> frozenset[str]:
        """``key_id`` of each."""
        return frozenset(map(key_id, self._secrets))

    def replace_previous(self, previous: Sequence[bytes]) -> None:
        """Take other former secrets from now on; the one that signs stays."""
        self._secrets = (self._secrets[0], *previous)

    def verify(self, token: str, *, now: float | None = None) -> Identity:
        """Who the token speaks for.

        Raises:
            Unauthorized: not a token of ours, or not any more.
        """
        if len(token) > MAX_TOKEN or not token.isascii():  # PyJWT raises other errors on lone surrogates
            raise Unauthorized
        for secret in self._secrets:
            try:
                claims = _claims(token, secret)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError):
                raise Unauthorized from None
            return _identity(claims, time.time() if now is None else now)
        raise Unauthorized


@lru_cache(maxsize=KEPT)
def _claims(token: str, secret: bytes) -> Mapping[str, Any]:
    """What a good token says: the same whenever it is asked, so that whoever comes back is not looked at anew.

    Whether it still stands is asked each time. What is refused is not kept.
    """
    return jwt.decode(
        token,
        secret,
        algorithms=["HS256"],
        audience=AUDIENCE,
        issuer=ISSUER,
        options={"require": list(_REQUIRED), "verify_exp": False, "verify_iat": False, "strict_aud": True},
    )


def algorithm_of(token: str) -> str | None:
    """What the token says it was signed with: to choose who checks it, never to be believed."""
    try:
        found = jwt.get_unverified_header(token).get("alg")
    except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _identity(claims: Mapping[str, Any], now: float) -> Identity:
    role, session = claims["role"], claims.get("sid")
    if role not in ROLES or not is_subject(claims["sub"]) or not is_name(claims["jti"]):
        raise Unauthorized
    if session is not None and not is_name(session):
        raise Unauthorized
    issued, expires = lifetime(claims, now)
    return Identity(
        subject=claims["sub"],
        role=role,
        expires_at=expires,
        token_id=claims["jti"],
        session=session,
        registered=expires - issued > ACCESS_TTL_S + _ROUNDING_S,
    )


def is_name(value: object) -> bool:
    """Whether a claim can be an owner, a log field and a table row."""
    return isinstance(value, str) and 0 < len(value) <= MAX_SUBJECT and value.isprintable()


def is_subject(value: object) -> bool:
    """Whether a claim can be somebody's name; those of schedules are nobody's."""
    return is_name(value) and not str(value).startswith(SCHEDULE_OWNER)


def lifetime(claims: Mapping[str, Any], now: float) -> tuple[float, float]:
    """``iat`` and ``exp`` of a token that is good at ``now``.

    Raises:
        Unauthorized: they are no times, it has expired, or it is of the future.
    """
    times = (claims["iat"], claims["exp"])
    if any(isinstance(t, bool) or not isinstance(t, int | float) or not 0 <= t < 1e11 for t in times):
        raise Unauthorized
    issued, expires = times
    if issued > now + LEEWAY_S or expires <= now:
        raise Unauthorized
    return float(issued), float(expires)


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


def ensure_secret(state_dir: Path, given: str | None = None) -> bytes:
    """The secret: ``given``, or the environment's, or the state folder's, made now (mode 0600) on the first start.

    Raises:
        ConfigError: it cannot be read or written, or is shorter than 32 bytes.
    """
    found = given.encode() if given else read_secret(state_dir)
    if found is None:
        found = _create_secret(state_dir)
    if len(found) < MIN_SECRET:
        variable = os.environ.get("JOBCTL_SECRET")
        where = f"in {secret_path(state_dir)}"
        if given or variable:
            where = "of auth.secret" if given not in (None, variable) else "of JOBCTL_SECRET"
        raise ConfigError(f"the secret {where} has {len(found)} bytes; HS256 needs at least {MIN_SECRET}")
    return found


def is_exposed(path: Path) -> bool:
    """Whether others than its owner may read or write ``path``, going by its mode."""
    try:
        return bool(path.stat().st_mode & 0o066)
    except OSError:
        return False


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
