"""The one place where the parts are wired together, started in order, and stopped in order.

start:  settings, handlers, secret, sockets -> store -> hub -> rescue -> stream, runner -> door
hup:    settings are read again, and taken over as far as that can be done while it runs (reload)
stop:   door (accept nobody) -> runner (claim nothing) -> streams are told 1001 -> running jobs get their grace
-> the rest is given back -> store flushes and closes
"""

import logging
import shlex
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

import trio

from jobctl import auth, database, lifetime, logs, reload, spare_memory, tls
from jobctl.access.access import Access, open_access
from jobctl.door import Door, check_hypercorn, listen
from jobctl.engine import registry as handlers
from jobctl.engine import schedules
from jobctl.engine.engine import LAST_MOMENT_S, Engine
from jobctl.errors import JobctlError, StartupError
from jobctl.metrics import Metrics
from jobctl.notify import Notifier
from jobctl.schedule import ScheduleSpec
from jobctl.server_exporter import ServerExporter
from jobctl.settings import Settings
from jobctl.store.backup import Backup
from jobctl.store.base import Store
from jobctl.store.committer import now_ms
from jobctl.stream.endpoint import PATH, Endpoint
from jobctl.stream.hub import Hub
from jobctl.web.app import create_app
from jobctl.web.connection import ALONE
from jobctl.web.ratelimit import address_key, parse_proxies
from jobctl.web.wiring import Web

log = logging.getLogger("jobctl")

HTTP_GRACE_S: Final = 5.0
"""How long answers that are on their way get when the server stops."""


def main(
    settings: Settings,
    read_again: Callable[[], Settings] | None = None,
    *,
    when_ready: Callable[["Service"], None] | None = None,
) -> int:
    """Run the server until SIGTERM or Ctrl-C; returns the exit code.

    Args:
        settings: What it starts with.
        read_again: Gives them anew, at a SIGHUP.
        when_ready: Called once it listens.

    Raises:
        StartupError: it cannot start as it was asked to; one line says why.
    """
    logs.configure(settings.log.level, settings.log.format)
    lifetime.run(partial(serve, settings, read_again=read_again, when_ready=when_ready))
    return 0


