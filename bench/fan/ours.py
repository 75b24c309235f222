"""jobctl in the fan-out benchmark: the whole service as it is in production, and updates that come one of two ways.

``store`` false: commits are made up and given to the hub, as the store would: what is measured is the hub and the
sockets. ``store`` true: each update is a job that is enqueued in the store, fsynced, with its event, and pushed.

Run as ``python -m bench.fan.ours ORDER.json``; see ``order``.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from bench.conversation import heard, say
from bench.counting import Commits
from bench.fan import update
from bench.fan.order import Command, Done, Order, Ready
from jobctl import lifetime, logs
from jobctl.events import Commit
from jobctl.model import NewJob
from jobctl.service import Service, serve
from jobctl.settings import Settings
from jobctl.store.committer import now_ms
from jobctl.store.sqlite import SqliteStore

LATER_MS: Final = 86_400_000
"""Jobs are due in a day: an update is the commit of a new job, and nothing runs."""
LOOK_EVERY_S: Final = 0.02


async def main(order: Order) -> None:
    """Serve until stdin ends."""
    folder = Path(order.folder)
    settings = Settings.model_validate(
        {
            "port": 0, "db": folder / "bench.db", "state_dir": folder / "state", "grace": 0.0,
            "auth": {"secret": order.secret},
        }
    )  # fmt: skip
    logs.configure(settings.log.level, settings.log.format)
    async with trio.open_nursery() as nursery:
        service: Service = await nursery.start(partial(serve, settings, signals=False))
        target = _Target(service, in_store=order.store)
        say(Ready(service.door.addresses[0][1]))
        async for line in heard():
            say(await target.obey(msgspec.json.decode(line, type=Command)))
        service.stop()


class _Target:
    """Does what the driver says."""

    def __init__(self, service: Service, *, in_store: bool) -> None:
        assert isinstance(service.store, SqliteStore)  # noqa: S101 - there is no other yet
        self._service = service
        self._commits = Commits(service.store)
        self._in_store = in_store
        self._seq = service.hub.head = update.FIRST_SEQ if not in_store else service.hub.head

    async def obey(self, command: Command) -> Done:
        if command.empty:
            while self._service.endpoint.connections:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(LOOK_EVERY_S)
        first, flushes = len(self._commits.stamped), self._service.hub.flushes
        start = trio.current_time()
        names = [update.name_of(k % command.names if command.names else 0) for k in range(command.batch)]
        for n in range(command.flushes):
            await trio.sleep_until(start + n / command.rate)
            if self._in_store:
                jobs = [NewJob(name=name, scheduled_for=now_ms() + LATER_MS) for name in names]
                await self._service.store.enqueue(jobs, owner="root")
            else:
                events = tuple(update.make(self._seq + k, name) for k, name in enumerate(names, start=1))
                self._seq += command.batch
                self._service.hub.publish(Commit(events=events))
                await self._service.hub.reached(self._seq)  # or a busy machine would get many in one flush
        stamps = tuple((event.seq, at) for at, event in self._commits.stamped[first:])
        await self._service.hub.reached(stamps[-1][0] if stamps else 0)
        return Done(stamps=stamps, flushes=self._service.hub.flushes - flushes, unsent=self._most_unsent())

    def _most_unsent(self) -> int:
        """The most that the kernel keeps for one who does not take it."""
        transports = [each.transport for each in self._service.endpoint.connections]
        return max((each.sent - each.acknowledged() for each in transports), default=0)


if __name__ == "__main__":
    lifetime.settle()
    trio.run(main, msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Order))
