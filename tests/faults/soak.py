"""Load held for a while, and then: are memory, tasks and descriptors back where they were?

    python -m tests.faults.soak [--minutes 10] [--connections 200] [--rate 40]
    python -m tests.faults.soak --storm 500

A server in a process of its own, so many stream connections (some of them cut off again and again, each resuming where
it was), so many jobs a second. Or: so many clients that are all cut at once and come back. Prints figures as JSON;
exits with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec
import trio
import wsproto
from wsproto import events as ws

from jobctl.protocol import messages
from tests.faults.process import Server
from tests.kit import LOOPBACK, until

APP: Final = "tests.faults.soak_tasks"
CUT_EVERY_S: Final = 5.0
STORMS: Final = 10
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
BATCH: Final = 10
WARM_JOBS: Final = 1100
_SEQ: Final = re.compile(rb'"seq":(\d+)')
_NUMBERED: Final = (b'{"type":"job_update"', b'{"type":"job_deleted"', b'{"type":"jobs_pruned"')


class Standing(msgspec.Struct):
    """What the server holds at one moment."""

    memory_mib: float
    tasks: int
    descriptors: int
    threads: int


class Watcher:
    """One stream connection, parsed no further than a load generator must."""

    def __init__(self, server: Server, epoch: str) -> None:
        self.server, self.epoch = server, epoch
        self.seq = 0
        self.updates = 0
        self.resumed = 0
        self.standing = False
        self.broken: list[str] = []
        self.scope = trio.CancelScope()
        self._buffer = bytearray()
        self._hold: str | None = None

    async def run(self) -> None:
        """Follow, and come back after each cut."""
        while True:
            with trio.CancelScope() as self.scope:
                try:
                    await self._follow()
                except (OSError, trio.BrokenResourceError):
                    await trio.sleep(0.2)
            self.resumed += 1

    async def _follow(self) -> None:
        self._buffer.clear()
        async with await trio.open_tcp_stream(LOOPBACK, self.server.port) as stream:
            parser = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
            await stream.send_all(parser.send(ws.Request(host=LOOPBACK, target="/api/notifications/ws")))
            while b"\r\n\r\n" not in self._buffer:
                await self._more(stream)
            answer, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            parser.receive_data(answer + b"\r\n\r\n")
            list(parser.events())
            self._buffer[:] = rest
            wanted = messages.SubscribeJobs(stats=False, since=self.seq, epoch=self.epoch)
            for message in (messages.Auth(token=self.server.token()), wanted):
                await stream.send_all(parser.send(ws.TextMessage(messages.encode(message).decode())))
            while True:
                self._take()
                await self._more(stream)

    async def _more(self, stream: trio.SocketStream) -> None:
        data = await stream.receive_some(65536)
        if not data:
            raise trio.BrokenResourceError
        self._buffer += data

    def _take(self) -> None:
        """Every whole frame that has come; a server's are not masked."""
        buffer, start = self._buffer, 0
        while len(buffer) - start >= 2:
            length, head = buffer[start + 1], 2
            if length == 126:
                length, head = int.from_bytes(buffer[start + 2 : start + 4]), 4
            elif length == 127:
                length, head = int.from_bytes(buffer[start + 2 : start + 10]), 10
            if len(buffer) < start + head + length:
                break
            self._message(bytes(buffer[start + head : start + head + length]))
            start += head + length
        del buffer[:start]

    def _message(self, text: bytes) -> None:
        if text.startswith(_NUMBERED):
            seq = int(_SEQ.findall(text)[-1])
            if seq != self.seq + 1:
                self.broken.append(f"{self.seq} is followed by {seq}")
            self.seq = seq
            self.updates += 1
        elif text.startswith(b'{"type":"jobs_subscribed"'):
            self.standing = True
            if b'"recovered":true' not in text:
                self.broken.append(text.decode())


async def standing(server: Server) -> Standing:
    """Ask the server how much it holds; nobody else is there, and we have one connection."""
    async with _client(server) as client:
        job = await _ended(server, client, await _enqueue(server, client, "tasks"))
    proc = Path(f"/proc/{server.pid}")
    status = _status(server)
    return Standing(
        memory_mib=_memory_mib(server),
        tasks=job["result"],
        descriptors=sum(1 for _ in (proc / "fd").iterdir()),
        threads=int(status["Threads"]),
    )


def _status(server: Server) -> dict[str, str]:
    return dict(line.split(":", 1) for line in Path(f"/proc/{server.pid}/status").read_text().splitlines())


