"""What the clients of a block saw: counted as they go, kept in memory, written when the measured time is over.

``observations.jsonl`` has one JSON array a line, times in ns of CLOCK_MONOTONIC:

* ``["answer", client, route, status, due, sent, arrived, seq, bytes, empty, jobs]``. ``due`` is when the poll should
  have begun, ``seq`` the position that it told (null: none), ``jobs`` the ``[id, version]`` of jobs in it that
  the client had not seen so before (of a long poll also their ``seq``, third).
* ``["update", client, stream, arrived, seq, id, version]``: a ``job_update``; ``stream`` counts the client's streams.
* ``["open", client, kind, at]``: a connection; ``kind`` is ``http`` or ``stream``.
* ``["error", client, at, text]``: something failed.
"""

import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.load.order import Answered
from bench.load.wire import Carrier, Wire, wire_bytes
from bench.percentile import percentile
from bench.result import Traffic

MAX_ERRORS: Final = 20


class Recorder:
    """One a block. Called from many clients, but never from two at the same instant (gevent switches on I/O only)."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.connections = 0
        self.streams = 0
        self.sent = 0
        self.received = 0
        self.empty = 0
        self.finished = 0
        self.late: list[int] = []
        self.errors: list[str] = []
        self._requests: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._wire: Wire | None = Wire(0, 0)
        self._answers = 0
        self._open: set[Carrier] = set()
        self._series: list[tuple[int, int]] = []

    def answer(
        self, client: int, route: str, status: int, *, due: int, sent: int, arrived: int, seq: int | None, size: int,
        empty: bool, jobs: list[tuple[Any, ...]],
    ) -> None:  # fmt: skip
        """A request was answered."""
        self._requests[route][str(status)] += 1
        self.empty += empty
        self._answers += 1
        self.rows.append(("answer", client, route, status, due, sent, arrived, seq, size, empty, jobs))

    def update(self, client: int, stream: int, arrived: int, seq: int, job_id: str, version: int) -> None:
        """A stream brought an update."""
        self.rows.append(("update", client, stream, arrived, seq, job_id, version))

    def opened(self, client: int, kind: str, carrier: Carrier) -> None:
        """A connection was made."""
        self._open.add(carrier)
        self.connections += 1
        self.streams += kind == "stream"
        self.rows.append(("open", client, kind, time.monotonic_ns()))

    def closing(self, carrier: Carrier) -> None:
        """A connection is about to be closed; what it has carried is counted."""
        self._open.discard(carrier)
        wire = wire_bytes(carrier.sock)
        self.sent += carrier.sent
        self.received += carrier.received
        if wire is None or self._wire is None:
            self._wire = None
        else:
            self._wire = Wire(self._wire.sent + wire.sent, self._wire.received + wire.received)

    def sample(self) -> None:
        """Note how many requests there were so far, and how many bytes."""
        flowing = sum(each.sent + each.received for each in self._open)
        self._series.append((self._answers, self.sent + self.received + flowing))

    def failed(self, client: int, what: str) -> None:
        """Something went wrong; the block will not be believed."""
        self.rows.append(("error", client, time.monotonic_ns(), what))
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(what)

    def began(self, due: int) -> None:
        """A poll or an arrival that was due begins now."""
        self.late.append(time.monotonic_ns() - due)

    def summary(self, *, cpu_s: float, seconds: float) -> Answered:
        """All that was counted."""
        late = sorted(self.late)
        return Answered(
            traffic=Traffic(
                requests={route: dict(counts) for route, counts in sorted(self._requests.items())},
                connections=self.connections,
                streams=self.streams,
                sent=self.sent,
                received=self.received,
                wire_sent=self._wire and self._wire.sent,
                wire_received=self._wire and self._wire.received,
            ),
            empty=self.empty,
            late={name: percentile(late, share) / 1e9 if late else 0.0
                  for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))},
            cpu_s=cpu_s,
            seconds=seconds,
            finished=self.finished,
            errors=tuple(self.errors),
            requests=tuple(requests for requests, _ in self._series),
            transferred=tuple(size for _, size in self._series),
        )  # fmt: skip

    def write(self, path: Path) -> None:
        """Write the observations."""
        encode = msgspec.json.Encoder().encode
        with path.open("wb") as file:
            file.writelines(encode(row) + b"\n" for row in self.rows)
