"""One life of a small server that is killed sooner or later: store, runner, handlers and load, and what it owes.

It keeps three files beside its database. ``acks``: every answer that was given, and every key before it was used.
``watch``: every event that was pushed, as a watcher has it. ``broken``: what must not be. A life begins with what a
server does at its start, and with a look at what its predecessor left.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from jobctl.engine.commands import Command
from jobctl.engine.processes import end_orphans
from jobctl.engine.registry import Field, Handler, Registry
from jobctl.engine.runner import Runner
from jobctl.errors import Conflict, NoRetry
from jobctl.events import Commit
from jobctl.model import NewJob
from jobctl.settings import CommandSettings
from jobctl.store.base import Idempotency
from jobctl.store.sqlite import SqliteStore, open_store

PEOPLE: Final = 4
ORPHAN_GRACE_S: Final = 0.2
MARK: Final = "FAULTS_FOLDER"
"""In the environment of every command: whose it is."""


class Order(msgspec.Struct, frozen=True):
    """What one life is to do. ``seconds`` of load; then it waits to be killed, or, the ``last``, ends all jobs."""

    folder: str
    seed: int
    seconds: float
    durability: str = "full"
    last: bool = False


class Life:
    """The life that ``order`` asks for."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.folder = Path(order.folder)
        self.draw = random.Random(order.seed)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._acks = os.open(self.folder / "acks", flags, 0o600)
        self._watch = os.open(self.folder / "watch", flags, 0o600)
        self._broken = os.open(self.folder / "broken", flags, 0o600)
        self.store: SqliteStore
        self.registry = handlers(self.folder)

    # One ``write`` a line: what a kill leaves is whole lines.

    def ack(self, what: str, *values: str) -> None:
        """Note an answer."""
        os.write(self._acks, " ".join((what, *values)).encode() + b"\n")

    def broken(self, what: str) -> None:
        """Note what must not be."""
        os.write(self._broken, what.encode() + b"\n")

    def _push(self, commit: Commit) -> None:
        lines = [f"{event.seq} {event.job_id} {event.status}\n" for event in commit.events]
        os.write(self._watch, "".join(lines).encode())

    async def run(self) -> None:
        """Live."""
        order = self.order
        place = {"state_dir": self.folder / "state", "durability": order.durability}
        async with open_store(self.folder / "jobs.db", **place) as self.store:
            await self._look_back()
            left = await self.store.left_running()
            await end_orphans(left.orphans, unrecorded=left.unrecorded, grace=ORPHAN_GRACE_S)
            await self.store.rescue()
            await self._resume()
            self.store.listen(self._push)
            for pid in commands_of(self.folder):
                self.broken(f"process {pid} has outlived its server")
            runner = Runner(
                self.store, self.registry, concurrency=6, limits={"narrow": 1}, worker="life", grace=20.0,
                cancel_grace=0.1,
            )  # fmt: skip
            self.store.listen(runner.on_commit)
            async with trio.open_nursery() as nursery:
                await nursery.start(runner.run)
                await self._ask_again()
                os.write(1, b"up\n")
                async with trio.open_nursery() as people:
                    people.cancel_scope.deadline = trio.current_time() + order.seconds
                    for n in range(PEOPLE):
                        people.start_soon(self._person, n)
                await self._ask_again()  # whom the end of the load has cut off
                os.write(1, b"loaded\n")
                if not order.last:
                    await trio.sleep_forever()
                await self._settle()
                await runner.drain()
                nursery.cancel_scope.cancel()

    # --- what the predecessor left -------------------------------------------------------------------------------

    async def _look_back(self) -> None:
        """Nobody was told of anything that the log does not have."""
        epoch = self.folder / "epoch"
        before = epoch.read_text() if epoch.exists() else None
        if before not in (None, self.store.epoch):
            self.broken(f"the epoch has changed from {before} to {self.store.epoch}")
        epoch.write_text(self.store.epoch)
        watched = lines(self.folder / "watch")
        if watched:
            seq, job_id, status = watched[-1].split()
            page = await self.store.events(int(seq) - 1, limit=1)
            found = [(str(event.seq), event.job_id, str(event.status)) for event in page.events]
            if found != [(seq, job_id, status)]:
                self.broken(f"a watcher was told {watched[-1]}, the log has {found}")

    async def _resume(self) -> None:
        """The watcher asks for all since what it has seen."""
        watched = lines(self.folder / "watch")
        after = int(watched[-1].split()[0]) if watched else 0
        while True:
            page = await self.store.events(after, limit=500)
            if not page.events:
                return
            self._push(Commit(events=page.events))
            after = page.events[-1].seq

    async def _ask_again(self) -> None:
        """Whoever had no answer asks again under the same key."""
        answered, asked = set(), []
        for line in lines(self.folder / "acks"):
            what, *values = line.split()
            if what == "asks":
                asked.append(values[0])
            elif what == "key":
                answered.add(values[0])
        for key in asked:
            if key not in answered:
                await self._enqueue_under(key)

    # --- load ----------------------------------------------------------------------------------------------------

    async def _person(self, n: int) -> None:
        while True:
            what = self.draw.choice([self._enqueue, self._enqueue, self._enqueue_once, self._cancel])
            with contextlib.suppress(Conflict):
                await what()
            await trio.sleep(self.draw.choice([0, 0, 0.001, 0.02]))

    def _new(self, **more: Any) -> NewJob:
        name = self.draw.choice(["work", "work", "work", "fail", "thread", "never", "command", "shell"])
        return NewJob(
            name=name, queue=self.draw.choice(["default", "narrow"]), priority=self.draw.randrange(3), timeout=20.0,
            max_attempts=self.draw.randrange(1, 4), **more,
        )  # fmt: skip

    async def _enqueue(self) -> None:
        jobs = [self._new() for _ in range(self.draw.randrange(1, 4))]
        answer = await self.store.enqueue(jobs, owner="ann")
        self.ack("jobs", *answer.ids)

    async def _enqueue_once(self) -> None:
        key = f"key-{self.draw.randrange(2**40)}"
        self.ack("asks", key)
        await self._enqueue_under(key)

    async def _enqueue_under(self, key: str) -> None:
        answer = await self.store.enqueue(
            [NewJob(name="work", tags=(key,))], owner="ann", idempotency=Idempotency(key, b"the same")
        )
        self.ack("key", key, *answer.ids)

    async def _cancel(self) -> None:
        acks = [line.split()[1:] for line in lines(self.folder / "acks")[-5:] if line.startswith("jobs ")]
        if acks:
            await self.store.cancel(self.draw.choice(self.draw.choice(acks)), owner="ann")

    async def _settle(self) -> None:
        with trio.fail_after(60):
            while True:
                stats = (await self.store.stats(owner=None)).value
                if not stats.pending + stats.running + stats.retrying:
                    return
                await trio.sleep(0.01)


