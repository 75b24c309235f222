"""The peers of the queue benchmark: how each is started, what it needs, and what it promises."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bench import npm
from bench.processes import Failed, Process
from bench.queues import services
from bench.queues.database import Postgres
from bench.queues.peer import Measured, PeerOrder
from bench.side_by_side import Absent, Run, installed

ANSWER_S: Final = 120.0
_REDIS: Final = "Redis's log is synced once a second: a power cut loses up to a second of all, acknowledged or not"


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them. ``jobs``: so many that a run takes a second or two."""

    name: str
    packages: tuple[str, ...]
    module: str
    jobs: int
    service: str | None
    promise: str
    """Whether it syncs, and what a crash loses."""


PEERS: Final = {
    each.name: each
    for each in (
        Peer("huey", ("huey",), "huey_peer", 6000, None,
             "SQLite, each commit synced; a job is gone from the file before it runs: a crash of the worker loses it"),
        Peer("rq", ("rq",), "rq_peer", 500, services.REDIS, f"{_REDIS}; a job whose worker dies is found later"),
        Peer("celery", ("celery", "redis"), "celery_peer", 1500, services.REDIS,
             f"{_REDIS}; acknowledged late: a job whose worker dies comes again"),
        Peer("dramatiq", ("dramatiq", "redis"), "dramatiq_peer", 6000, services.REDIS,
             f"{_REDIS}; a job whose worker dies comes again"),
        Peer("taskiq", ("taskiq", "taskiq-redis"), "taskiq_peer", 5000, services.REDIS,
             f"{_REDIS}; acknowledged: a job whose worker dies comes again"),
        Peer("bullmq", (), "bullmq_peer", 20_000, services.REDIS, f"{_REDIS}; a job whose worker dies comes again"),
        Peer("pgqueuer", ("pgqueuer", "asyncpg"), "pgqueuer_peer", 20_000, services.POSTGRES,
             "PostgreSQL, each commit synced: a crash loses nothing; a job whose worker dies comes again"),
        Peer("procrastinate", ("procrastinate", "psycopg"), "procrastinate_peer", 2000, services.POSTGRES,
             "PostgreSQL, each commit synced: a crash loses nothing; a job whose worker dies is found by hand"),
    )
}  # fmt: skip


def why_absent(peer: Peer) -> str | None:
    """Why this one cannot take part; None if it can."""
    missing = [name for name in peer.packages if installed(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed: pip install 'jobctl[bench-peers]'"
    if peer.name == "bullmq" and (why := npm.why_absent("bullmq", "ioredis")):
        return why
    if peer.service == services.REDIS and services.redis_program() is None:
        return "there is no redis-server here"
    if peer.service == services.POSTGRES and services.postgres_programs() is None:
        return "there is no PostgreSQL here"
    return None


def present(run: Run, wanted: Sequence[str], there: Sequence[str], bench: str) -> list[str]:
    """Who of the ``wanted`` can take part, each with what it promises; who cannot is named in the report.

    Raises:
        SystemExit: one of them is not ``there``.
    """
    found = []
    for name in wanted:
        if name not in there:
            raise SystemExit(f"bench.{bench}: there is no peer {name!r}; there are {', '.join(there)}")
        if (why := why_absent(PEERS[name])) is not None:
            run.absent.append(Absent(name, why))
            continue
        found.append(name)
        run.versions[name] = version_of(PEERS[name])
        run.notes.append(f"{name} {run.versions[name]}: {PEERS[name].promise}")
    return found


def version_of(peer: Peer) -> str:
    """What a reader needs to know of it."""
    if peer.name == "bullmq":
        return npm.version_of("bullmq")
    return installed(peer.packages[0]) or ""


_SERVICES: Final[Mapping[str, Callable[[Path], object]]] = {
    services.REDIS: services.redis, services.POSTGRES: services.postgres,
}  # fmt: skip


def measure(peer: Peer) -> Measured:
    """One turn, with a service of its own that has nothing in it.

    Raises:
        Failed: it did not do what it should have.
    """
    with _folder() as folder, ExitStack() as stack:
        url = ""
        if peer.service is not None:
            (own := folder / peer.service).mkdir()
            url = str(stack.enter_context(_SERVICES[peer.service](own)))  # type: ignore[arg-type]
        return _measure(peer, PeerOrder(str(folder), peer.jobs, url))


def measure_on(peer: Peer, database: Postgres, *, jobs: int, workers: int = 1) -> Measured:
    """One turn of ``workers`` processes in an empty database of a PostgreSQL that others use in their turns.

    Raises:
        Failed: it did not do what it should have.
    """
    with _folder() as folder, database.empty() as url:
        return _measure(peer, PeerOrder(str(folder), jobs, url, database.pid, workers))


def _measure(peer: Peer, task: PeerOrder) -> Measured:
    folder = Path(task.folder)
    order = folder / "order.json"
    order.write_bytes(msgspec.json.encode(task))
    process = Process(peer.name, _argv(peer, order), folder, folder / "empty")
    try:
        return msgspec.json.decode(process.hear(ANSWER_S), type=Measured)
    finally:
        process.end()


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="jobctl-queue-") as place:
        folder = Path(place)
        folder.chmod(0o711)  # PostgreSQL's user has to come through
        (folder / "empty").mkdir()
        yield folder


def _argv(peer: Peer, order: Path) -> Sequence[str]:
    if peer.name == "bullmq":
        return ("node", str(Path(__file__).with_name("bullmq_peer.mjs")), str(order), str(npm.modules()))
    return (sys.executable, "-m", f"bench.queues.{peer.module}", str(order))


__all__ = ["PEERS", "Failed", "Measured", "Peer", "measure", "measure_on", "present", "version_of", "why_absent"]
