"""Callers of an HTTP server: each posts one request after the other on a connection of its own.

All in one loop of non-blocking sockets, so that the load costs little beside what it loads.
"""

import re
import selectors
import socket
import time
from collections.abc import Callable
from typing import Final

from bench.processes import Failed

HOST: Final = "127.0.0.1"
TIMEOUT_S: Final = 60.0
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def post(path: str, token: str | None, body: bytes) -> bytes:
    """The bytes of one request."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def get(path: str, token: str) -> bytes:
    """The bytes of a request that asks for something."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


class Caller:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection((HOST, port), timeout=TIMEOUT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got = b""

    def call(self, request: bytes) -> bytes:
        """One request, and its answer, whole."""
        self.sock.sendall(request)
        while (answer := self.take()) is None:
            pass
        return answer

    def take(self) -> bytes | None:
        """What has come; the answer once it is whole.

        Raises:
            Failed: it is no success, or the server is gone.
        """
        data = self.sock.recv(1 << 18)
        if not data:
            raise Failed("the server closed a connection")
        self._got += data
        head, found, _ = self._got.partition(b"\r\n\r\n")
        if not found:
            return None
        length = _LENGTH.search(head)
        if length is None or not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
            raise Failed(f"the server answered {head[:100]!r}")
        if len(self._got) < len(head) + 4 + int(length[1]):
            return None
        answer, self._got = self._got, b""
        return answer


def together(port: int, request: bytes, *, callers: int, requests: int) -> float:
    """Seconds that so many requests took, from so many callers at once."""
    those = [Caller(port) for _ in range(callers)]
    try:
        for each in those:
            each.call(request)  # the first one of a connection costs more
        left = requests
        began = time.perf_counter()
        with selectors.DefaultSelector() as selector:
            for each in those:
                selector.register(each.sock, selectors.EVENT_READ, each)
                each.sock.sendall(request)
                left -= 1
            waiting = callers
            while waiting:
                for key, _ in selector.select(TIMEOUT_S):
                    if key.data.take() is None:
                        continue
                    if left > 0:
                        left -= 1
                        key.data.sock.sendall(request)
                    else:
                        waiting -= 1
        return time.perf_counter() - began
    finally:
        for each in those:
            each.sock.close()


def one_by_one(port: int, request: Callable[[int], bytes], requests: int, *, gap_s: float) -> list[int]:
    """Post on one connection with a pause before each; when each was sent (CLOCK_MONOTONIC, ns)."""
    caller = Caller(port)
    sent = []
    try:
        for n in range(requests):
            time.sleep(gap_s)
            asked = request(n)
            sent.append(time.monotonic_ns())
            caller.call(asked)
    finally:
        caller.sock.close()
    return sent
