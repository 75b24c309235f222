"""Where a server is."""

import ipaddress
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from jobctl.errors import InvalidInput

DEFAULT_URL: Final = "http://127.0.0.1:8000"
STREAM_PATH: Final = "/api/notifications/ws"


class Address(NamedTuple):
    """A server's base URL, taken apart. ``prefix`` is a path before ``/api`` (behind a proxy), or empty."""

    scheme: str
    host: str
    port: int
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read ``http[s]://HOST[:PORT][/PREFIX]``.

        Raises:
            InvalidInput: it is not of that form; a user, a query or a fragment is refused (no secret is ever in a URL).
        """
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError:
            raise InvalidInput(f"{url!r} is not a URL", field="url") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or not url.isprintable():
            raise InvalidInput(f"a server's URL is like {DEFAULT_URL}, not {url!r}", field="url")
        if not all(0 < len(label) < 64 for label in parts.hostname.removesuffix(".").split(".")):  # RFC 1035, 2.3.4
            raise InvalidInput(f"{parts.hostname!r} cannot be the name of a machine", field="url")
        if parts.username is not None or parts.query or parts.fragment:
            raise InvalidInput("a server's URL has no user, password, query or fragment", field="url")
        secure = parts.scheme == "https"
        return cls(parts.scheme, parts.hostname, port or (443 if secure else 80), parts.path.rstrip("/"))

    @property
    def secure(self) -> bool:
        """Whether TLS protects what is sent."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """``HOST:PORT``, for the ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent stays on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.prefix}"
