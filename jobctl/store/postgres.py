"""The PostgreSQL store: one database, many processes, each with one writer thread, readers and a tail."""

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
import psycopg
import psycopg_pool
import trio

from jobctl.errors import ConfigError, StartupError, StoreUnavailable
from jobctl.events import Commit
from jobctl.metrics import Metrics
from jobctl.model import Position
from jobctl.store import postgres_claims, writes
from jobctl.store.base import Claims, Read, Rescued
from jobctl.store.committer import Committer
from jobctl.store.postgres_clock import DatabaseClock
from jobctl.store.postgres_epoch import epoch_of
from jobctl.store.postgres_link import SQL, WRITER, Link, arguments, configure, connect, without_password
from jobctl.store.postgres_migrate import migrate_on
from jobctl.store.postgres_settings import PostgresOptions
from jobctl.store.postgres_tail import Tail
from jobctl.store.postgres_unfinished import refuse_unfinished
from jobctl.store.postgres_watch import Watch
from jobctl.store.postgres_workers import PostgresWorkers
from jobctl.store.postgres_writer import PostgresSnapshot, PostgresWriter
from jobctl.store.sql_store import SqlStore

T = TypeVar("T")
log = logging.getLogger("jobctl.store")


class PostgresStore(SqlStore):
    """A ``Store`` in a PostgreSQL database. Made by ``open_postgres``."""

    def __init__(self, url: str, options: PostgresOptions, epoch: str, lock: int, *, events: bool) -> None:
        self.url, self.options, self.epoch = url, options, epoch
        self.lease: str | None = None
        """The worker whose claims are refused once its lease has ended; None: claims need no lease."""
        self.database_clock = DatabaseClock()
        self.clock: Callable[[], int] = self.database_clock
        self.tail = Tail(events=events)
        self.writer = PostgresWriter(
            lambda: self._connect(WRITER), lock=lock, tail=self.tail, clock=lambda: self.clock()
        )
        self.committer = Committer(self.writer, deliver=self._deliver_own)
        self._pool = psycopg_pool.ConnectionPool(
            kwargs={key: value for key, value in arguments(url, options, "reader").items() if key != "conninfo"},
            conninfo=arguments(url, options, "reader")["conninfo"],
            min_size=0,
            max_size=options.pool_size,
            timeout=options.connect_timeout,
            open=False,
            configure=self._configure,
        )
        self._limiter = trio.CapacityLimiter(options.pool_size)
        self._told = 0
        self._moved = trio.Event()
        self._closed = False
        self._closing = trio.Lock()
        self.watch = Watch(
            self.tail,
            self._connect,
            options,
            give=self._give,
            clock=self.database_clock,
            taken=lambda: self.writer.memory.taken,
        )
        self.workers = PostgresWorkers(self._connect, self._read, options.lease, joined=self._joined)
        super().__init__()

    def _joined(self, worker: str) -> None:
        self.lease = worker

    async def keep_backoffs(self, jump: float) -> int:
        if self.clock is self.database_clock:  # only this machine's clock was set, and nothing is due by that
            return 0
        return await super().keep_backoffs(jump)

    async def rescue(self) -> Rescued:
        return await self._submit(_rescue)

    _knows = staticmethod(postgres_claims.set_known)

    def _claims(self, tx: Any, slots: int, worker: str, limits: Any, busy: Any, ends: Any) -> Claims:
        found = postgres_claims.claim(tx, slots, worker, limits, busy, ends, leased=self.lease == worker)
        if found.next_due is None or self.clock is not self.database_clock:
            return found
        # The runner sleeps by the clock of this machine.
        return msgspec.structs.replace(found, next_due=self.database_clock.ours(found.next_due))

    @property
    def trouble(self) -> str | None:
        """Why writes fail at present."""
        return self.committer.trouble

    def _connect(self, name: str) -> Link:
        """A connection to the same database that this store was opened on; raises StoreUnavailable."""
        link = connect(self.url, self.options, name)
        try:
            self._recognise(link)
        except BaseException:
            link.close()
            raise
        return link

    def _configure(self, connection: psycopg.Connection[Any]) -> None:
        configure(connection)
        self._recognise(Link(connection, self.options, "reader"))

    def _recognise(self, link: Link) -> None:
        found: dict[str, str] = dict(link.execute(SQL["meta"])[0])
        if found.get("epoch") != self.epoch:
            raise StoreUnavailable("the database is another one now, or an earlier state of it; start the server again")

    # --- writing and reading -------------------------------------------------------------------------------------

    async def _submit(self, function: Callable[[Any], T]) -> T:
        return await self.committer.submit(function)

    async def _stand_by(self, function: Callable[[Any], T | None]) -> T | None:
        return await self.committer.stand_by(function)

    async def _read(self, function: Callable[..., T], *arguments: Any) -> Read[T]:
        value, seq = await trio.to_thread.run_sync(
            partial(self._read_in_thread, function, arguments), limiter=self._limiter
        )
        await self.reached(seq)
        return Read(value, Position(self.epoch, seq))

    def _read_in_thread(self, function: Callable[..., T], arguments: tuple[Any, ...]) -> tuple[T, int]:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        # After a restart of the database no connection of the pool works: each is tried, and then a new one.
        for left in reversed(range(self.options.pool_size + 1)):
            try:
                with self._pool.connection() as connection:
                    link = Link(connection, self.options, "reader")
                    snapshot = PostgresSnapshot(link)
                    try:
                        value = function(snapshot, *arguments)
                        return value, snapshot.close()
                    finally:
                        link.roll_back()
            except psycopg.Error as error:
                lost = isinstance(error, psycopg.OperationalError) and not isinstance(error, psycopg_pool.PoolTimeout)
                if left and lost:
                    continue
                log.error("a read failed: %s", error)
                raise StoreUnavailable("the database cannot be read now") from error
        raise AssertionError

    # --- telling -------------------------------------------------------------------------------------------------

    async def reached(self, seq: int) -> None:
        """Wait until listeners have heard of everything up to ``seq``, which the database has.

        So what is read here is never newer than what the stream can tell.
        """
        while self._told < seq:
            self.watch.look()
            await self._moved.wait()

    def _deliver(self, commit: Commit) -> None:
        super()._deliver(commit)
        if commit.events or commit.missed is not None:
            self._told = commit.events[-1].seq if commit.events else commit.missed or 0
            self._moved.set()
            self._moved = trio.Event()

    def _deliver_own(self, commit: Commit) -> None:
        self._deliver(commit)
        self.watch.committed(self._told)

    def _give(self, commits: Any) -> None:
        for commit in commits:
            self._deliver(commit)

    # --- the end -------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Write what waits, and close."""
        with trio.CancelScope(shield=True):  # no deadline would help: a thread that writes cannot be cancelled
            async with self._closing:
                if not self._closed:
                    await self.committer.stop()
                    self._closed = True
                    await trio.to_thread.run_sync(self._close)

    def _close(self) -> None:
        self.writer.close()
        self.workers.close()
        self._pool.close()

    def open(self) -> None:
        """Begin to write; from a trio task."""
        self._told = self.tail.seq
        self._pool.open(wait=False)
        self.committer.start()


