"""Who has connected and not signed in yet, by address: one machine must not take every place without a token."""

from collections import Counter

from jobctl.stream.connection import Connection


class Waiting:
    """Connections that have not signed in. A refusal costs nobody else: each address has a count of its own."""

    __slots__ = ("_address_of", "_count")

    def __init__(self) -> None:
        self._address_of: dict[Connection, str] = {}
        self._count: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._address_of)

    def admit(self, connection: Connection, address: str, limit: int) -> bool:
        """Count ``connection``; False, and it is not counted, where ``address`` has ``limit`` of them already."""
        if self._count[address] >= limit:
            return False
        self._count[address] += 1
        self._address_of[connection] = address
        return True

    def leave(self, connection: Connection) -> None:
        """It has signed in, or is gone; harmless when it was not counted."""
        address = self._address_of.pop(connection, None)
        if address is not None:
            self._count[address] -= 1
            if not self._count[address]:
                del self._count[address]