def handlers(folder: Path) -> Registry:
    """Work of every kind, short enough that many lives see many ends."""
    registry = Registry()

    @registry.job("work")
    async def work(ctx: Any) -> None:
        ctx.log("at work")
        await trio.sleep(0.002)
        ctx.progress(0.5)

    @registry.job("thread")
    def thread(ctx: Any) -> str:
        time.sleep(0.002)
        return "done"

    @registry.job("fail")
    async def fail(ctx: Any) -> None:
        raise ValueError("on purpose")

    @registry.job("never")
    async def never(ctx: Any) -> None:
        raise NoRetry("on purpose")

    _add_command(registry, folder, "command", "sleep", "0.05")
    _add_command(registry, folder, "shell", "sh", "-c", "trap '' TERM; sleep 0.2 & wait")
    return registry


def _add_command(registry: Registry, folder: Path, name: str, *argv: str) -> None:
    command = Command.build(name, CommandSettings(argv=argv, env={MARK: str(folder)}))
    fields = tuple(Field(name=field, required=True) for field in command.fields)
    names = frozenset(command.fields)
    registry.add(Handler(name, "command", fields, command=command, required=names, allowed=names))


def commands_of(folder: Path) -> list[int]:
    """Processes that were started as commands of the server in ``folder``, and live."""
    mark = f"{MARK}={folder}".encode()
    return [pid for pid, environ in _environments() if mark in environ]


def _environments() -> Iterator[tuple[int, list[bytes]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue


def lines(path: Path) -> list[str]:
    """The whole lines of a file, none if it is not there."""
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


def serve(connection: Any) -> None:
    """Fork a life for each order on stdin: what takes long, the imports, is done once.

    Each waits for a byte on ``FOLDER/go``, so that a tracer can come first.
    """
    for line in sys.stdin:
        order = msgspec.json.decode(line, type=Order)
        pid = os.fork()
        if not pid:
            _live(order)
        os.write(1, f"pid {pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(1, f"ended {os.waitstatus_to_exitcode(status)}\n".encode())


def _live(order: Order) -> None:
    code = 1
    try:
        errors = os.open(Path(order.folder) / "errors", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(errors, 2)
        os.setsid()
        with (Path(order.folder) / "go").open("rb") as go:
            go.read(1)
        trio.run(Life(order).run)
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())
        os._exit(code)


if __name__ == "__main__":
    serve(sys.stdin)
