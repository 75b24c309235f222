"""Public keys of an external issuer (a JWK set, RFC 7517): fetched by a task of their own, never in a request's place.

Only the operator's URL is ever asked: what a token says about keys (``jku x5u jwk x5c``) is not looked at, and its
``kid`` only chooses among the keys that are here. Redirects are not followed, the answer is bounded, and however many
unknown ``kid`` come in, the issuer is asked once a minute. When it does not answer, the keys that are here stay.
"""

import logging
import math
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
import msgspec
import trio

from jobctl.errors import ConfigError, KeysUnknown, Unauthorized

log = logging.getLogger("jobctl.access")

MAX_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 100
TIMEOUT_S: Final = 5.0
"""For one answer of the issuer."""
WAIT_S: Final = 8.0
"""How long a request with an unknown ``kid`` waits for fresh keys."""
AT_MOST_EVERY_S: Final = 60.0
AT_LEAST_EVERY_S: Final = 3600.0
"""A key that the issuer has taken back is forgotten after so long at most."""
_RSA_BITS: Final = (2048, 8192)
"""Shorter is too weak (RFC 7518 section 3.3); longer takes the server's time."""
_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_PUBLIC: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}


class Key(msgspec.Struct, frozen=True):
    """One public key, and what it may check."""

    kid: str | None
    algorithms: frozenset[str]
    key: Any


class _Set(msgspec.Struct):
    keys: list[dict[str, Any]]


class _Refused(Exception):
    """The issuer's answer is of no use."""


class KeySet:
    """The keys of one issuer.

    Args:
        url: Where they are; checked by ``settings.check_key_url``.
        tls: For https; the system's certificates by default.

    Raises:
        ConfigError: ``cryptography`` is not installed.
    """

    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None) -> None:
        if not jwt.algorithms.has_crypto:
            raise ConfigError("auth.jwks_url needs the package cryptography: pip install 'jobctl[jwks]'")
        self._url = url
        self._tls = tls
        self._keys: tuple[Key, ...] = ()
        self._not_before = -math.inf
        self._fetching = True  # the first time begins with ``run``
        self._asked = trio.Event()
        self._done = trio.Event()
        self.generation = 0
        """Rises when a key is gone: what was checked with it should be checked again."""
        self.when_gone: Callable[[], None] = lambda: None
        """Called then."""

    def find(self, kid: str | None, algorithm: str) -> Any:
        """The key to check a token with.

        Raises:
            KeysUnknown: it is not here, but ``refresh`` may bring it.
            Unauthorized: it is not here, and it is too soon to ask again.
        """
        fitting = [each.key for each in self._keys if algorithm in each.algorithms and kid in (None, each.kid)]
        if len(fitting) == 1 or (fitting and kid is not None):
            return fitting[0]
        if self._fetching or (not fitting and trio.current_time() >= self._not_before):
            raise KeysUnknown
        raise Unauthorized

    async def refresh(self) -> None:
        """Wait for fresh keys, if it is time to ask for them; for a bounded time, and however that ends."""
        if self._fetching or trio.current_time() >= self._not_before:
            self._asked.set()
            with trio.move_on_after(WAIT_S):
                await self._done.wait()

    async def run(self) -> None:
        """Fetch the keys now, when ``refresh`` asks for it, and from time to time."""
        while True:
            self._fetching = True
            fetched = await self._fetch()
            self._fetching = False
            self._asked = trio.Event()
            self._not_before = trio.current_time() + AT_MOST_EVERY_S
            done, self._done = self._done, trio.Event()
            done.set()
            with trio.move_on_after(AT_LEAST_EVERY_S if fetched else AT_MOST_EVERY_S):
                await self._asked.wait()

    async def _fetch(self) -> bool:
        try:
            with trio.fail_after(TIMEOUT_S):
                raw = await self._get()
            keys = parse_keys(raw)
        except Exception as error:  # noqa: BLE001 - whatever the issuer does, the server goes on with the keys it has
            log.warning("cannot fetch the issuer's keys from %s: %s", self._url, str(error) or type(error).__name__)
            return False
        if any(each not in keys for each in self._keys):  # by what they are: a kid may be used again
            self.generation += 1
            self.when_gone()
        self._keys = keys
        log.info("the issuer has %d keys that can be used", len(keys))
        return True

    async def _get(self) -> bytes:
        import httpx2

        secure = self._url.startswith("https:")
        verify = self._tls or ssl.create_default_context() if secure else False
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        body = bytearray()
        async with (
            httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False, verify=verify) as client,
            client.stream("GET", self._url, headers=headers) as answer,
        ):
            if answer.status_code != 200:
                raise _Refused(f"it answers HTTP {answer.status_code}")
            with trio.CancelScope() as enough:  # ends the generators below it in order, which leaving the loop does not
                async for chunk in answer.aiter_raw():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        enough.cancel()
        if len(body) > MAX_BYTES:
            raise _Refused(f"the answer exceeds {MAX_BYTES} bytes")
        return bytes(body)


def parse_keys(raw: bytes) -> tuple[Key, ...]:
    """The keys of a JWK set that can be used; others are left out, as RFC 7517 section 5 asks.

    Raises:
        msgspec.MsgspecError: it is no JWK set.
    """
    found = []
    for described in msgspec.json.decode(raw, type=_Set).keys[:MAX_KEYS]:
        try:
            key = _key(described)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            log.debug("a key of the issuer cannot be used: %s", error)
        else:
            if key is not None:
                found.append(key)
    return tuple(found)


def _key(described: Mapping[str, Any]) -> Key | None:
    kind, kid = described.get("kty"), described.get("kid")
    use, operations = described.get("use", "sig"), described.get("key_ops", ["verify"])
    if kind not in _PUBLIC or use != "sig" or "verify" not in operations or not isinstance(kid, str | None):
        return None  # among them "oct", a shared secret: never checked here
    public = {"kty": kind} | {name: described[name] for name in _PUBLIC[kind]}  # whatever else it has is not read
    key: Any
    if kind == "RSA":
        key = jwt.algorithms.RSAAlgorithm.from_jwk(public)
        fits = _RSA if _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1] else frozenset[str]()
    elif kind == "EC":
        key = jwt.algorithms.ECAlgorithm.from_jwk(public)
        fits = frozenset({_CURVES[public["crv"]]})
    else:
        key = jwt.algorithms.OKPAlgorithm.from_jwk(public)
        fits = frozenset({"EdDSA"})
    if (only := described.get("alg")) is not None:
        fits &= {only}
    return Key(kid, fits, key) if fits else None
