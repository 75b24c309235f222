"""The port of ``jobctl work``: for supervisors and Prometheus, and only where it is asked for."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
import trio
from operations_kit import scrape

from jobctl import settings
from jobctl.engine import registry as handlers
from jobctl.engine.registry import Registry
from jobctl.errors import ConfigError, StartupError
from jobctl.events import Commit
from jobctl.model import NewJob
from jobctl.settings import parse_address
from jobctl.store.postgres import open_postgres
from jobctl.web.health import Health
from jobctl.work import Work, work
from tests.kit import LOOPBACK, until

Start = Callable[..., Awaitable[Work]]


@pytest.fixture
async def start(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts a process's insides here; with the test it is stopped in order."""
    registry = Registry()

    @registry.job("good")
    async def good(ctx: Any) -> None: ...

    monkeypatch.setattr(handlers, "load", lambda _: registry)
    running: list[Work] = []
    async with trio.open_nursery() as nursery:

        async def begin(metrics: str | None = "0") -> Work:
            given = settings.load(None, db=postgres_url, metrics=metrics)
            running.append(await nursery.start(lambda **more: work(given, signals=False, **more)))
            return running[-1]

        yield begin
        for each in running:
            each.stop()


def port(running: Work) -> int:
    assert running.health is not None
    return running.health.addresses[0][1]


@pytest.fixture
async def http(start: Start) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://{LOOPBACK}:{port(await start())}") as client:
        yield client


async def test_it_finds_what_others_enqueue_without_reading_their_events(start: Start, postgres_url: str) -> None:
    running = await start(metrics=None)
    commits: list[Commit] = []
    running.engine.store.listen(commits.append)
    async with open_postgres(postgres_url) as store:
        await store.enqueue([NewJob(name="nobody") for _ in range(20)], owner="ann")
        (good,) = (await store.enqueue([NewJob(name="good")], owner="ann")).ids

        async def ended() -> bool:
            return (await store.job(good, owner=None)).value.status == "completed"

        await until(ended)
    assert {event.job_id for commit in commits for event in commit.events} <= {good}
    assert any(commit.missed for commit in commits)


async def test_what_its_runs_cost_is_counted(start: Start, postgres_url: str) -> None:
    running = await start()
    async with open_postgres(postgres_url) as store:
        await store.enqueue([NewJob(name="good") for _ in range(3)], owner="ann")

        async def ended() -> bool:
            return (await store.stats(owner=None)).value.completed == 3

        await until(ended)
    value = await scrape(port(running))
    assert value("jobctl_runs_total", name="good", outcome="completed") == 3
    assert value("jobctl_claimed_jobs_total") == 3
    assert value("jobctl_commit_seconds_count") >= 2
    assert (value("jobctl_slots", state="free"), value("jobctl_slots", state="busy")) == (10, 0)
    assert value("jobctl_ready") == 1
    assert value("process_open_fds") > 3
    assert value("jobctl_loop_stalls_total") >= 0
    with pytest.raises(KeyError):
        value("jobctl_stream_connections")


async def test_it_says_whether_it_is_well(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await start()
    async with httpx2.AsyncClient(base_url=f"http://{LOOPBACK}:{port(running)}") as http:
        answer = await http.get("/healthz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
        lease = running.engine.lease
        monkeypatch.setattr(lease, "held", False)
        monkeypatch.setattr(running.engine.watchdog, "trouble", lambda: "the event loop is late")
        answer = await http.get("/readyz")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        told = answer.json()
        assert told["code"] == "not_ready"
        assert told["reasons"] == [
            "the lease is lost; a new one is taken when the database answers and what ran has ended",
            "the event loop is late",
        ]  # fmt: skip
        assert (await http.get("/healthz")).status_code == 200


async def test_there_is_nothing_else(http: httpx2.AsyncClient) -> None:
    for path in ("/", "/api/jobs", "/api/notifications/ws", "/metrics/"):
        answer = await http.get(path, headers={"Connection": "Upgrade", "Upgrade": "websocket"})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    answer = await http.post("/metrics", content=b"x" * 100_000)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    answer = await http.head("/healthz")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "15")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example"}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"},
        {"X-Forwarded-For": "203.0.113.7"},
    ],
    ids=lambda each: next(iter(each)),
)  # fmt: skip
async def test_no_page_and_no_proxy_reads_its_metrics_for_somebody_else(
    http: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await http.get("/metrics", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert (await http.get("/healthz", headers=headers)).status_code == 200


@pytest.mark.parametrize(("server", "status"), [("10.0.0.14", 200), ("2001:db8::4", 200), ("::1", 403)])
async def test_at_an_address_of_the_network_who_can_reach_it_may_ask(server: str, status: int) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": [(b"host", b"worker.example:9101")]}
    peers = {"server": (server, 9101), "client": ("10.0.0.2", 40_000)}
    await Health(list, lambda: b"x 1\n")({**scope, **peers}, receive, send)
    assert sent[0]["status"] == status


async def test_without_being_asked_it_listens_nowhere(start: Start) -> None:
    assert (await start(None)).health is None


async def test_an_address_that_is_taken_is_told_before_the_start(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        where = f"{LOOPBACK}:{taken.getsockname()[1]}"
        with pytest.raises(StartupError, match=rf"cannot listen on {where}: .*; choose another with --metrics"):
            await work(settings.load(None, db="postgresql://nobody@127.0.0.1:1/x", metrics=where), signals=False)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9101", ("127.0.0.1", 9101)), ("0.0.0.0:9101", ("0.0.0.0", 9101)), ("[::1]:80", ("::1", 80)),
        ("worker-1.example:65535", ("worker-1.example", 65535)), ("localhost:0", ("localhost", 0)),
    ],
)  # fmt: skip
def test_an_address_is_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", ":9101", "host:", "host:65536", "::1:80", "http://host:80", "9101 ", "h:1/x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"metrics: an address is written like 10\.0\.0\.11:9101"):
        settings.load(None, metrics=text)


