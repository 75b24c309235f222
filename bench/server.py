"""The server of a block: the real service on a database of its own, the workload, and what it costs.

Run as ``python -m bench.server ORDER.json``. It is told things by lines on stdin and answers by lines on stdout, never
over the API that is measured:

    <- {"port": ..., "tokens": [...]}    it listens; nobody has been there yet
    -> {"start": NS}                     the measured time begins then (CLOCK_MONOTONIC)
    -> {"end": true}                     all clients are done
    <- {"server": {...}, ...}            what it cost (``Report``); ``commits.jsonl`` is written

It ends when stdin does, so that it does not outlive its driver.
"""

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
import trio

from bench.clock import seconds_until
from bench.counting import Counters, Reads
from bench.load.order import write_whole
from bench.names import COMMITS, JOB, NOTE, SAMPLES, SEED, SEEDED
from bench.percentile import percentile
from bench.result import Server
from bench.scenarios import LIMIT, LIMIT_PERIOD_S
from bench.workload import Planned, workload
from jobctl import auth, logs
from jobctl.model import NewJob
from jobctl.service import Service, serve
from jobctl.settings import Settings
from jobctl.store.tokens import NewToken
from jobctl.stream import hub, schedules

CONCURRENCY: Final = 1000
"""Jobs at once: they only wait, and the workload must not wait for a slot."""
TOKEN_SPARE_S: Final = 120.0
SEED_TIMEOUT_S: Final = 20.0
TAKEN_AT: Final = auth.ACCESS_TTL_S - TOKEN_SPARE_S
"""Blocks that take longer need tokens that are registered."""


class ServerOrder(msgspec.Struct, frozen=True):
    """What a server is made for. Times are seconds, scaled."""

    folder: str
    seconds: float
    updates: float
    scale: float
    seed: int
    limited: bool
    users: int
    """How many tokens to make."""


class Ready(msgspec.Struct, frozen=True):
    """It listens. ``tokens``: one a user, for an admin."""

    port: int
    tokens: tuple[str, ...]


class Told(msgspec.Struct, frozen=True):
    """What the driver says."""

    start: int | None = None
    end: bool = False


class Report(msgspec.Struct, frozen=True):
    """What it cost."""

    server: Server
    late_p99: float
    """Seconds from when an update was due to its commit; or the clocks were read later than that."""
    at: tuple[float, ...] = ()
    """Seconds from the start; what was spent by then is in the next two."""
    cpu_s: tuple[float, ...] = ()
    rss: tuple[int, ...] = ()


class Snapshot(msgspec.Struct, frozen=True):
    """Of a moment: CLOCK_MONOTONIC and the process's CPU time (ns), resident bytes, and counts so far."""

    at: int
    cpu: int
    rss: int
    reads: int
    commits: int


def settings_of(order: ServerOrder) -> Settings:
    """Production's defaults, but for a port and files of its own, room for the workload, and what is scaled."""
    folder = Path(order.folder)
    values: dict[str, Any] = {
        "port": 0,
        "db": folder / "bench.db",
        "state_dir": folder / "state",
        "app": "bench.handlers",
        "concurrency": CONCURRENCY,
        "grace": 0.0,
        "stream": {"ping_interval": 30.0 / order.scale, "dead_after": max(75.0 / order.scale, 5.0)},
        "schedules": {
            f"yearly-{n}": {"cron": "0 0 1 1 *", "job": SEED, "data": {"n": n, "note": NOTE}, "enabled": False}
            for n in range(3)
        },
    }
    if order.limited:
        values["rate_limit"] = f"{LIMIT}/{max(1, round(LIMIT_PERIOD_S / order.scale))}s"
    return Settings(**values)


async def main(order: ServerOrder) -> None:
    """Serve one block."""
    # The server's own pauses are scaled as all else is, or a scaled stream would get fewer snapshots than a real one.
    hub.STATS_EVERY_S = schedules.EVERY_S = 0.25 / order.scale  # type: ignore[misc]
    reads = Reads()
    reads.start()
    control = trio.lowlevel.FdStream(os.dup(0))
    async with trio.open_nursery() as nursery:
        settings = settings_of(order)
        logs.configure(settings.log.level, settings.log.format)  # requests are logged, as in production
        service: Service = await nursery.start(partial(serve, settings, signals=False))
        counters = Counters(service, reads)
        await _seed(service)
        _say(Ready(service.door.addresses[0][1], await _tokens(service, order)))
        nursery.start_soon(_obey, control, service, counters, order, nursery)


