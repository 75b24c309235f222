"""Forgets what is old: finished jobs, events, logs, and what nobody needs. In small batches, with as much pause."""

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import trio

from jobctl.errors import StoreUnavailable
from jobctl.states import TERMINAL
from jobctl.store.base import Store
from jobctl.store.retention import Pruned

FIRST_AFTER_S: Final = 10.0
"""After the start, when there is more to do."""
EVERY_S: Final = 60.0
BY_HAND_S: Final = 5.0
"""How long one request prunes; whoever wants more asks again."""
log = logging.getLogger("jobctl.engine")


class Keep(Protocol):
    """How long and how many; see ``settings.Retention``. Spans are seconds, None is for ever."""

    @property
    def completed(self) -> float | None:
        """Completed jobs, from their end."""

    @property
    def failed(self) -> float | None:
        """Failed jobs."""

    @property
    def cancelled(self) -> float | None:
        """Cancelled jobs."""

    @property
    def max_finished(self) -> int:
        """Jobs of each of these statuses."""

    @property
    def events(self) -> float | None:
        """Events."""

    @property
    def max_events(self) -> int:
        """Events."""

    @property
    def logs(self) -> float | None:
        """Lines of logs."""


class Maintenance:
    """One per process."""

    def __init__(self, store: Store, keep: Keep) -> None:
        self._store = store
        self.keep = keep
        """In force from the next sweep on."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sweep once a minute, until it is cancelled."""
        task_status.started()
        await trio.sleep(FIRST_AFTER_S)
        while True:
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.warning("cannot remove what is old: %s", error)
            except Exception:
                log.exception("maintenance failed; it is tried again")
            await trio.sleep(EVERY_S)

    async def sweep(self) -> dict[str, int]:
        """Remove all that is to go by now; how many of each kind."""
        keep, store = self.keep, self._store.retention
        gone: Counter[str] = Counter()
        if keep.logs is not None:
            older_than = keep.logs
            gone["log lines"] += await _all(lambda: store.prune_logs(older_than=older_than))
        for status, age in (("completed", keep.completed), ("failed", keep.failed), ("cancelled", keep.cancelled)):
            gone[f"{status} jobs"] += await _all(
                lambda status=status, age=age: store.prune_jobs(status, older_than=age, keep=keep.max_finished)  # type: ignore[misc]
            )
        gone["events"] += await _all(lambda: store.prune_events(older_than=keep.events, keep=keep.max_events))
        gone["unused rows"] += await _all(store.tidy)
        told = {what: n for what, n in gone.items() if n}
        if told:
            log.info("removed what is old: %s", ", ".join(f"{n} {what}" for what, n in told.items()))
        return told


async def _all(prune: Callable[[], Awaitable[Pruned]]) -> int:
    count = 0
    while True:
        pruned, took = await _timed(prune)
        count += pruned.count
        if not pruned.more:
            return count
        await trio.sleep(took)  # at most half of the writer's time, however much there is to do


async def _timed(prune: Callable[[], Awaitable[Pruned]]) -> tuple[Pruned, float]:
    began = time.monotonic()
    return await prune(), time.monotonic() - began


async def prune(
    store: Store, statuses: Sequence[str], older_than: float, *, within: float = BY_HAND_S
) -> tuple[dict[str, int], bool]:
    """Remove jobs of terminal ``statuses`` that ended more than ``older_than`` seconds ago, by hand.

    Returns:
        How many of each status are gone, and whether there are more: it stops after ``within`` seconds.
    """
    deadline = time.monotonic() + within
    gone: dict[str, int] = {}
    for status in statuses:
        if status not in TERMINAL:
            raise ValueError(f"jobs that are {status} have not ended")
        gone[status] = 0
        more = True
        while more:
            if time.monotonic() >= deadline:
                return gone, True
            pruned, took = await _timed(
                lambda status=status: store.retention.prune_jobs(status, older_than=older_than)  # type: ignore[misc]
            )
            gone[status] += pruned.count
            more = pruned.more
            if more:
                await trio.sleep(took)
    return gone, False
