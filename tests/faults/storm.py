"""So many clients that are all cut off at once and come back at once: what a GET takes meanwhile.

    python -m tests.faults.storm [--clients 500] [--rounds 10]

Prints figures as JSON; exits with 1 where an update was missed, or the 99th percentile is above three times what it is
with nobody there. The crowd is a process on the same machine, and would take the time of the server that it besieges:
so the server that is asked, and who asks it, have a core of their own, and everybody else the rest. What is left of
that, as both share a memory and a kernel, shows where the same crowd returns in turns to another server, which nobody
asks anything: the ratio to what a GET takes then is told beside the other.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import trio

from tests.faults.process import Server
from tests.faults.soak import APP, Watcher, client_of, ended, enqueue, position
from tests.kit import until

ROUNDS: Final = 10
CALM_S: Final = 1.0
MOST: Final = 3.0
"""By how much a storm may raise the 99th percentile of a GET."""
PROBE: Final = """
import http.client, os, sys, time
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
headers = {"Authorization": "Bearer " + os.environ["TOKEN"]}
while True:
    began = time.monotonic()
    connection.request("GET", "/api/jobs/stats", headers=headers)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status
    print(began, time.monotonic(), flush=True)
"""
Span = tuple[float, float]
"""From when to when (monotonic)."""


class Crowd:
    """Clients that follow one server."""

    def __init__(self, server: Server, epoch: str, head: int, clients: int) -> None:
        self.server = server
        self.watchers = [Watcher(server, epoch) for _ in range(clients)]
        for watcher in self.watchers:
            watcher.seq = head
        self.storms: list[Span] = []

    async def come(self, nursery: trio.Nursery) -> None:
        """One after the other."""
        for watcher in self.watchers:
            nursery.start_soon(watcher.run)
            await trio.sleep(0.002)
        await self._all_stand()

    async def storm(self) -> None:
        """All are cut off, and come back."""
        began = time.monotonic()
        for watcher in self.watchers:
            watcher.standing = False
            watcher.scope.cancel()
        await self._all_stand()
        self.storms.append((began, time.monotonic()))

    async def heard(self, seq: int) -> None:
        """Wait until everybody has heard of everything up to ``seq``."""
        await until(lambda: all(watcher.seq >= seq for watcher in self.watchers), 60)

    async def _all_stand(self) -> None:
        await until(lambda: all(watcher.standing for watcher in self.watchers), 60)


@contextlib.contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """This thread, and what it starts meanwhile, runs on these ``cores``."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.asynccontextmanager
async def crowd_at(folder: Path, clients: int, nursery: trio.Nursery, cores: set[int]) -> AsyncIterator[Crowd]:
    """A server in ``folder``, on its ``cores``, and a crowd that follows it."""
    folder.mkdir()
    (folder / "jobctl.toml").write_text('rate_limit = "1000000/1m"\n')
    server = Server(folder, app=APP)
    try:
        with on(cores):
            await server.start()
        epoch, head = await work(server)
        crowd = Crowd(server, epoch, head, clients)
        await crowd.come(nursery)
        yield crowd
    finally:
        server.clean_up()


async def storm(clients: int, folder: Path, rounds: int = ROUNDS) -> dict[str, Any]:
    """Run it; the figures. ``broken`` is empty where nobody missed anything."""
    first, *others = sorted(os.sched_getaffinity(0))
    asked, rest = {first}, set(others) or {first}
    with on(rest):
        async with (
            trio.open_nursery() as nursery,
            crowd_at(folder / "other", clients, nursery, rest) as there,
            crowd_at(folder / "own", clients, nursery, asked) as here,
        ):
            with probing(here.server, folder / "gets", asked):
                for _ in range(rounds):
                    for crowd in (there, here):
                        await trio.sleep(CALM_S)
                        await crowd.storm()
                await trio.sleep(CALM_S)
            for crowd in (there, here):
                await crowd.heard((await work(crowd.server))[1])
            nursery.cancel_scope.cancel()
    gets = [(float(began), float(end)) for began, end in map(str.split, (folder / "gets").read_text().splitlines())]
    took = {"there": during(gets, there.storms), "here": during(gets, here.storms)}
    took["calm"] = [end - began for began, end in gets if not touches((began, end), there.storms + here.storms)]
    p99 = {name: p99_ms(each) for name, each in took.items()}
    return {
        "clients": clients,
        "rounds": rounds,
        "gets": {name: len(each) for name, each in took.items()},
        "get_ms_p99": {name: round(each, 1) for name, each in p99.items()},
        "ratio": round(p99["here"] / p99["calm"], 2),
        "ratio_to_as_busy": round(p99["here"] / p99["there"], 2),
        "all_back_after_s": round(max(end - began for began, end in here.storms), 2),
        "broken": sorted({each for crowd in (there, here) for watcher in crowd.watchers for each in watcher.broken}),
    }


@contextlib.contextmanager
def probing(server: Server, notes: Path, cores: set[int]) -> Iterator[None]:
    """A process that asks for the stats, again and again, on its ``cores``; ``notes`` has when each GET began and ended
    (monotonic)."""
    with notes.open("wb") as out:
        with on(cores):
            process = subprocess.Popen(
                [sys.executable, "-c", PROBE, str(server.port)], stdout=out, env={**os.environ, "TOKEN": server.token()}
            )
        try:
            yield
            assert process.poll() is None, "the process that asks has failed"
        finally:
            process.kill()
            process.wait()


async def work(server: Server) -> tuple[str, int]:
    """Run one job, so that there is something to hear of; the epoch and the log's last number after it."""
    async with client_of(server) as client:
        await ended(server, client, await enqueue(server, client, "work"))
        return await position(server, client)


def touches(one: Span, others: list[Span]) -> bool:
    """Whether it has a moment in common with one of them."""
    return any(one[0] < end and one[1] > began for began, end in others)


def during(gets: list[Span], storms: list[Span]) -> list[float]:
    """How long (s) those took that have a moment in common with a storm."""
    return [each[1] - each[0] for each in gets if touches(each, storms)]


def p99_ms(took: list[float]) -> float:
    """The 99th percentile, in ms."""
    return sorted(took)[int(len(took) * 0.99)] * 1000


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobctl-storm-") as name:
        figures = trio.run(storm, given.clients, Path(name), given.rounds)
    print(json.dumps(figures, indent=2))  # noqa: T201
    return 1 if figures["broken"] or figures["ratio"] > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