def _memory_mib(server: Server) -> float:
    return round(int(_status(server)["VmRSS"].split()[0]) / 1024, 1)


def _client(server: Server) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=server.url, timeout=60)


async def _enqueue(server: Server, client: httpx2.AsyncClient, name: str) -> str:
    answer = await client.post("/api/jobs", json={"name": name}, headers=_bearer(server))
    job_id: str = answer.raise_for_status().json()["data"]["id"]
    return job_id


def _bearer(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token()}"}


async def _ended(server: Server, client: httpx2.AsyncClient, job_id: str) -> dict[str, Any]:
    while True:
        job: dict[str, Any] = (await client.get(f"/api/jobs/{job_id}", headers=_bearer(server))).json()["data"]
        if job["status"] in ("completed", "failed", "cancelled"):
            return job
        await trio.sleep(0.02)


async def _load(server: Server, client: httpx2.AsyncClient, rate: float, took: list[float]) -> None:
    """``rate`` jobs a second, in small batches; how long each request took."""
    due = trio.current_time()
    n = 0
    while True:
        due += BATCH / rate
        await trio.sleep_until(due)
        jobs = [{"name": ("work", "thread", "fail")[(n + k) % 3], "data": {"n": n + k}} for k in range(BATCH)]
        n += BATCH
        began = time.perf_counter()
        answer = await client.post("/api/jobs/batch", json=jobs, headers=_bearer(server))
        took.append(time.perf_counter() - began)
        answer.raise_for_status()


