"""How often somebody may ask: GCRA, the token bucket that needs one number a key.

A key has a theoretical arrival time (TAT): when its bucket will be full again. A request moves the TAT on by one
emission interval (period / capacity) and is refused when that would put it more than one period ahead of now. A
refused request costs nothing. Time comes in from outside, so that a test can move it.
"""

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from jobctl.errors import ConfigError

MAX_KEYS: Final = 100_000
"""Buckets that are remembered: about 20 MB. Beyond it the one that was used longest ago is forgotten (it is full
again then), so an attacker with many addresses can at most give others their full rate back."""
_SWEEP: Final = 2
"""Full buckets dropped for each request: more than the one that it can add, so memory goes back when traffic does."""
_NS: Final = 1_000_000_000

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Verdict(NamedTuple):
    """What became of one request.

    ``remaining`` is how many more could come at once, ``reset_s`` the seconds until the bucket is full again and
    ``retry_after_s`` the seconds until one more is let in (0 when this one was).
    """

    allowed: bool
    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float

    def headers(self) -> list[tuple[str, str]]:
        """``X-RateLimit-*``, and ``Retry-After`` (whole seconds, at least 1) on a refusal."""
        told = [
            ("X-RateLimit-Limit", str(self.limit)),
            ("X-RateLimit-Remaining", str(self.remaining)),
            ("X-RateLimit-Reset", str(math.ceil(self.reset_s))),
        ]
        if not self.allowed:
            told.append(("Retry-After", str(max(1, math.ceil(self.retry_after_s)))))
        return told


class RateLimiter:
    """A bucket of ``capacity`` for each key, refilled evenly over ``period`` seconds."""

    def __init__(self, capacity: int, period: float, *, max_keys: int = MAX_KEYS) -> None:
        # Whole nanoseconds, because sums of fractions take or give a request now and then.
        self._capacity = capacity
        self._interval = max(1, int(period * _NS) // capacity)
        self._window = self._interval * capacity
        self._max_keys = max_keys
        # In order of use, the one used longest ago first. A plain dict finds its first key by walking over all that
        # were deleted before it: with 100,000 keys that come and go, 0.1 ms for each request.
        self._tats: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tats)

    def hit(self, key: str, now: float) -> Verdict:
        """One request of ``key`` at ``now`` (seconds of any clock that does not go back)."""
        at = int(now * _NS)
        self._sweep(at)
        ahead = max(self._tats.pop(key, at) - at, 0) + self._interval
        allowed = ahead <= self._window
        wait = 0 if allowed else ahead - self._window
        if not allowed:
            ahead -= self._interval
        if len(self._tats) >= self._max_keys:
            self._tats.popitem(last=False)
        self._tats[key] = at + ahead
        return Verdict(
            allowed=allowed,
            limit=self._capacity,
            remaining=(self._window - ahead) // self._interval,
            reset_s=ahead / _NS,
            retry_after_s=wait / _NS,
        )

    def _sweep(self, at: int) -> None:
        for _ in range(_SWEEP):
            oldest = next(iter(self._tats), None)
            if oldest is None or self._tats[oldest] > at:
                return
            del self._tats[oldest]


def parse_proxies(networks: Iterable[str]) -> tuple[Network, ...]:
    """The setting ``trusted_proxies``: addresses and networks (``10.0.0.0/8``).

    Raises:
        ConfigError: one is neither.
    """
    parsed = []
    for text in networks:
        try:
            parsed.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise ConfigError(f"trusted_proxies: {text!r} is neither an address nor a network") from None
    return tuple(parsed)


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Who asks: the peer, or, behind trusted proxies, the last address of ``X-Forwarded-For`` that is not one.

    Read from the right, because everything left of what a trusted proxy wrote can be made up. Where an entry is
    no address, the proxy that passed it on is taken.
    """
    if not trusted:
        return peer
    client = peer
    hops = [hop for line in forwarded for hop in line.split(",")]
    while hops and is_trusted(client, trusted):
        address = _address(hops.pop())
        if address is None:
            break
        client = address
    return client


def address_key(address: str) -> str:
    """The bucket of an address. An IPv6 client has at least a /64 to itself (RFC 6177), so that is one client."""
    try:
        parsed = _canonical(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))


def _canonical(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    parsed = ipaddress.ip_address(address)
    return parsed.ipv4_mapped or parsed if isinstance(parsed, ipaddress.IPv6Address) else parsed


def is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    """Whether ``address`` is one of the proxies."""
    try:
        parsed = _canonical(address)
    except ValueError:
        return False
    return any(parsed in network for network in trusted)


def _address(hop: str) -> str | None:
    """The address in one entry of ``X-Forwarded-For``; some proxies add brackets or a port."""
    text = hop.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
