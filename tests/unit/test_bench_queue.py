"""The queue benchmark: its databases are right, its load reads answers whole, its peers are there or named."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import queue
from bench.processes import Failed
from bench.queues import contestants, load, peer, services, turns
from bench.queues.growth import PAUSED, Grown, build
from bench.queues.turns import Calls, Latency, Rate, Served, Server
from bench.side_by_side import Run
from jobctl.model import JobQuery
from jobctl.store.check import check
from jobctl.store.sqlite import open_store


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    db = tmp_path / "grown" / "jobs.db"
    build(db, tmp_path / "state", finished=120, delayed=30, paused=20)
    return db


async def test_a_grown_database_is_one_as_the_store_would_have_made_it(grown: Path, tmp_path: Path) -> None:
    async with open_store(grown, state_dir=tmp_path / "state", durability="normal") as store:
        stats = (await store.stats(owner=None)).value
        assert (stats.completed, stats.pending, stats.total) == (120, 50, 170)
        assert stats.by_queue[PAUSED].paused
        assert (await store.events(0, limit=1)).head == 170
        page = (await store.jobs(JobQuery(limit=200))).value
        assert len(page.jobs) == 170
        assert (await store.claim(10, worker="w", limits={}, busy={})).claims == ()  # due tomorrow, and paused
    assert check(grown).problems == ()


def test_statements_are_timed_and_leave_nothing_waiting(grown: Path, tmp_path: Path) -> None:
    found = Grown(grown, tmp_path / "state")
    try:
        assert min(found.claim(), found.page(), found.stats()) > 0
        assert found.claim() > 0
    finally:
        found.close()
    assert check(grown).problems == ()


# --- the load ------------------------------------------------------------------------------------------------------


@pytest.fixture
def answering() -> Iterator[Callable[[list[bytes]], int]]:
    """A server that answers each connection's requests with these pieces; its port."""
    servers = []

    def start(pieces: list[bytes]) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            while True:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(sock,), daemon=True).start()

        def talk(sock: socket.socket) -> None:
            with sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while sock.recv(65536):
                    for piece in pieces:
                        sock.sendall(piece)

        threading.Thread(target=serve, daemon=True).start()
        port: int = server.getsockname()[1]
        return port

    yield start
    for each in servers:
        each.shutdown(socket.SHUT_RDWR)
        each.close()


def test_an_answer_in_pieces_is_one_answer(answering: Callable[[list[bytes]], int]) -> None:
    port = answering([b"HTTP/1.1 201 \r\nContent-Le", b"ngth: 5\r\n\r\nab", b"cde"])
    caller = load.Caller(port)
    assert caller.call(load.post("/", "token", b"{}")).endswith(b"\r\n\r\nabcde")
    assert load.together(port, load.post("/", None, b"{}"), callers=3, requests=10) > 0
    assert len(load.one_by_one(port, lambda n: load.post(f"/{n}", None, b""), 4, gap_s=0.0)) == 4
    caller.sock.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 429 \r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 \r\n\r\n"])
def test_anything_but_success_ends_the_run(answering: Callable[[list[bytes]], int], answer: bytes) -> None:
    port = answering([answer])
    with pytest.raises(Failed, match="the server answered"):
        load.together(port, load.post("/", None, b"{}"), callers=2, requests=4)


# --- peers ---------------------------------------------------------------------------------------------------------


def test_who_is_not_here_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contestants, "installed", lambda name: None if name == "rq" else "1.0")
    monkeypatch.setattr(services, "redis_program", lambda: None)
    monkeypatch.setattr(services, "postgres_programs", lambda: None)
    why = {name: contestants.why_absent(each) for name, each in contestants.PEERS.items()}
    assert why["huey"] is None
    assert why["rq"] == "rq not installed: pip install 'jobctl[bench-peers]'"
    assert why["celery"] == "there is no redis-server here"
    assert why["pgqueuer"] == "there is no PostgreSQL here"


def test_every_peer_says_what_it_promises() -> None:
    assert all(" synced" in each.promise for each in contestants.PEERS.values())


