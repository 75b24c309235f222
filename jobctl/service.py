"""The one place where the parts are wired together, started in order, and stopped in order.

    start:  settings, handlers, secret, sockets -> store -> hub -> rescue -> stream, runner -> door
    stop:   door (accept nobody) -> runner (claim nothing) -> streams are told 1001 -> running jobs get their grace
            -> the rest is given back -> store flushes and closes
"""

import contextlib
import logging
import os
import resource
import signal
import socket
import ssl
import time
from contextlib import AsyncExitStack
from typing import Final

import trio

from jobctl import auth, logs
from jobctl.door import Door, bind, check_hypercorn
from jobctl.engine import registry as handlers
from jobctl.engine.processes import end_orphans
from jobctl.engine.runner import Runner
from jobctl.errors import StartupError
from jobctl.settings import Settings
from jobctl.store.base import Store
from jobctl.store.committer import now_ms
from jobctl.store.sqlite import open_store
from jobctl.stream.endpoint import PATH, Endpoint
from jobctl.stream.hub import Hub
from jobctl.web.app import create_app
from jobctl.web.wiring import Web

log = logging.getLogger("jobctl")

HTTP_GRACE_S: Final = 5.0
"""How long answers that are on their way get when the server stops."""
MAX_DESCRIPTORS: Final = 65_536
"""Above the most connections that the settings' default allows."""
LAST_MOMENT_S: Final = 8.0
"""What a stop may take beyond the grace time of the jobs: commands that ignore SIGTERM are killed after 3 s, handlers
get 2 s more to unwind, and all is recorded. Without such it takes none of this."""


def main(settings: Settings) -> int:
    """Run the server until SIGTERM or Ctrl-C; returns the exit code.

    Raises:
        StartupError: it cannot start as it was asked to; one line says why.
    """
    logs.configure(settings.log.level, settings.log.format)
    trio.run(serve, settings)
    return 0


async def serve(
    settings: Settings,
    *,
    signals: bool = True,
    task_status: trio.TaskStatus["Service"] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``Service.stop`` is called (or a signal comes, where ``signals``). Started once it is ready."""
    check_hypercorn()
    _raise_descriptor_limit()
    registry = handlers.load(settings)
    secret = auth.ensure_secret(settings.state_dir)
    tls = _tls(settings)
    sockets = _bind(settings)
    async with AsyncExitStack() as stack:
        for each in sockets:
            stack.callback(each.close)
        store = await stack.enter_async_context(
            open_store(settings.db, state_dir=settings.state_dir, durability=settings.durability)
        )
        service = Service(settings, store, registry, auth.Verifier(secret), sockets, tls)
        await service.run(signals=signals, task_status=task_status)


class Service:
    """Everything that runs while the server does."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        registry: handlers.Registry,
        verifier: auth.Verifier,
        sockets: list[socket.socket],
        tls: ssl.SSLContext | None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.registry = registry
        self.hub = Hub(store, clock=now_ms)
        self.endpoint = Endpoint(
            self.hub,
            store,
            verify=verifier.verify,
            limits=settings.stream,
            origins=settings.allowed_origins,
            clock=time.time,
        )
        self.runner = Runner(
            store,
            registry,
            concurrency=settings.concurrency,
            limits={name: queue.concurrency for name, queue in settings.queues.items() if queue.concurrency},
            worker=f"{socket.gethostname()}:{os.getpid()}",
            grace=settings.grace,
            cancel_grace=settings.cancel_grace,
        )
        app = create_app(
            Web(store=store, registry=registry, verifier=verifier, settings=settings, ready=self.not_ready)
        )
        self.door = Door(
            app, sockets, stream_path=PATH, on_upgrade=self.endpoint.serve, ssl_context=tls, grace=HTTP_GRACE_S
        )
        self._stop = trio.Event()
        self._stuck: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.door.addresses[0]
        scheme = "https" if self.settings.certfile else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def not_ready(self) -> list[str]:
        """Why no work should be sent here now; empty when it may."""
        reasons = []
        if self._stop.is_set():
            reasons.append("the server is stopping")
        if self.store.trouble:
            reasons.append(f"the database cannot take writes ({self.store.trouble})")
        return reasons

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
                await nursery.start(self._watch_signals)
            await nursery.start(self.hub.run)
            await nursery.start(self.endpoint.run)
            await nursery.start(self.runner.run)
            await nursery.start(self._run_door)
            names = ", ".join(self.registry.names()) or "none"
            log.info("jobctl listens on %s (database %s, handlers: %s)", self.url, self.settings.db, names)
            task_status.started(self)
            await self._stop.wait()
            log.info("stopping; running jobs get %g s", self.settings.grace)
            with trio.move_on_after(self.settings.grace + LAST_MOMENT_S):
                await self._wind_down()
            if self._stuck:
                await self._leave_behind()
            nursery.cancel_scope.cancel()
        log.info("stopped")

    async def _leave_behind(self) -> None:
        """Handlers that shield themselves from cancellation would keep the process for ever: go without them."""
        log.warning("left %d handlers that would not stop; their jobs are tried again", len(self._stuck))
        await self.store.close()
        os._exit(0)

    async def _prepare(self) -> None:
        await self.hub.start()  # before any write, so that no event is missed
        rescued = await self.store.rescue()
        if rescued.jobs:
            log.warning("%d jobs were running when the last server ended; they are tried again", len(rescued.jobs))
        if rescued.orphans:
            ended = await end_orphans(rescued.orphans)
            log.warning("ended %d commands that had outlived it", ended)
        self.store.listen(self.runner.on_commit)

    async def _run_door(self, *, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED) -> None:
        await self.door.run(task_status=task_status)

    async def _wind_down(self) -> None:
        self.door.stop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.endpoint.stop)
            self._stuck = await self.runner.drain()

    async def _watch_signals(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            task_status.started()
            async for number in received:
                if self._stop.is_set():
                    log.warning("stopped at once; what was acknowledged is kept, running jobs are tried again")
                    os._exit(128 + number)
                self.stop()


def _raise_descriptor_limit() -> None:
    """Each connection is a descriptor; the usual soft limit of 1,024 is there for programs that use ``select``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, MAX_DESCRIPTORS) if hard != resource.RLIM_INFINITY else MAX_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _bind(settings: Settings) -> list[socket.socket]:
    try:
        return bind(settings.host, settings.port)
    except OSError as error:
        hint = "; choose another with --port" if isinstance(error, OSError) and settings.port else ""
        raise StartupError(f"{error.strerror or error}{hint}") from None


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.certfile is None or settings.keyfile is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.certfile, settings.keyfile)
    except (OSError, ssl.SSLError) as error:
        raise StartupError(f"cannot use the certificate {settings.certfile}: {error}") from None
    return context