def _rescue(tx: Any) -> Rescued:
    tx.run("bury_workers")
    return writes.rescue(tx, "its process was lost")


@contextlib.asynccontextmanager
async def open_postgres(
    url: str,
    *,
    options: PostgresOptions | None = None,
    durability: str = "full",
    metrics: Metrics | None = None,
    events: bool = True,
) -> AsyncIterator[PostgresStore]:
    """Use the database until the block ends; its schema is made, or brought to this version.

    Args:
        url: ``postgresql://...``.
        options: Of ``[postgres]``.
        durability: ``full``. With ``normal`` a crash of the database could take back what streams have told.
        metrics: Where commits are counted.
        events: Listeners hear the events of other processes; else only that some were missed, and whether there is
            work, which spares half of what following them costs.

    Raises:
        ConfigError: with another durability.
        NotADatabase: its schema is newer, and cannot be used by this version.
        StartupError: it cannot be reached or used.
    """
    if durability != "full":
        raise ConfigError('durability = "normal" is for SQLite; with PostgreSQL every commit is synced')
    store = await trio.to_thread.run_sync(_open, url, options or PostgresOptions(), events)
    if metrics is not None:
        store.committer.metrics = metrics
    async with trio.open_nursery() as nursery:
        store.open()
        await nursery.start(store.watch.run)
        try:
            yield store
        finally:
            nursery.cancel_scope.cancel()
            await store.close()


def _open(url: str, options: PostgresOptions, events: bool) -> PostgresStore:
    try:
        link = connect(url, options, WRITER)
    except StoreUnavailable as error:
        raise StartupError(str(error)) from error
    try:
        migrate_on(link)
        refuse_unfinished(link)
        epoch = epoch_of(link)
        ((lock,),), _ = link.execute("SELECT 'job_event'::regclass::oid::bigint & 2147483647")
        asked = time.monotonic()
        ((seq, n, at),), _ = link.execute(SQL["heads"])
        answered = time.monotonic()
    except BaseException as error:
        link.close()
        if isinstance(error, psycopg.Error):
            why = " ".join(str(error).split())
            raise StartupError(f"cannot use the database {without_password(url)}: {why}") from error
        raise
    store = PostgresStore(url, options, epoch, lock, events=events)
    store.database_clock.told(at, asked, answered)
    store.writer.begin_on(link)
    store.tail.begin(seq, n)
    return store
