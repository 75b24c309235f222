"""A plain TCP proxy that counts what passes: connections, and the request lines that clients send. It knows no more."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import Counter
from typing import Self

REQUEST = re.compile(rb"(GET|POST) (/[^ ?]*)[^ ]* HTTP/1\.1\r\n")
STREAM = "GET /api/notifications/ws"


class CountingProxy:
    """Listens on ``address``; what connects is passed on to ``target``, which is set before anybody does."""

    def __init__(self) -> None:
        self.target = ("", 0)
        self.connections = 0
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._accepting = threading.Thread(target=self._accept)
        self._pumps: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        for each in self._pumps:
            each.join(10)
        self._listener.close()

    @property
    def requests(self) -> dict[str, int]:
        return {route: n for route, n in self._seen.items() if route != STREAM}

    @property
    def streams(self) -> int:
        return self._seen[STREAM]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self.target)
            for source, sink, look in ((client, server, True), (server, client, False)):
                self._pumps.append(threading.Thread(target=self._pump, args=(source, sink, look)))
                self._pumps[-1].start()

    def _pump(self, source: socket.socket, sink: socket.socket, look: bool) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if look:
                    rest = self._count(rest + data)
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        if not look:
            for each in (source, sink):
                each.close()

    def _count(self, data: bytes) -> bytes:
        """Count the whole request lines in ``data``; what may be the beginning of another is left."""
        end = 0
        for found in REQUEST.finditer(data):
            with self._lock:
                self._seen[f"{found[1].decode()} {found[2].decode()}"] += 1
            end = found.end()
        return data[max(end, len(data) - 4096) :]
