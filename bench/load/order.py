"""What the load generator is told (``go.json``) and what it answers (``clients.json``). Values."""

import socket
import ssl
from pathlib import Path

import msgspec

from bench.result import Traffic


class Place(msgspec.Struct, frozen=True):
    """Where the server is. ``secure``: over TLS; ``prefix``: of its paths, behind a proxy."""

    host: str
    port: int
    secure: bool = False
    prefix: str = ""

    @property
    def authority(self) -> str:
        """``HOST:PORT``, for the ``Host`` header."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def connect(self, seconds: float) -> socket.socket:
        """A connection; reads and writes time out after so long. Raises OSError."""
        sock = socket.create_connection((self.host, self.port), seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.secure:
            return sock
        return ssl.create_default_context().wrap_socket(sock, server_hostname=self.host)


class Order(msgspec.Struct, frozen=True):
    """What the clients of a block do. Times are CLOCK_MONOTONIC, ns, the same clock in every process of a machine."""

    scenario: str
    kind: str
    keep: bool
    etag: bool
    subscribe: bool
    cuts: tuple[int, ...]
    """When every stream is cut."""
    place: Place
    tokens: tuple[str, ...]
    """One a client; the clients of one user have the same."""
    phases: tuple[int, ...]
    """When each client arrives, ns after ``start``."""
    start: int
    seconds: float
    interval: float
    scale: float
    seed: int

    @property
    def end(self) -> int:
        """When the measured time is over."""
        return self.start + round(self.seconds * 1e9)

    @property
    def polls(self) -> int:
        """Times that a client polls."""
        return round(self.seconds / self.interval)


class Answered(msgspec.Struct, frozen=True):
    """What the load generator reports."""

    traffic: Traffic
    empty: int
    late: dict[str, float]
    """Seconds that polls and arrivals began after their time: ``p50``, ``p99``, ``max``."""
    cpu_s: float
    """Of its process, in the measured time."""
    seconds: float
    finished: int
    """Clients that did all they were to do."""
    errors: tuple[str, ...]
    requests: tuple[int, ...] = ()
    """So far, at each of ``SAMPLES`` + 1 times from the start to the end."""
    transferred: tuple[int, ...] = ()
    """Application bytes of both directions, likewise."""


def read_order(folder: Path) -> Order | None:
    """The order, once it is there; it appears whole."""
    try:
        return msgspec.json.decode((folder / "go.json").read_bytes(), type=Order)
    except FileNotFoundError:
        return None


def write_whole(path: Path, raw: bytes) -> None:
    """Write a file (mode 0600) so that nobody sees half of it."""
    fresh = path.with_name(f".{path.name}.part")
    fresh.touch(0o600)
    fresh.write_bytes(raw)
    fresh.replace(path)
