"""What systemd is told (``sd_notify(3)``): a datagram to the socket named in ``NOTIFY_SOCKET``, or nothing at all.

With ``Type=notify`` a start is over when the server can take work, not when its process exists; with ``WatchdogSec=``
a server whose event loop does not turn is started anew.
"""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Tells the service manager how the server is; without one every call does nothing.

    Args:
        environment: Where ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC`` are looked for.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        place = environment.get("NOTIFY_SOCKET", "")
        # An abstract socket is written with @; anything but that and a path is not for us (vsock, for one).
        self._address = "\0" + place[1:] if place.startswith("@") else place if place.startswith("/") else None
        self.watchdog_s = _watchdog(environment) if self._address else None
        """How often, at least, ``tell("WATCHDOG=1")`` is expected, in seconds; None: not at all."""

    def tell(self, *assignments: str) -> bool:
        """Send ``READY=1``, ``STATUS=...`` and the like; False where nobody listens. Never raises, never blocks."""
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0)) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(assignments).encode(), self._address)
        except OSError:
            return False
        return True


def _watchdog(environment: Mapping[str, str]) -> float | None:
    text, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1_000_000
