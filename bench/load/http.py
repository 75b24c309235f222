"""A client's HTTP/1.1 connection: one request at a time, nothing sent twice, every byte counted."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

import h11

from bench.load.order import Place
from bench.load.wire import Carrier

TIMEOUT_S: Final = 60.0
"""For an answer. Beyond it the block is lost anyway."""
_CHUNK: Final = 256 * 1024


class Answer(NamedTuple):
    """A whole response; ``sent`` and ``arrived`` are CLOCK_MONOTONIC, ns: before the first byte, after the last."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    sent: int
    arrived: int
    size: int
    """Bytes, head and body."""

    @property
    def seq(self) -> int | None:
        """The position that it tells."""
        found = self.headers.get(b"x-jobctl-position")
        return None if found is None else int(found.rpartition(b":")[2])

    @property
    def epoch(self) -> str:
        """The log of that position."""
        return self.headers.get(b"x-jobctl-position", b"").rpartition(b":")[0].decode("ascii")


class HttpConnection:
    """Open from its construction until ``close``."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.sock = place.connect(TIMEOUT_S)
        self._parser = h11.Connection(h11.CLIENT)
        self.sent = 0
        self.received = 0

    def get(self, target: str, token: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
        """One request.

        Raises:
            OSError: the connection broke.
            h11.RemoteProtocolError: the server said something else than a response.
        """
        if self._parser.our_state is not h11.IDLE:
            self._parser.start_next_cycle()
        request = h11.Request(
            method="GET",
            target=self._place.prefix + target,
            headers=[
                ("Host", self._place.authority),
                ("Authorization", f"Bearer {token}"),
                ("Accept", "application/json"),
                *headers,
            ],
        )
        raw = (self._parser.send(request) or b"") + (self._parser.send(h11.EndOfMessage()) or b"")
        before, sent = self.received, time.monotonic_ns()
        self.sock.sendall(raw)
        self.sent += len(raw)
        status, found, body = 0, {}, []
        while True:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                data = self.sock.recv(_CHUNK)
                self.received += len(data)
                self._parser.receive_data(data)
            elif isinstance(event, h11.Response):
                status, found = event.status_code, dict(event.headers)
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return Answer(status, found, b"".join(body), sent, time.monotonic_ns(), self.received - before)
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionError("the server closed the connection instead of answering")

    @property
    def reusable(self) -> bool:
        """Whether another request may follow: neither side has asked for the end."""
        return self._parser.our_state is h11.DONE and self._parser.their_state is h11.DONE

    def close(self, closing: Callable[[Carrier], None]) -> None:
        """Close, once ``closing`` has seen what it carried."""
        closing(self)
        self.sock.close()
