"""What the load generator is told (``go.json``) and what it answers (``clients.json``). Values."""

from pathlib import Path

import msgspec

from bench.result import Traffic


class Order(msgspec.Struct, frozen=True):
    """What the clients of a block do. Times are CLOCK_MONOTONIC, ns, the same clock in every process of a machine."""

    scenario: str
    kind: str
    keep: bool
    etag: bool
    subscribe: bool
    cuts: tuple[int, ...]
    """When every stream is cut."""
    host: str
    port: int
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
    latency: dict[str, str] = {}
    """By route: HdrHistogram of microseconds from the first byte sent to the last received, base64."""


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