def test_marks_of_several_writers_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(peer.MARKS, str(tmp_path / "marks"))
    peer._file.cache_clear()
    for n in range(3):
        peer.mark(n)
    os.close(peer._file())
    peer._file.cache_clear()
    assert [n for n, _ in peer.read(tmp_path / "marks")] == [0, 1, 2]


def test_the_first_runs_of_a_worker_do_not_count() -> None:
    times = [n * 1_000_000_000 for n in range(20)] + [(20 + n) * 1_000_000_000 - n * 900_000_000 for n in range(81)]
    assert peer.rate(times) == pytest.approx(10.0)


@pytest.mark.parametrize("ran", [[0, 1, 3], [0, 1, 3, 3], [0, 1, 2, 2, 3], []])
def test_a_turn_that_did_not_run_every_job_once_has_no_figures(tmp_path: Path, ran: list[int]) -> None:
    marks = tmp_path / "marks"
    found = Server(None, 0, marks)  # type: ignore[arg-type]
    marks.write_bytes(b"".join(peer.RECORD.pack(n, n) for n in (3, 0, 2, 1)))
    found.check(4)
    marks.write_bytes(b"".join(peer.RECORD.pack(n, n) for n in ran))
    with pytest.raises(Failed, match=f"of 4 jobs {len({*ran})} were run, {len(ran)} runs in all"):
        found.check(4)


@pytest.mark.slow
def test_a_turn_of_ours_runs_jobs_that_do_what_those_of_the_peers_do() -> None:
    found = turns.served(4, 20, 3, "")
    assert min(found.rate) > 0
    assert min(found.single, found.concurrent) > 0
    assert 0 < found.p50 <= found.p99


# --- what is told --------------------------------------------------------------------------------------------------


def test_every_figure_that_was_asked_for_is_judged() -> None:
    rate = Rate(20_000.0, 40.0, 90_000_000, 30_000.0)
    measured = peer.Measured(single=1000.0, batch=0.0, rate=4000.0, p50=50.0, p99=90.0, rss=50_000_000)
    found: dict[str, list[queue.Turn]] = {
        queue._at(100): [Rate(21_000.0, 40.0, 90_000_000, 30_000.0)],
        "huey": [measured],
        queue._CALLS: [Calls(1000.0, 20_000.0, 30_000.0, 900.0, 25_000.0, 75_000_000)],
        queue.QUART: [1000.0],
        queue._LATENCY: [Latency(0.8, 2.0, 2.5, 12.0)],
        queue._finished(1000): [(100.0, 200.0, 20.0)],
        queue._finished(9000): [(120.0, 200.0, 40.0)],
        f"{queue._finished(1000)}: server": [Served(rate, 1000.0, 20_000.0, 1.5, 3.0)],
        f"{queue._finished(9000)}: server": [Served(rate, 900.0, 19_000.0, 1.6, 3.2)],
        queue.WAITING: [(110.0, 1.0, 1.0)],
    }
    run = Run("queue", {"store": "sqlite"})
    queue._tell(run, found, [100], ["huey"])
    queue._tell_growth(run, found, [1000, 9000], "us")
    queue._judge(run, found, [1000, 9000])
    judged = {each.what: each.met for each in run.judged}
    assert judged == {
        "jobs run at concurrency 100": True,
        "the same against huey": True,
        "the same against pgqueuer": None,
        "the same against bullmq": None,
        "batches of 1,000 through the API": True,
        "one job a request, 64 at once, against an empty POST of Quart": True,
        "from enqueue to start, idle, through the API, p50": True,
        "from enqueue to start, idle, through the API, p99": False,
        "from enqueue to start, idle, in process, p50": True,
        "claim, 9,000 finished against 1,000 finished": True,
        "page of 50, 9,000 finished against 1,000 finished": True,
        "stats, 9,000 finished against 1,000 finished": False,
        f"claim {queue.WAITING} against 1,000 finished": True,
        "resident memory of an idle server": True,
    }
    assert {each.quantity for each in run.figures} >= {
        "jobs run", "jobs enqueued", "growth: claim", "growth: from enqueue to start, idle, p50", "resident memory",
    }  # fmt: skip