async def serve(
    settings: Settings,
    *,
    signals: bool = True,
    read_again: Callable[[], Settings] | None = None,
    when_ready: Callable[["Service"], None] | None = None,
    task_status: trio.TaskStatus["Service"] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``Service.stop`` is called (or a signal comes, where ``signals``). Started once it is ready."""
    check_hypercorn()
    lifetime.raise_descriptor_limit()
    registry = handlers.load(settings)
    scheduled = schedules.configured(settings.schedules, registry)
    given = settings.auth.secret
    secret = auth.ensure_secret(settings.state_dir, given.get_secret_value() if given else None)
    logs.hide(*reload.secrets_of(settings), secret.decode("utf-8", "replace"))
    _warn(settings)
    tls_context = tls.context(settings)
    sockets = listen(settings.host, settings.port)
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        for each in sockets:
            stack.callback(each.close)
        store = await stack.enter_async_context(
            database.open_database(settings, metrics)
        )
        access = open_access(store, secret, settings.auth)
        service = Service(settings, store, registry, access, sockets, tls_context, metrics)
        service.read_again = read_again
        service.when_ready = when_ready
        service.scheduled = scheduled
        await service.run(signals=signals, task_status=task_status)


class Service:
    """Everything that runs while the server does."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        registry: handlers.Registry,
        access: Access,
        sockets: list[socket.socket],
        context: ssl.SSLContext | None,
        metrics: Metrics | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.registry = registry
        self.metrics = metrics or Metrics()
        self.access = access
        self.verifier = access.verifier
        self._tls = context
        self._certificate = tls.contents(settings)
        self.read_again: Callable[[], Settings] | None = None
        self.when_ready: Callable[[Service], None] | None = None
        self.hub = Hub(store, clock=now_ms, metrics=self.metrics)
        self.endpoint = Endpoint(
            self.hub,
            store,
            verify=access.verify,
            fetch_keys=access.fetch_keys,
            scheme_of=lambda *seen: self.app.gate.scheme_of(*seen),  # noqa: PLW0108 - the app is made below
            address_of=lambda *seen: address_key(self.app.gate.address_of(*seen)),
            limits=settings.stream,
            origins=settings.allowed_origins,
            clock=time.time,
        )
        self.engine = Engine(settings, store, registry, kind="serve", metrics=self.metrics)
        self.engine.lease.heard = self.hub.workers.heard
        self.runner = self.engine.runner
        self.scheduled: list[ScheduleSpec] = []
        self.resync = schedules.Resync(store, registry, clock=now_ms)
        self.notifier = Notifier()
        self.exporter = ServerExporter(self.metrics, self.hub, self.endpoint, self.runner, self.not_ready)
        self.app = create_app(
            Web(
                store=store,
                registry=registry,
                access=access,
                settings=settings,
                ready=self.not_ready,
                metrics=self.metrics,
                exposition=self.exporter.text,
                backup=self.back_up,
            )
        )
        self.door = Door(
            self.app, sockets, stream_path=PATH, on_upgrade=self.endpoint.serve, before_upgrade=self.endpoint.turn,
            ssl_context=context, grace=HTTP_GRACE_S, alone=ALONE,
        )  # fmt: skip
        access.when_ended = self.endpoint.revoke
        access.when_doubted = self.endpoint.call_back
        self._stop = trio.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.door.addresses[0]
        scheme = "https" if self.settings.certfile else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def link(self, subject: str) -> str:
        """A link that signs ``subject`` in as an admin, once, within five minutes. Never to be logged."""
        code, _ = self.access.codes.make(subject, "admin")
        url = self.url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        return f"{url}/#code={code}"

    def not_ready(self) -> list[str]:
        """Why no work should be sent here now; empty when it may."""
        reasons = []
        if self._stop.is_set():
            reasons.append("the server is stopping")
        return [*reasons, *self.engine.not_ready(lambda: database.shortage(self.settings))]

    async def back_up(self, path: Path) -> Backup:
        """Write a copy of the database to ``path``, a new file."""
        return await database.copy(self.settings, path)

    def reload(self) -> None:
        """Read the settings again and take over what can be; a mistake in them leaves everything as it is."""
        self.notifier.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            if self.read_again is None:
                raise StartupError("this server was not started from settings that could be read again")
            new = self.read_again()
            parse_proxies(new.trusted_proxies)
            scheduled = self.resync.check(new.schedules)
            certificate = tls.contents(self.settings)
            if self._tls is not None:
                tls.load(self._tls, self.settings)  # the last that may refuse
        except JobctlError as error:
            log.error("the settings stay as they are: %s", error)
        else:
            renewed, self._certificate = certificate != self._certificate, certificate
            self._take_over(new, renewed=renewed)
            self.resync.want(scheduled)
        self.notifier.tell("READY=1")

    def _take_over(self, new: Settings, *, renewed: bool) -> None:
        changes = reload.compare(self.settings, new)
        withdrawn = {*self.settings.auth.previous_secrets} - {*new.auth.previous_secrets}
        self.settings = new = reload.merged(self.settings, new)
        logs.hide(*reload.secrets_of(new))
        self.verifier.replace_previous([each.get_secret_value().encode() for each in new.auth.previous_secrets])
        if withdrawn:
            self.endpoint.call_back()
        self.app.gate.configure(new)
        self.endpoint.configure(new.stream, new.allowed_origins)
        self.runner.configure(grace=new.grace, cancel_grace=new.cancel_grace)
        self.engine.watchdog.max_lag = new.health.max_lag
        self.engine.maintenance.keep = new.retention
        self.app.access = new.log.access
        taken = (*changes.taken, f"the certificate in {new.certfile}") if renewed else changes.taken
        log.info("read the settings again; changed: %s", ", ".join(taken) or "nothing")
        if changes.later:
            log.warning("these settings changed too, and need a restart: %s", ", ".join(changes.later))
        if any(name.startswith("log.") for name in changes.taken):
            logs.configure(new.log.level, new.log.format)

    def stop(self) -> None:
        """Begin the orderly stop; ``run`` returns when it is done."""
        self._stop.set()

    async def run(
        self, *, signals: bool = False, task_status: trio.TaskStatus["Service"] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Start everything, wait for ``stop``, and stop everything."""
        await self._prepare()
        async with trio.open_nursery() as nursery:
            if signals:
                watch = partial(
                    lifetime.watch_signals, self.stop, stopping=self._stop.is_set, reload=self.reload
                )
                await nursery.start(watch)
            await nursery.start(self.access.run)
            await nursery.start(self.hub.run)
            await nursery.start(self.endpoint.run)
            await self.engine.start(nursery)
            nursery.start_soon(self.resync.run)
            await nursery.start(self._run_door)
            names = ", ".join(self.registry.names()) or "none"
            log.info("jobctl listens on %s (database %s, handlers: %s)", self.url, self.settings.db, names)
            self.notifier.tell("READY=1", f"STATUS=listens on {self.url}")
            nursery.start_soon(lifetime.say_alive, self.notifier)
            nursery.start_soon(spare_memory.give_back)
            task_status.started(self)
            if self.when_ready is not None:
                self.when_ready(self)
            await self._stop.wait()
            self.notifier.tell("STOPPING=1", "STATUS=stops; running jobs get their time")
            log.info("stopping; running jobs get %g s", self.settings.grace)
            with trio.move_on_after(self.settings.grace + LAST_MOMENT_S):
                await self._wind_down()
            await lifetime.leave_behind(self.store, self.engine.runner.left, ours=signals)
            nursery.cancel_scope.cancel()
        log.info("stopped")

    async def _prepare(self) -> None:
        await self.access.start()
        await self.hub.start()  # before any write, so that no event is missed
        await self.engine.prepare()
        await schedules.sync(self.store, self.scheduled, clock=now_ms)

    async def _run_door(self, *, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED) -> None:
        await self.door.run(task_status=task_status)

    async def _wind_down(self) -> None:
        self.door.stop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.endpoint.stop)
            await self.engine.drain()


def _warn(settings: Settings) -> None:
    """Say what is no reason not to start, but should not stay so."""
    path = auth.secret_path(settings.state_dir)
    if settings.auth.secret is None and auth.is_exposed(path):
        log.warning("others can read the secret, and sign tokens with it; run: chmod 600 %s", shlex.quote(str(path)))
    if settings.backup_dir is not None and not settings.backup_dir.is_dir():
        log.warning("backup_dir: there is no folder %s; backups are refused until there is", settings.backup_dir)
