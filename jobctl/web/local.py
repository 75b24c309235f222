"""Whether a program on this machine asks, and for itself."""

import ipaddress
from typing import Any, Final
from urllib.parse import urlsplit

_FORWARDED: Final = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via")
"""What proxies add: a peer on this machine that sends one asks for somebody else."""


def is_local(scope: Any) -> bool:
    """Whether the request of an ASGI ``scope`` is such a program's.

    Not of one that passes on what others ask, nor of a browser for a page from elsewhere: it says so by ``Origin`` or
    ``Sec-Fetch-Site``, and where that page's name was made to point here (DNS rebinding), by ``Host``.
    """
    peer, headers = scope.get("client"), scope["headers"]
    names = {name for name, _ in headers}
    if peer is None or not is_loopback(str(peer[0])) or b"origin" in names or not names.isdisjoint(_FORWARDED):
        return False
    if not {value for name, value in headers if name == b"sec-fetch-site"} <= {b"none", b"same-origin"}:
        return False
    named = next((value.decode("latin-1") for name, value in headers if name == b"host"), "")
    try:
        host = urlsplit(f"//{named}").hostname or ""
    except ValueError:
        return False
    return host == "localhost" or is_loopback(host)


def is_loopback(text: str) -> bool:
    """Whether ``text`` is an address of this machine alone."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
