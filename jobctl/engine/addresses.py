"""Which addresses a webhook may be sent to, and how a name becomes one.

A name is resolved once, every address that it has is looked at, and the connection goes to one of those very
addresses: a second resolution could give another answer (DNS rebinding).
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import trio

Resolver = Callable[[str, int], Awaitable[Sequence[tuple[Any, ...]]]]
"""``getaddrinfo`` for TCP: ``(host, port)`` to its 5-tuples."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Forbidden(Exception):
    """An address that no webhook may be sent to unless ``allow_private`` says so."""


# The registries of special addresses (IANA, RFC 6890 and its updates), written out: what ``ipaddress`` calls private
# has changed between patch releases of Python.
NOT_PUBLIC_V4: Final = {
    ipaddress.IPv4Network(network): what
    for network, what in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "private (carrier-grade NAT)"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
}
PUBLIC_V6: Final = ipaddress.IPv6Network("2000::/3")
"""All that is given out for the public Internet. Mapped, NAT64, unique local, link-local, multicast lie outside."""
NOT_PUBLIC_V6: Final = {
    ipaddress.IPv6Network(network): what
    for network, what in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "an IPv4-mapped address"),
        ("::/96", "an IPv4-compatible address"),
        ("64:ff9b::/96", "a NAT64 address"),
        ("64:ff9b:1::/48", "a NAT64 address"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        ("2001::/32", "a Teredo address"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "a 6to4 address"),
        ("3fff::/20", "for documentation"),
    )
}
_ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})
"""Upper half of the interface identifier of an IPv4 address in any network (RFC 5214)."""


def why_not(address: Address) -> str | None:
    """What bars an address; None for one of the public Internet."""
    if isinstance(address, ipaddress.IPv4Address):
        return next((what for network, what in NOT_PUBLIC_V4.items() if address in network), None)
    for network, what in NOT_PUBLIC_V6.items():
        if address in network:
            return what
    if address not in PUBLIC_V6:
        return "reserved"
    return "an ISATAP address" if int(address) >> 32 & 0xFFFF_FFFF in _ISATAP else None


async def resolve(host: str, port: int, *, allow_private: bool, resolver: Resolver) -> list[tuple[int, Any]]:
    """The addresses of ``host`` to connect to, each ``(family, socket address)``, in the resolver's order.

    Raises:
        Forbidden: one of them is not public.
        OSError: there is none.
    """
    found = await resolver(host, port)
    places: dict[tuple[int, Any], None] = {}
    for family, _, _, _, place in found:
        if family not in (socket.AF_INET, socket.AF_INET6):
            continue
        address = ipaddress.ip_address(place[0])
        reason = why_not(address)
        if reason is not None and not allow_private:
            raise Forbidden(f"{host} is {reason}" if host == str(address) else f"{host} is {address}, {reason}")
        places[family, place] = None
    if not places:
        raise OSError(f"{host} has no address")
    return list(places)


async def system_resolver(host: str, port: int) -> Sequence[tuple[Any, ...]]:
    """The system's own, for TCP."""
    return await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
