"""A TCP proxy before PostgreSQL that loses what it is told to lose."""

import contextlib
import socket
import threading
from typing import Final

_CHUNK: Final = 65536


class Proxy:
    """Between clients and the server at ``port`` on loopback; its own port is ``port``.

    ``swallow`` loses the answers from now on, and cuts the connection as soon as there is one. ``drop`` loses what
    clients send from now on, and cuts at once. Both concern the connections that are there.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._swallowing: set[socket.socket] = set()
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """Let requests through; lose the answers."""
        self._swallowing.update(client for client, _ in self._pairs)

    def drop(self) -> None:
        """Cut every connection now."""
        pairs, self._pairs = self._pairs, []
        for client, server in pairs:
            self._cut(client, server)

    def close(self) -> None:
        """Stop."""
        self._listener.close()
        self.drop()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                self._pairs.append((client, server))
                threading.Thread(target=self._pass, args=(client, server, client, server), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, client, server), daemon=True).start()

    def _pass(
        self, source: socket.socket, sink: socket.socket, client: socket.socket, server: socket.socket
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if source is server and client in self._swallowing:
                    break
                sink.sendall(data)
        self._cut(client, server)

    def _cut(self, client: socket.socket, server: socket.socket) -> None:
        self._swallowing.discard(client)
        if (client, server) in self._pairs:
            self._pairs.remove((client, server))
        self.cuts += 1
        for each in (client, server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
