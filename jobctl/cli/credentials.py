"""The token that a command shows, and where it comes from.

One is signed here from the local secret with the standard library: importing PyJWT, and ``cryptography`` with it,
costs 120 ms, more than the whole of ``enqueue``. ``tests/unit/test_output.py`` holds it to what ``jobctl.auth`` checks.
"""

import base64
import getpass
import hashlib
import hmac
import json
import os
import secrets
import time
from pathlib import Path
from typing import Final

from jobctl.errors import ConfigError, SignInFailed

ACCESS_TTL_S: Final = 15 * 60
_HEADER: Final = b'{"alg":"HS256","typ":"JWT"}'


def sign(secret: bytes, *, subject: str, role: str, now: float | None = None, ttl: float = ACCESS_TTL_S) -> str:
    """A token for ``subject``, as ``jobctl.auth.mint`` makes it."""
    issued = time.time() if now is None else now
    claims = {
        "iss": "jobctl",
        "aud": "jobctl",
        "sub": subject,
        "role": role,
        "iat": int(issued),
        "exp": int(issued + ttl),
        "jti": secrets.token_urlsafe(16),
    }
    signed = _base64(_HEADER) + b"." + _base64(json.dumps(claims, separators=(",", ":")).encode())
    return (signed + b"." + _base64(hmac.digest(secret, signed, hashlib.sha256))).decode()


def state_dir() -> Path:
    """The folder of the local secret: ``JOBCTL_STATE_DIR``, else the platform's."""
    if given := os.environ.get("JOBCTL_STATE_DIR"):
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_state_dir("jobctl"))


def local_secret() -> bytes:
    """The secret that the local server signs with.

    Raises:
        SignInFailed: there is none.
        ConfigError: it cannot be read, or is too short.
    """
    text = os.environ.get("JOBCTL_SECRET")
    path = state_dir() / "secret"
    try:
        secret = text.encode() if text else path.read_bytes().strip()
    except FileNotFoundError:
        raise SignInFailed(
            f"no token: there is no secret in {path.parent}; start `jobctl serve` there once, or give --token-file "
            "or JOBCTL_TOKEN"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read the secret {path}: {error.strerror}") from None
    if len(secret) < 32:
        where = "of JOBCTL_SECRET" if text else f"in {path}"
        raise ConfigError(f"the secret {where} has {len(secret)} bytes; HS256 needs at least 32")
    return secret


def user_name() -> str:
    """Who is at this terminal: the subject of a locally signed token."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):  # no entry for this uid, as in many containers
        name = f"uid-{os.getuid()}" if hasattr(os, "getuid") else "local"
    return name if name.isprintable() and 0 < len(name) <= 200 else "local"


def sign_local(*, subject: str | None = None, role: str = "admin") -> str:
    """A fresh token from the local secret, for the OS user unless another is named."""
    return sign(local_secret(), subject=subject or user_name(), role=role)


def read_token_file(path: Path) -> str:
    """The token in ``path``.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        text = path.read_text("ascii").strip()
    except OSError as error:
        raise ConfigError(f"cannot read the token file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    return checked(text, f"the file {path}")


def checked(token: str, where: str) -> str:
    """``token``, if it can be one.

    Raises:
        ConfigError: it cannot; what it holds is not repeated.
    """
    if not token or not token.isascii() or not token.isprintable() or " " in token or len(token) > 8192:
        raise ConfigError(f"{where} does not hold a token")
    return token


def _base64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