async def _obey(
    control: trio.abc.ReceiveStream, service: Service, counters: Counters, order: ServerOrder, nursery: trio.Nursery
) -> None:
    """Do as the driver says; when it says nothing more, end."""
    marks: list[Snapshot] = []
    measured = trio.Event()
    jobs = workload(order.updates, order.seconds, order.scale, order.seed)
    start = 0
    async for line in _lines(control):
        told = msgspec.json.decode(line, type=Told)
        if told.start is not None:
            start = told.start
            nursery.start_soon(_measure, counters, start, order.seconds, marks, measured)
            nursery.start_soon(_work, service, jobs, start)
        if told.end:
            await measured.wait()
            rows = counters.commits.rows(JOB)
            encode = msgspec.json.encode
            write_whole(Path(order.folder) / COMMITS, b"".join(encode(row) + b"\n" for row in rows))
            late = _lateness(rows, jobs, start)
            _say(_report(counters, marks, late, order.seconds))
    service.stop()


async def _measure(counters: Counters, start: int, seconds: float, marks: list[Snapshot], measured: trio.Event) -> None:
    """Look at the clocks when the measured time begins, now and then, and when it ends."""
    process = psutil.Process()
    for step in range(SAMPLES + 1):
        await trio.sleep(seconds_until(start + round(seconds * step / SAMPLES * 1e9)))
        now, cpu = time.monotonic_ns(), time.process_time_ns()
        rss = process.memory_info().rss
        marks.append(Snapshot(now, cpu, rss, counters.reads.total, counters.commits.total))
    measured.set()


async def _work(service: Service, jobs: list[Planned], start: int) -> None:
    """Enqueue every job at its time; the queue does the rest."""
    async with trio.open_nursery() as nursery:
        for n, job in enumerate(jobs):
            await trio.sleep(seconds_until(start + round(job.start * 1e9)))
            data = {
                "n": n, "fails": job.fails, "note": NOTE,
                "report_at": start + round(job.report * 1e9), "end_at": start + round(job.end * 1e9),
            }  # fmt: skip
            new = NewJob(name=JOB, data=msgspec.json.encode(data), max_attempts=1)
            nursery.start_soon(partial(service.store.enqueue, [new], owner="bench"))


async def _seed(service: Service) -> None:
    """Jobs that have ended before anybody looks."""
    jobs = [NewJob(name=SEED, data=msgspec.json.encode({"n": n, "note": NOTE}), max_attempts=1) for n in range(SEEDED)]
    await service.store.enqueue(jobs, owner="bench")
    with trio.fail_after(SEED_TIMEOUT_S):
        while (await service.store.stats(owner=None)).value.completed < SEEDED:  # noqa: ASYNC110 - no event says so
            await trio.sleep(0.01)


async def _tokens(service: Service, order: ServerOrder) -> tuple[str, ...]:
    """One a user. Those of a long block are registered: an access token ends after 15 minutes."""
    secret = service.verifier.secrets[0]
    life = order.seconds + TOKEN_SPARE_S
    made = []
    for n in range(order.users):
        subject = f"bench-{n:05d}"
        if life <= TAKEN_AT:
            made.append(auth.mint(secret, subject=subject, role="admin"))
            continue
        jti = f"{subject}-token"
        row = await service.store.access.issue(
            NewToken(jti=jti, name=jti, subject=subject, role="admin", created_by="bench", life_ms=int(life * 1000))
        )
        ttl = (row.expires_at - row.created_at) / 1000
        made.append(auth.mint(secret, subject=subject, role="admin", ttl=ttl, now=row.created_at / 1000, token_id=jti))
    return tuple(made)


def _lateness(rows: list[tuple[int, int, str, int, int]], jobs: list[Planned], start: int) -> list[float]:
    """Seconds from when each update was due to when it was committed: those that have a time of their own."""
    times = [{1: job.start, 3: job.report, 4: job.end} for job in jobs]  # by version; 2 follows 1 as soon as it can
    return sorted((at - start) / 1e9 - times[n][version] for _, n, _, version, at in rows if version in times[n])


def _report(counters: Counters, marks: list[Snapshot], late: list[float], seconds: float) -> Report:
    first, *_, last = marks
    passed = (last.at - first.at) / 1e9
    server = Server(
        # A busy event loop reads the clocks a little late: brought to the time that was asked for.
        cpu_s=(last.cpu - first.cpu) / 1e9 * seconds / passed,
        rss=last.rss,
        # Until all clients were done: an answer that was on its way when the time was over belongs to it.
        db_queries=counters.reads.total - first.reads,
        db_writes=last.commits - first.commits,
        traffic=counters.traffic(),
    )
    late_p99 = percentile(late, 0.99) if late else 0.0
    return Report(
        server,
        max(late_p99, abs(passed - seconds)),
        at=tuple((each.at - first.at) / 1e9 for each in marks),
        cpu_s=tuple((each.cpu - first.cpu) / 1e9 for each in marks),
        rss=tuple(each.rss for each in marks),
    )


async def _lines(stream: trio.abc.ReceiveStream) -> Any:
    rest = b""
    while data := await stream.receive_some(4096):
        *lines, rest = (rest + bytes(data)).split(b"\n")
        for line in lines:
            yield line


def _say(answer: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    trio.run(main, msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=ServerOrder))
