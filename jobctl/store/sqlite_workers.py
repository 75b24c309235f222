"""The one process of a SQLite store. It is known from memory: who else could ask?"""

from collections.abc import Callable

import msgspec

from jobctl.model import wire_time
from jobctl.store.workers import Beat, NewWorker
from jobctl.worker import Worker


class SqliteWorkers:
    """Implements ``WorkerStore``. ``clock``: ms since the epoch."""

    lease_s: float | None = None

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._here: dict[str, Worker] = {}

    async def join(self, worker: NewWorker) -> None:
        """Be there."""
        now = wire_time(self._clock())
        self._here[worker.id] = Worker(
            id=worker.id, kind=worker.kind, host=worker.host, pid=worker.pid, version=worker.version, started_at=now,
            seen_at=now, state="live", slots=worker.slots, running=0, leader=True, handlers=tuple(worker.handlers),
        )  # fmt: skip

    async def beat(self, worker_id: str, *, running: int, lead: bool) -> Beat:  # noqa: ARG002 - it always does
        """Note how many slots are in use."""
        known = self._here.get(worker_id)
        if known is not None:
            seen = wire_time(self._clock())
            self._here[worker_id] = msgspec.structs.replace(known, seen_at=seen, running=running)
        return Beat(alive=known is not None, leader=known is not None, workers=await self.all())

    async def leave(self, worker_id: str) -> None:
        """Be gone."""
        self._here.pop(worker_id, None)

    async def all(self) -> tuple[Worker, ...]:
        """This process."""
        return tuple(self._here.values())