async def soak(seconds: float, connections: int, rate: float, folder: Path) -> dict[str, Any]:
    """Run it; the figures. ``broken`` is empty where all promises were kept."""
    (folder / "jobctl.toml").write_text(
        'rate_limit = "1000000/1m"\n[retention]\ncompleted = "20s"\nfailed = "20s"\nevents = "60s"\nlogs = "20s"\n'
    )
    server = Server(folder, app=APP)
    async with server.running():
        # What is loaded and made once is no leak, nor is what the hub keeps for those a little behind (4,096 events).
        async with _client(server) as client:
            for _ in range(WARM_JOBS // 100):
                jobs = [{"name": "work"}] * 100
                (await client.post("/api/jobs/batch", json=jobs, headers=_bearer(server))).raise_for_status()
            await until(lambda: _idle(server, client), 120)
        warm = await _turn(server, min(5.0, seconds / 4), connections, rate)
        before = await _calm(server)
        figures = await _turn(server, seconds, connections, rate)
        after = await _calm(server)
    figures["broken"] += warm["broken"]
    return figures | {"before": msgspec.to_builtins(before), "after": msgspec.to_builtins(after)}


async def _turn(server: Server, seconds: float, connections: int, rate: float) -> dict[str, Any]:
    took: list[float] = []
    memory: list[float] = []
    async with _client(server) as client, trio.open_nursery() as nursery:
        epoch, head = await _position(server, client)
        watchers = [Watcher(server, epoch) for _ in range(connections)]
        began = time.perf_counter()
        for watcher in watchers:
            watcher.seq = head
            nursery.start_soon(watcher.run)
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as load:
                load.start_soon(_load, server, client, rate, took)
                load.start_soon(_cut, watchers)
                load.start_soon(_weigh, server, seconds / 10, memory)
        lasted = time.perf_counter() - began
        await until(lambda: _idle(server, client), 120)
        _, last = await _position(server, client)
        await until(lambda: all(watcher.seq >= last for watcher in watchers), 120)
        nursery.cancel_scope.cancel()
    took.sort()
    return {
        "seconds": round(lasted, 1),
        "connections": connections,
        "resumed": sum(watcher.resumed for watcher in watchers),
        "updates_per_s": round(sum(watcher.updates for watcher in watchers) / lasted),
        "jobs_per_s": round(len(took) * BATCH / lasted, 1),
        "batch_ms_p50": round(1000 * took[len(took) // 2], 1),
        "batch_ms_p99": round(1000 * took[int(len(took) * 0.99)], 1),
        "memory_mib_by_tenths": memory,
        "broken": sorted({each for watcher in watchers for each in watcher.broken}),
    }


async def _weigh(server: Server, every: float, memory: list[float]) -> None:
    """What the server takes while it works: a leak goes on rising, a cache that fills does not."""
    while True:
        await trio.sleep(every)
        memory.append(_memory_mib(server))


async def storm(clients: int, folder: Path, rounds: int = STORMS) -> dict[str, Any]:
    """So many connections are cut at once and come back, again and again: what a GET takes meanwhile, and otherwise.

    Another process asks, one GET after the other, so that it is not our own coming back that is measured.
    """
    (folder / "jobctl.toml").write_text('rate_limit = "1000000/1m"\n')
    server = Server(folder, app=APP)
    async with server.running(), _client(server) as client:
        await _ended(server, client, await _enqueue(server, client, "work"))
        epoch, head = await _position(server, client)
        watchers = [Watcher(server, epoch) for _ in range(clients)]
        storms: list[tuple[float, float]] = []
        async with trio.open_nursery() as nursery:
            for watcher in watchers:
                watcher.seq = head
                nursery.start_soon(watcher.run)
                await trio.sleep(0.002)
            await until(lambda: all(watcher.standing for watcher in watchers), 60)
            with probing(server, folder / "gets"):
                for _ in range(rounds):
                    await trio.sleep(CALM_S)
                    began = time.monotonic()
                    for watcher in watchers:
                        watcher.standing = False
                        watcher.scope.cancel()
                    await until(lambda: all(watcher.standing for watcher in watchers), 60)
                    storms.append((began, time.monotonic()))
                    await _enqueue(server, client, "work")
                await trio.sleep(CALM_S)
            _, last = await _position(server, client)
            await until(lambda: all(watcher.seq >= last for watcher in watchers), 60)
            nursery.cancel_scope.cancel()
    calm, rough = _split(folder / "gets", storms)
    return {
        "clients": clients,
        "storms": rounds,
        "gets_calm": len(calm),
        "gets_storm": len(rough),
        "get_ms_p99_calm": round(_p99(calm) * 1000, 1),
        "get_ms_p99_storm": round(_p99(rough) * 1000, 1),
        "ratio": round(_p99(rough) / _p99(calm), 2),
        "all_back_after_s": round(max(end - began for began, end in storms), 2),
        "broken": sorted({each for watcher in watchers for each in watcher.broken}),
    }


@contextlib.contextmanager
def probing(server: Server, notes: Path) -> Iterator[None]:
    """A process that asks for the stats, again and again; ``notes`` has when each GET began and ended (monotonic)."""
    with notes.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", PROBE, str(server.port)], stdout=out, env={**os.environ, "TOKEN": server.token()}
        )
        try:
            yield
            assert process.poll() is None, "the process that asks has failed"
        finally:
            process.kill()
            process.wait()


def _split(notes: Path, storms: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """How long the GETs took that no storm has touched, and how long those that one has."""
    calm: list[float] = []
    rough: list[float] = []
    for line in notes.read_text().splitlines():
        began, ended = map(float, line.split())
        touched = any(began < end and ended > start for start, end in storms)
        (rough if touched else calm).append(ended - began)
    return calm, rough


def _p99(took: list[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)]


async def _position(server: Server, client: httpx2.AsyncClient) -> tuple[str, int]:
    """The epoch, and the log's last number."""
    listed = await client.get("/api/jobs?limit=1", headers=_bearer(server))
    epoch, _, head = listed.headers["X-Jobctl-Position"].rpartition(":")
    return epoch, int(head)


async def _idle(server: Server, client: httpx2.AsyncClient) -> bool:
    stats = (await client.get("/api/jobs/stats", headers=_bearer(server))).json()["data"]
    return not stats["pending"] + stats["running"] + stats["retrying"]


async def _cut(watchers: list[Watcher]) -> None:
    """Cut off a tenth of them every few seconds."""
    n = 0
    while True:
        await trio.sleep(CUT_EVERY_S)
        for watcher in watchers[n % 10 :: 10]:
            watcher.scope.cancel()
        n += 1


async def _calm(server: Server) -> Standing:
    """Once everybody has gone."""
    await trio.sleep(6.0)  # idle threads end by themselves
    return await standing(server)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--rate", type=float, default=40.0, help="jobs a second")
    parser.add_argument("--storm", type=int, help="cut so many clients at once, instead")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobctl-soak-") as name:
        if given.storm:
            figures = trio.run(storm, given.storm, Path(name))
        else:
            figures = trio.run(soak, given.minutes * 60, given.connections, given.rate, Path(name))
    print(json.dumps(figures, indent=2))  # noqa: T201
    return 1 if figures["broken"] or figures.get("ratio", 0.0) > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
