"""The gate: who asks, from where, and how often. Everything under ``/api`` passes it before a route is chosen."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import trio

from jobctl.errors import Forbidden, KeysUnknown, RateLimited, Unauthorized
from jobctl.model import Identity
from jobctl.settings import Settings, parse_rate
from jobctl.web.ratelimit import RateLimiter, address_key, client_address, is_trusted, parse_proxies
from jobctl.web.request import ApiRequest
from jobctl.web.wiring import Web

PREFIX: Final = "/api/"
PUBLIC: Final = frozenset({"/api/openapi.json", "/api/auth/login", "/api/auth/refresh", "/api/auth/logout"})
"""Paths under ``/api`` that need no token."""
_REMEMBERED: Final = 1024
"""Verified tokens that are kept: checking a signature takes 75 us, looking one up 0.2."""
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
EXPOSED: Final = (
    "ETag, Idempotency-Replayed, Location, Retry-After, X-Jobctl-Position, X-RateLimit-Limit, X-RateLimit-Remaining, "
    "X-RateLimit-Reset, X-Request-Id"
)
PREFLIGHT: Final = [
    ("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE"),
    ("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, If-None-Match, X-Request-Id"),
    ("Access-Control-Max-Age", "600"),
]


class Gate:
    """Lets requests in or raises; what it learns stands on the request afterwards."""

    def __init__(self, web: Web) -> None:
        self._access = web.access
        self._generation = 0
        self._known: dict[str, Identity] = {}
        self._metrics = web.metrics
        self._rate = ""
        self.configure(web.settings)

    def configure(self, settings: Settings) -> None:
        """Take origins, proxies and rate of ``settings``. Buckets are kept unless the rate is another.

        Raises:
            ConfigError: ``trusted_proxies`` has something that is no address; nothing is changed then.
        """
        self._proxies = parse_proxies(settings.trusted_proxies)
        self._origins = frozenset(origin.rstrip("/").lower() for origin in settings.allowed_origins)
        if settings.rate_limit != self._rate:
            self._rate = settings.rate_limit
            self._limiter = RateLimiter(*parse_rate(settings.rate_limit))
        self._known.clear()  # a secret may have been withdrawn

    def address(self, request: ApiRequest) -> str:
        """The client's address, as far as proxies can be believed."""
        peer = request.scope.get("client") or ("local", None)
        return self.address_of(str(peer[0]), request.headers.getlist("X-Forwarded-For"))

    def address_of(self, peer: str, told: Sequence[str]) -> str:
        """``peer``, unless it is a proxy whose ``X-Forwarded-For`` lines ``told`` are believed."""
        return client_address(peer, told, self._proxies)

    async def admit(self, request: ApiRequest) -> None:
        """Check origin, token and rate, in this order.

        Raises:
            Forbidden: the page that asks may not use this server.
            Unauthorized: no valid token.
            RateLimited: too often. A bad token counts for the address that sent it, a good one for its subject only.
        """
        self._check_origin(request)
        if request.path in PUBLIC or request.method == "OPTIONS":
            self._count(request, f"address {address_key(self.address(request))}")
            return
        try:
            request.identity = await self.recognise(request)
        except Unauthorized:
            self._count(request, f"address {address_key(self.address(request))}")
            raise
        request.body.when_read = partial(self._still_in, request.identity)
        self._count(request, f"subject {request.identity.subject}")

    async def recognise(self, request: ApiRequest) -> Identity:
        """``identify``; waits for an external issuer's keys where they have to be fetched first."""
        try:
            return self.identify(request)
        except KeysUnknown:
            await self._access.fetch_keys()
            return self.identify(request)

    def identify(self, request: ApiRequest) -> Identity:
        """Who the token of the request speaks for. Tokens are never taken from a URL.

        Raises:
            Unauthorized: no token, two, or not a valid one.
        """
        lines = request.headers.getlist("Authorization")
        if len(lines) != 1:
            raise Unauthorized
        scheme, _, token = lines[0].strip().partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized
        token = token.strip()
        now = time.time()
        if self._generation != self._access.generation:  # an issuer has taken a key back
            self._generation = self._access.generation
            self._known.clear()
        identity = self._known.get(token)
        if identity is None:
            identity = self._access.identify(token, now=now)
            if len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[token] = identity
        if identity.expires_at <= now:
            self._known.pop(token, None)
            raise Unauthorized
        self._access.check(identity)  # each time: what is remembered may have been revoked
        return identity

    def _still_in(self, identity: Identity) -> None:
        """A body may take a minute to come: who was shut out meanwhile must not act by it."""
        if identity.expires_at <= time.time():
            raise Unauthorized
        self._access.check(identity)

    def _count(self, request: ApiRequest, key: str) -> None:
        request.verdict = self._limiter.hit(key, trio.current_time())
        if not request.verdict.allowed:
            self._metrics.rate_limited += 1
            raise RateLimited(request.verdict.retry_after_s)

    def scheme(self, request: ApiRequest) -> str:
        """``http`` or ``https``, as the client sees it: a trusted proxy that ends TLS says so."""
        peer = request.scope.get("client")
        told = request.headers.getlist("X-Forwarded-Proto")
        return request.scheme if peer is None else self.scheme_of(str(peer[0]), told, request.scheme)

    def scheme_of(self, peer: str, told: Sequence[str], own: str) -> str:
        """``own``, unless ``peer`` is a proxy whose ``X-Forwarded-Proto`` lines ``told`` are believed."""
        if told and is_trusted(peer, self._proxies):
            return told[-1].rpartition(",")[2].strip().lower()
        return own

    def is_own_page(self, request: ApiRequest) -> bool:
        """Whether the browser says that one of this server's own pages asks; programs can say so as well."""
        fetched = request.headers.getlist("Sec-Fetch-Site")
        if fetched:
            return fetched == ["same-origin"]
        origins = request.headers.getlist("Origin")
        return len(origins) == 1 and _same_origin(origins[0].strip(), request, self.scheme(request))

    def _check_origin(self, request: ApiRequest) -> None:
        origins = request.headers.getlist("Origin")
        if not origins:
            return  # not a browser, or a browser's plain GET of its own page
        origin = origins[0].strip()
        if len(origins) == 1 and origin.lower() in self._origins:
            request.cors_origin = origin
        elif len(origins) > 1 or not _same_origin(origin, request, self.scheme(request)):
            raise Forbidden("pages of this origin may not use this server; see the setting allowed_origins")


def _same_origin(origin: str, request: ApiRequest, scheme: str) -> bool:
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return False
    host = (request.headers.get("Host") or "").strip().lower()
    if not host or parts.scheme != scheme or parts.path or parts.query or parts.fragment:
        return False
    port = _DEFAULT_PORTS.get(parts.scheme, "")
    return parts.netloc.removesuffix(port) == host.removesuffix(port)


def cors_headers(request: ApiRequest) -> list[tuple[str, str]]:
    """What lets the page of an allowed origin read the answer; nothing for anybody else."""
    if request.cors_origin is None:
        return []
    told = [("Access-Control-Allow-Origin", request.cors_origin), ("Access-Control-Expose-Headers", EXPOSED)]
    if is_preflight(request):
        told += PREFLIGHT
    return told


def is_preflight(request: ApiRequest) -> bool:
    """Whether this only asks what a page of an allowed origin may do."""
    return (
        request.method == "OPTIONS"
        and request.cors_origin is not None
        and "Access-Control-Request-Method" in request.headers
    )
