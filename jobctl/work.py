"""``jobctl work``: the engine alone, beside servers that share its database. No API, no stream.

start:  settings, handlers -> store -> lease -> runner -> health, where it is asked for
stop:   claim nothing -> running jobs get their grace -> the rest is given back -> the lease is given up
"""

import logging
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from jobctl import database, lifetime, logs, reload, spare_memory
from jobctl.database_url import DatabaseUrl
from jobctl.engine import registry as handlers
from jobctl.engine.engine import LAST_MOMENT_S, Engine
from jobctl.errors import ConfigError
from jobctl.metrics import Metrics
from jobctl.notify import Notifier
from jobctl.settings import Settings, parse_address

if TYPE_CHECKING:
    from jobctl.door import Door

HEALTH_CONNECTIONS: Final = 20
"""Of supervisors and Prometheus, at once."""
log = logging.getLogger("jobctl")


def main(settings: Settings) -> int:
    """Run jobs until SIGTERM or Ctrl-C; returns the exit code.

    Raises:
        StartupError: it cannot start as it was asked to; one line says why.
    """
    logs.configure(settings.log.level, settings.log.format)
    lifetime.run(partial(work, settings))
    return 0


async def work(
    settings: Settings, *, signals: bool = True, task_status: trio.TaskStatus["Work"] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run jobs until ``Work.stop`` is called (or a signal comes, where ``signals``). Started once it takes jobs."""
    if not isinstance(settings.db, DatabaseUrl):
        raise ConfigError(
            f"db: {settings.db} is a file, which one process owns: `jobctl serve` runs its jobs as well. "
            "`jobctl work` shares the queues of a PostgreSQL database: --db postgresql://..."
        )
    registry = handlers.load(settings)
    logs.hide(*reload.secrets_of(settings))
    metrics = Metrics()
    with ExitStack() as stack:
        sockets = _listen(settings.metrics)
        for each in sockets:
            stack.callback(each.close)
        async with database.open_database(settings, metrics, events=False) as store:  # no stream tells them
            engine = Engine(settings, store, registry, kind="work", metrics=metrics)
            work = Work(settings, engine, registry.names())
            if sockets:
                work.health = work.door(sockets, metrics)
            await work.run(signals=signals, task_status=task_status)


def _listen(where: str | None) -> Sequence[socket.socket]:
    if where is None:
        return ()
    from jobctl.door import listen

    return listen(*parse_address(where), option="--metrics")


class Work:
    """An engine while it runs."""

    def __init__(self, settings: Settings, engine: Engine, names: list[str]) -> None:
        self.settings, self.engine, self._names = settings, engine, names
        self.notifier = Notifier()
        self.health: Door | None = None
        """Where it answers whether it is well, if it does."""
        self._stop = trio.Event()

    def stop(self) -> None:
        """Begin the orderly stop; ``run`` returns when it is done."""
        self._stop.set()

    def not_ready(self) -> list[str]:
        """Why it does not run jobs now; empty when it does."""
        stopping = ["the process is stopping"] if self._stop.is_set() else []
        return [*stopping, *self.engine.not_ready()]

    def door(self, sockets: Sequence[socket.socket], metrics: Metrics) -> "Door":
        """Serves ``/healthz``, ``/readyz`` and ``/metrics`` on ``sockets``. Imported here: most do not want it."""
        from jobctl.door import Door, check_hypercorn
        from jobctl.exporter import Exporter
        from jobctl.web.health import Health

        check_hypercorn()
        exporter = Exporter(metrics, self.engine.runner, self.not_ready)
        return Door(Health(self.not_ready, exporter.text), sockets, grace=1.0, max_connections=HEALTH_CONNECTIONS)

    async def run(
        self, *, signals: bool = False, task_status: trio.TaskStatus["Work"] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Start, wait for ``stop``, and stop."""
        engine = self.engine
        await engine.prepare()
        async with trio.open_nursery() as nursery:
            if signals:
                watch = partial(
                    lifetime.watch_signals, self.stop, stopping=self._stop.is_set, reload=self._not_reloaded
                )
                await nursery.start(watch)
            await engine.start(nursery)
            if self.health is not None:
                (host, port), *_ = await nursery.start(self.health.run)
                where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                log.info("answers /metrics, /healthz and /readyz on %s", where)
            names = ", ".join(self._names) or "none"
            log.info("works as %s (database %s, handlers: %s)", engine.lease.id, self.settings.db, names)
            self.notifier.tell("READY=1", f"STATUS=works as {engine.lease.id}")
            nursery.start_soon(lifetime.say_alive, self.notifier)
            nursery.start_soon(spare_memory.give_back)
            task_status.started(self)
            await self._stop.wait()
            self.notifier.tell("STOPPING=1", "STATUS=stops; running jobs get their time")
            log.info("stopping; running jobs get %g s", self.settings.grace)
            with trio.move_on_after(self.settings.grace + LAST_MOMENT_S):
                await engine.drain()
            if self.health is not None:
                self.health.stop()
            await lifetime.leave_behind(engine.store, engine.runner.left, ours=signals)
            nursery.cancel_scope.cancel()
        log.info("stopped")

    @staticmethod
    def _not_reloaded() -> None:
        log.warning("`jobctl work` takes other settings with a restart: stop it, and start it again")
