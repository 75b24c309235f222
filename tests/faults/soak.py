"""Load held for a while, and then: are memory, tasks and descriptors back where they were?

    python -m tests.faults.soak [--minutes 10] [--connections 200] [--rate 40]

A server in a process of its own, so many stream connections (some of them cut off again and again, each resuming where
it was), so many jobs a second. Prints figures as JSON;
exits with 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec
import trio
import wsproto
from wsproto import events as ws

from jobctl import auth
from jobctl.protocol import messages
from tests.faults.process import Server
from tests.kit import LOOPBACK, until

APP: Final = "tests.faults.soak_tasks"
CUT_EVERY_S: Final = 5.0
BATCH: Final = 10
WARM_JOBS: Final = 1100
_SEQ: Final = re.compile(rb'"seq":(\d+)')
_NUMBERED: Final = (b'{"type":"job_update"', b'{"type":"job_deleted"', b'{"type":"jobs_pruned"')


class Standing(msgspec.Struct):
    """What the server holds at one moment."""

    memory_mib: float
    tasks: list[str]
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
    async with client_of(server) as client:
        job = await ended(server, client, await enqueue(server, client, "tasks"))
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


def client_of(server: Server) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=server.url, timeout=60)


async def enqueue(server: Server, client: httpx2.AsyncClient, name: str) -> str:
    answer = await client.post("/api/jobs", json={"name": name}, headers=bearer(server))
    job_id: str = answer.raise_for_status().json()["data"]["id"]
    return job_id


def bearer(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token()}"}


async def ended(server: Server, client: httpx2.AsyncClient, job_id: str) -> dict[str, Any]:
    while True:
        job: dict[str, Any] = (await client.get(f"/api/jobs/{job_id}", headers=bearer(server))).json()["data"]
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
        answer = await client.post("/api/jobs/batch", json=jobs, headers=bearer(server))
        took.append(time.perf_counter() - began)
        answer.raise_for_status()


async def soak(seconds: float, connections: int, rate: float, folder: Path) -> dict[str, Any]:
    """Run it; the figures. ``broken`` is empty where all promises were kept."""
    (folder / "jobctl.toml").write_text(
        'rate_limit = "1000000/1m"\n[retention]\ncompleted = "20s"\nfailed = "20s"\nevents = "60s"\nlogs = "20s"\n'
    )
    server = Server(folder, app=APP)
    async with server.running():
        # What is loaded and made once is no leak, nor is what the hub keeps for those a little behind (4,096 events),
        # nor the tokens that are not checked anew when they come again.
        async with client_of(server) as client:
            for _ in range(WARM_JOBS // 100):
                jobs = [{"name": "work"}] * 100
                (await client.post("/api/jobs/batch", json=jobs, headers=bearer(server))).raise_for_status()
            for _ in range(auth.KEPT):
                (await client.get("/api/jobs?limit=1", headers=bearer(server))).raise_for_status()
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
    async with client_of(server) as client, trio.open_nursery() as nursery:
        epoch, head = await position(server, client)
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
        _, last = await position(server, client)
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


async def position(server: Server, client: httpx2.AsyncClient) -> tuple[str, int]:
    """The epoch, and the log's last number."""
    listed = await client.get("/api/jobs?limit=1", headers=bearer(server))
    epoch, _, head = listed.headers["X-Jobctl-Position"].rpartition(":")
    return epoch, int(head)


async def _idle(server: Server, client: httpx2.AsyncClient) -> bool:
    stats = (await client.get("/api/jobs/stats", headers=bearer(server))).json()["data"]
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
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobctl-soak-") as name:
        figures = trio.run(soak, given.minutes * 60, given.connections, given.rate, Path(name))
    print(json.dumps(figures, indent=2))  # noqa: T201
    return 1 if figures["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
