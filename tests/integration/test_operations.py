"""Operations: metrics, readiness, the watchdog, backups and SIGHUP, on a server that runs."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import stat
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import httpx2
import pytest
import trio
import warm
from prometheus_client.parser import text_string_to_metric_families

from jobctl import auth, service
from jobctl.engine.registry import Registry
from jobctl.errors import ConfigError, RetryAfter
from jobctl.rehearsal import rehearse
from jobctl.schedule import ScheduleSpec
from jobctl.settings import Settings, load
from jobctl.store.check import check
from tests.kit import LOOPBACK, RawPeer, Running, StartServer, until

ROOT = Path(__file__).parents[2]
Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
async def http(server: Running) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://{LOOPBACK}:{server.port}") as client:
        yield client


def bearer(server: Running, role: str = "admin") -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token('ann', role)}"}


async def scrape(port: int) -> Callable[..., float]:
    """The value of a sample, by its name and labels."""
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"http://{LOOPBACK}:{port}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: Values = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }

    def value(sample: str, /, **labels: str) -> float:
        return found[sample, frozenset(labels.items())]

    return value


# --- metrics -------------------------------------------------------------------------------------------------------


async def test_what_jobs_did_is_counted(start_server: StartServer) -> None:
    registry = Registry()
    attempts: list[int] = []

    @registry.job("good")
    async def good(ctx: Any) -> None: ...

    @registry.job("bad", max_attempts=1)
    async def bad(ctx: Any) -> None:
        attempts.append(1)
        raise ValueError

    server = await start_server(registry, queues={"slow": {"concurrency": 1}})
    await server.enqueue(3, name="good")
    await server.enqueue(2, name="bad", queue="slow", max_attempts=1)
    await until(lambda: len(attempts) == 2)

    async def ended() -> bool:
        stats = (await server.store.stats(owner=None)).value
        return stats.completed == 3 and stats.failed == 2

    await until(ended)
    value = await scrape(server.port)
    assert value("jobctl_jobs", queue="default", status="completed") == 3
    assert value("jobctl_jobs", queue="slow", status="failed") == 2
    assert value("jobctl_jobs", queue="slow", status="pending") == 0
    assert value("jobctl_runs_total", name="good", outcome="completed") == 3
    assert value("jobctl_runs_total", name="bad", outcome="failed") == 2
    for name in ("jobctl_job_wait_seconds_count", "jobctl_job_run_seconds_count"):
        assert (value(name, name="good"), value(name, name="bad")) == (3, 2)
    assert value("jobctl_claimed_jobs_total") == 5
    assert value("jobctl_claim_seconds_count") >= 2
    assert value("jobctl_commit_seconds_count") == value("jobctl_commit_writes_count") >= 4
    assert value("jobctl_commit_writes_sum") >= value("jobctl_commit_writes_count")
    assert value("jobctl_commit_seconds_bucket", le="+Inf") == value("jobctl_commit_seconds_count")
    assert value("jobctl_event_seq") == 15
    assert (value("jobctl_slots", state="free"), value("jobctl_slots", state="busy")) == (10, 0)
    assert (value("jobctl_ready"), value("jobctl_commit_failures_total")) == (1, 0)


async def test_wait_time_begins_when_a_job_is_due_not_when_it_was_enqueued(start_server: StartServer) -> None:
    registry = Registry()

    @registry.job("late")
    async def late(ctx: Any) -> None: ...

    server = await start_server(registry)
    now = server.store.clock  # type: ignore[attr-defined]
    await server.enqueue(name="late", scheduled_for=now() + 300)

    async def ended() -> bool:
        return (await server.store.stats(owner=None)).value.completed == 1

    await until(ended)
    value = await scrape(server.port)
    assert value("jobctl_job_wait_seconds_count", name="late") == 1
    assert value("jobctl_job_wait_seconds_sum", name="late") < 0.25


async def test_the_stream_is_counted_readers_that_are_slow_among_them(server: Running) -> None:
    peer = await RawPeer.open(server.port, server.token())
    async with server.peer() as other:
        await other.say(type="subscribe_jobs", stats=False)
        await other.hear_until("jobs_subscribed")
        from jobctl.protocol import messages

        await peer.say(messages.SubscribeJobs(stats=False))
        assert (await peer.hear())["type"] == "jobs_subscribed"
        value = await scrape(server.port)
        assert (value("jobctl_stream_connections"), value("jobctl_stream_behind")) == (2, 0)
        sent = value("jobctl_stream_sent_bytes_total")
        for _ in range(6):
            await server.enqueue(500, data=b'{"x":"%b"}' % (b"x" * 2000))
        for _ in range(3000):
            await other.hear()
        value = await scrape(server.port)
        assert value("jobctl_stream_behind") == 1
        assert value("jobctl_stream_fell_behind_total") >= 1
        assert value("jobctl_stream_outbox_bytes") > 0
        assert value("jobctl_stream_events_total") == 3000
        assert value("jobctl_stream_deliveries_total") >= 3000
        assert value("jobctl_stream_flushes_total") >= 6
        assert value("jobctl_stream_sent_bytes_total") - sent > 3000 * 2000
        for _ in range(3000):
            assert (await peer.hear())["type"] == "job_update"
    await peer.stream.aclose()
    await until(lambda: not server.service.endpoint.connections)
    after = await scrape(server.port)
    assert after("jobctl_stream_catch_up_pages_total") >= 1
    assert after("jobctl_stream_deliveries_total") >= 6000
    assert (after("jobctl_stream_connections"), after("jobctl_stream_connections_opened_total")) == (0, 2)
    assert after("jobctl_stream_sent_bytes_total") > value("jobctl_stream_sent_bytes_total")


async def test_requests_are_counted_by_route_and_what_clients_make_up_is_not(start_server: StartServer) -> None:
    server = await start_server(rate_limit="8/1h")
    async with httpx2.AsyncClient(base_url=f"http://{LOOPBACK}:{server.port}", headers=bearer(server)) as http:
        for n in range(3):
            assert (await http.get(f"/api/jobs/01890000-0000-7000-8000-00000000000{n}")).status_code == 404
        assert (await http.post("/api/jobs", json={"name": "noop"})).status_code == 201
        assert (await http.request("BREW", "/api/jobs")).status_code == 405
        for n in range(10):
            await http.get(f"/made/up/{n}")
        for _ in range(5):
            last = await http.get("/api/queues")
        assert last.status_code == 429
    value = await scrape(server.port)
    route = "/api/jobs/{job_id}"
    assert value("jobctl_http_requests_total", route=route, method="GET", status="404") == 3
    assert value("jobctl_http_requests_total", route="/api/jobs", method="POST", status="201") == 1
    assert value("jobctl_http_requests_total", route="-", method="GET", status="404") == 10
    assert value("jobctl_http_requests_total", route="-", method="GET", status="429") == 2
    assert value("jobctl_http_requests_total", route="-", method="other", status="405") == 1
    assert value("jobctl_http_rate_limited_total") == 2
    assert value("jobctl_http_request_seconds_count", route=route) == 3


async def test_process_and_event_loop_are_measured(server: Running) -> None:
    await until(lambda: server.service.metrics.loop_lag.count >= 2)
    value = await scrape(server.port)
    assert value("process_resident_memory_bytes") > 10e6
    assert value("process_open_fds") > 5
    assert value("process_cpu_seconds_total") > 0
    assert value("jobctl_loop_lag_seconds_count") >= 2
    assert value("jobctl_loop_stalls_total") == 0


async def test_queues_that_clients_make_up_do_not_become_series_without_bound(server: Running) -> None:
    for n in range(150):
        await server.enqueue(queue=f"q{n:03}")
    value = await scrape(server.port)
    assert value("jobctl_jobs", queue="q098", status="pending") == 1
    assert value("jobctl_jobs", queue="other", status="pending") == 51


PAGES = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Site", "")]
PROXIED = [("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=203.0.113.9"), ("X-Real-IP", "x"), ("Via", "1.1 x")]


@pytest.mark.parametrize("header", [*PROXIED, *PAGES, ("Origin", "http://localhost"), ("Host", "rebound.example")])
async def test_metrics_are_open_to_programs_on_this_machine_that_ask_for_themselves(
    server: Running, http: httpx2.AsyncClient, header: tuple[str, str]
) -> None:
    for host in (LOOPBACK, "localhost", f"localhost:{server.port}", "[::1]:8000"):
        assert (await http.get("/metrics", headers={"Host": host})).status_code == 200
    for own in ("none", "same-origin"):  # typed into the browser's address bar, or asked for by this server's page
        assert (await http.get("/metrics", headers={"Sec-Fetch-Site": own})).status_code == 200
    assert (await http.get("/metrics", headers=dict([header]))).status_code == 401
    assert (await http.get("/metrics", headers={**dict([header]), **bearer(server, "user")})).status_code == 403
    assert (await http.get("/metrics", headers={**dict([header]), **bearer(server)})).status_code == 200


# --- readiness -----------------------------------------------------------------------------------------------------


async def not_ready(http: httpx2.AsyncClient) -> list[str]:
    answer = await http.get("/readyz")
    reasons: list[str] = answer.json().get("reasons", [])
    assert (answer.status_code == 200) == (not reasons)
    return reasons


async def test_readyz_says_why_not(
    server: Running, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await not_ready(http) == []
    monkeypatch.setattr(service, "_free_bytes", lambda _: 5 * 2**20)
    (reason,) = await not_ready(http)
    assert reason.startswith("the disk is nearly full (5 MiB left")
    server.store.committer.trouble = "Full: database or disk is full"  # type: ignore[attr-defined]
    (reason,) = await not_ready(http)
    assert reason == "the database cannot take writes (Full: database or disk is full)"
    server.store.committer.trouble = None  # type: ignore[attr-defined]
    monkeypatch.undo()
    for _ in range(3):
        server.service.watchdog.beat(2.0)
    (reason,) = await not_ready(http)
    assert reason == "the event loop was held up for 6 of the last 10 s"
    server.service._stop.set()
    assert server.service.not_ready()[0] == "the server is stopping"


def test_free_space_is_that_of_the_databases_disk(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    assert abs(service._free_bytes(tmp_path / "x.db") - free.f_bavail * free.f_frsize) < 2**30
    assert service._free_bytes(tmp_path / "gone" / "x.db") == 0


# --- the watchdog --------------------------------------------------------------------------------------------------


async def test_a_job_that_blocks_the_event_loop_is_named_while_it_does(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()
    seen = trio.Event()

    @registry.job("blocker")
    async def blocker(ctx: Any) -> None:
        end = time.monotonic() + 10
        while time.monotonic() < end and not any("blocks it" in each.getMessage() for each in caplog.records):
            time.sleep(0.01)  # noqa: ASYNC251 - that is the point
        seen.set()

    server = await start_server(registry, health={"max_lag": 0.1})
    caplog.clear()
    (job_id,) = await server.enqueue(name="blocker")

    def told() -> list[Any]:
        """A busy machine may hold the event loop up as well, and then no job is named."""
        said = [each for each in caplog.records if each.name == "jobctl.watchdog"]
        return [each for each in said if "is no job" not in each.getMessage()]

    with trio.fail_after(15):
        await seen.wait()
        await until(lambda: len(told()) == 2)
        await until(lambda: server.service.metrics.stalls >= 1)
    for each, verb in zip(told(), ("blocks", "blocked"), strict=True):
        assert f"job {job_id} (blocker) {verb} it" in each.getMessage()
    first = told()[0]
    assert "in blocker" in first.stack
    assert "trio" not in first.stack
    value = await scrape(server.port)
    assert 1 <= value("jobctl_loop_stalls_total") <= server.service.metrics.stalls
    assert value("jobctl_loop_stalled_seconds_total") >= 0.1


# --- the clock ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", ["a delayed job", "a schedule"])
async def test_a_clock_that_is_set_ahead_is_noticed_while_the_server_runs(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    """Neither waits for the minute in which it is looked for anyway."""
    monkeypatch.setattr("jobctl.engine.wall_clock.LOOK_EVERY_S", 0.01)
    registry = Registry()

    @registry.job("ok")
    def ok(ctx: object) -> None: ...

    server = await start_server(registry)
    hour = 3_600_000
    soon = time.time_ns() // 1_000_000 + hour // 2
    if waits == "a schedule":
        daily = ScheduleSpec(name="s", cron="@daily", timezone="UTC", job_name="ok")
        await server.store.schedules.add(daily, created_by="root", next_run=soon)
    else:
        await server.enqueue(name="ok", scheduled_for=soon)
    runner, scheduler = server.service.runner, server.service.scheduler
    await until(lambda: not runner._work and runner._wake.statistics().tasks_waiting == 1)  # they sleep
    await until(lambda: scheduler._seen is not None and scheduler._changed.statistics().tasks_waiting == 1)
    ahead = lambda: time.time_ns() // 1_000_000 + hour
    server.store.clock = scheduler._clock = ahead  # type: ignore[misc, attr-defined]
    server.service.wall_clock._wall = lambda: ahead() / 1000
    with trio.fail_after(10):
        while waits == "a delayed job" and not (await server.store.stats(owner=None)).value.completed:
            await trio.sleep(0.01)
        while waits == "a schedule" and (await server.store.schedules.one("s")).value.next_run == soon:
            await trio.sleep(0.01)


async def test_a_clock_that_is_set_back_does_not_lengthen_a_backoff(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobctl.engine.wall_clock.LOOK_EVERY_S", 0.01)
    registry = Registry()

    @registry.job("second")
    def second(ctx: Any) -> None:
        if ctx.attempt == 1:
            raise RetryAfter(1.0)

    server = await start_server(registry)
    (job_id,) = await server.enqueue(name="second")

    async def status() -> str:
        return (await server.store.job(job_id, owner=None)).value.status.value

    async def retrying() -> bool:
        return await status() == "retrying"

    async def completed() -> bool:
        return await status() == "completed"

    await until(retrying)
    back = lambda: time.time_ns() // 1_000_000 - 7_200_000
    server.store.clock = back  # type: ignore[misc]
    clocks = SimpleNamespace(time=lambda: back() / 1000, perf_counter=time.perf_counter)
    monkeypatch.setattr("jobctl.engine.runner.time", clocks)
    server.service.wall_clock._wall = lambda: back() / 1000
    await until(completed)


# --- backups -------------------------------------------------------------------------------------------------------


async def test_an_admin_backs_up_a_running_server(server: Running, http: httpx2.AsyncClient, tmp_path: Path) -> None:
    await server.enqueue(5)
    path = tmp_path / "b.db"
    answer = await http.post("/api/admin/backup", json={"path": str(path)}, headers=bearer(server))
    assert answer.status_code == 201
    data = answer.json()["data"]
    assert (data["path"], data["seq"], data["epoch"]) == (str(path), 5, server.store.epoch)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert check(path).jobs == 5
    again = await http.post("/api/admin/backup", json={"path": str(path)}, headers=bearer(server))
    assert (again.status_code, again.json()["code"], again.json()["field"]) == (422, "invalid", "path")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"path": "relative.db"}, 422),
        ({"path": ""}, 422),
        ({}, 422),
        ({"path": "/tmp/x.db", "force": True}, 422),
        ({"path": 5}, 422),
        ([], 422),
        ({"path": "/no/such/folder/x.db"}, 422),
        ({"path": "/etc/cron.d/x"}, 422),
    ],
)
async def test_a_backup_that_may_not_be_is_refused(
    server: Running, http: httpx2.AsyncClient, body: Any, status: int
) -> None:
    answer = await http.post("/api/admin/backup", content=json.dumps(body), headers=bearer(server))
    assert answer.status_code == status, answer.text


async def test_a_user_makes_no_backups_and_a_page_elsewhere_neither(
    server: Running, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    body = {"path": str(tmp_path / "b.db")}
    assert (await http.post("/api/admin/backup", json=body, headers=bearer(server, "user"))).status_code == 403
    odd = {**bearer(server), "Content-Type": "text/plain"}
    assert (await http.post("/api/admin/backup", content=json.dumps(body), headers=odd)).status_code == 415
    assert not (tmp_path / "b.db").exists()


async def test_a_damaged_database_is_no_backup_and_the_admin_hears_it(
    server: Running, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    await server.enqueue(100)
    database = server.settings.db
    with contextlib.closing(apsw.Connection(str(database))) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((page,),) = other.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'job_log'").fetchall()
        size = other.pragma("page_size")
    with database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 100)
    answer = await http.post("/api/admin/backup", json={"path": str(tmp_path / "b.db")}, headers=bearer(server))
    assert (answer.status_code, answer.json()["code"]) == (500, "database_damaged")
    assert "jobctl db check" in answer.json()["detail"]
    assert not list(tmp_path.glob("*b.db*"))


async def test_only_one_backup_is_made_at_a_time(
    server: Running, http: httpx2.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobctl.store import backup as backups

    statuses: list[int] = []
    inside = trio.Event()
    token = trio.lowlevel.current_trio_token()
    go_on = trio.Event()
    copy = backups._copy

    def slow(*arguments: Any) -> Any:
        token.run_sync_soon(inside.set)
        trio.from_thread.run(go_on.wait)
        return copy(*arguments)

    monkeypatch.setattr(backups, "_copy", slow)

    async def one(name: str) -> None:
        body = {"path": str(tmp_path / name)}
        statuses.append((await http.post("/api/admin/backup", json=body, headers=bearer(server))).status_code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "a.db")
        await inside.wait()
        await one("b.db")
        await server.enqueue(3)  # the writer is not held up
        go_on.set()
    assert statuses == [409, 201]
    await one("c.db")
    assert statuses[-1] == 201


async def test_the_server_says_who_it_is_and_who_asks(server: Running, http: httpx2.AsyncClient) -> None:
    from jobctl import __version__

    answer = await http.get("/api/server", headers=bearer(server, "user"))
    data = answer.json()["data"]
    assert (data["version"], data["epoch"], data["subject"], data["role"]) == (
        __version__, server.store.epoch, "ann", "user",
    )  # fmt: skip
    assert (await http.get("/api/server")).status_code == 401


# --- settings that change while it runs ------------------------------------------------------------------------------


class Reloading:
    """A server whose settings come from a file."""

    def __init__(self, server: Running, path: Path) -> None:
        self.server, self.path = server, path
        server.service.read_again = self.read

    def read(self) -> Settings:
        kept = self.server.settings
        same = ("port", "db", "state_dir", "accept_unknown", "durability")
        return load(self.path, **{name: getattr(kept, name) for name in same})

    def with_file(self, text: str) -> None:
        self.path.write_text(text)
        self.server.service.reload()


@pytest.fixture
def reloading(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reloading:
    monkeypatch.setattr("jobctl.logs.configure", lambda *_: None)
    return Reloading(server, tmp_path / "jobctl.toml")


async def test_a_reload_takes_over_what_it_can_and_names_the_rest(
    reloading: Reloading, http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = reloading.server
    page = {**bearer(server), "Origin": "https://board.example"}
    assert (await http.get("/api/handlers", headers=page)).status_code == 403
    reloading.with_file(
        """
        concurrency = 3
        durability = "normal"
        rate_limit = "2/1h"
        allowed_origins = ["https://board.example"]
        grace = 1.5
        [stream]
        max_connections = 1
        [health]
        max_lag = 9.0
        [log]
        access = "off"
        """
    )
    taken = "allowed_origins, grace, health.max_lag, log.access, rate_limit, stream.max_connections"
    assert [each.getMessage() for each in caplog.records if each.name == "jobctl"][-2:] == [
        f"read the settings again; changed: {taken}",
        "these settings changed too, and need a restart: concurrency",
    ]
    caplog.clear()
    statuses = [(await http.get("/api/handlers", headers=page)).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert not [each for each in caplog.records if each.name == "jobctl.web"]
    assert server.service.runner._grace == 1.5
    assert server.service.watchdog.max_lag == 9.0
    assert server.service.settings.concurrency == 10
    async with server.peer():
        peer = await trio.open_tcp_stream(LOOPBACK, server.port)
        await peer.aclose()
        async with server.connect() as second:
            assert (await second.closed())[0] == 4429
    reloading.with_file(reloading.path.read_text())
    assert "changed: nothing" in "".join(each.getMessage() for each in caplog.records)


@pytest.mark.parametrize(
    "text",
    ["port = ", "nonsense = 1\n", 'grace = 1.0\ntrusted_proxies = ["nowhere"]\n', 'grace = 1.0\nrate_limit = "x"\n'],
)
async def test_a_mistake_in_the_file_changes_nothing(
    reloading: Reloading, http: httpx2.AsyncClient, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = reloading.server.service.settings
    reloading.with_file(text)
    assert reloading.server.service.settings is before
    assert reloading.server.service.runner._grace == before.grace
    (told,) = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert told.startswith("the settings stay as they are: ")
    assert (await http.get("/api/handlers", headers=bearer(reloading.server))).status_code == 200


async def test_a_withdrawn_secret_is_refused_from_then_on(reloading: Reloading, http: httpx2.AsyncClient) -> None:
    old = b"the secret before this one, also of 32 bytes"
    token = auth.mint(old, subject="root", role="admin")
    headers = {"Authorization": f"Bearer {token}"}
    assert (await http.get("/api/handlers", headers=headers)).status_code == 401
    reloading.with_file(f'[auth]\nprevious_secrets = ["{old.decode()}"]\n')
    assert (await http.get("/api/handlers", headers=headers)).status_code == 200
    reloading.with_file("")
    assert (await http.get("/api/handlers", headers=headers)).status_code == 401


def test_a_rehearsal_refuses_what_a_start_would(tmp_path: Path) -> None:
    rehearse(load(None))
    with pytest.raises(ConfigError, match="trusted_proxies"):
        rehearse(load(None, trusted_proxies=("nowhere",)))


async def test_a_start_warns_of_a_secret_that_others_can_read_and_of_a_missing_backup_folder(
    start_server: StartServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    auth.ensure_secret(tmp_path / "state")
    auth.secret_path(tmp_path / "state").chmod(0o644)
    await start_server(backup_dir=tmp_path / "nosuch")
    told = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert f"run: chmod 600 {tmp_path}/state/secret" in told[0]
    assert told[1] == f"backup_dir: there is no folder {tmp_path}/nosuch; backups are refused until there is"


# --- as a process --------------------------------------------------------------------------------------------------

CANARY = "canary-secret-that-is-never-to-be-logged-0123456789"


class Process:
    """``jobctl serve`` with a configuration, and its log."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.config = folder / "jobctl.toml"
        (folder / "handlers.py").write_text(
            "import logging\nfrom jobctl import job\n"
            "@job('careless')\n"
            "async def careless(ctx, **data):\n"
            "    logging.getLogger('tasks').info('a careless line')\n"
            "    logging.getLogger('tasks').info('with %s', data['password'])\n"
            "    raise ValueError(f\"cannot sign in with {data['password']}\")\n"
        )
        self.environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "JOBCTL_STATE_DIR": str(folder / "state"), **environment,
        }  # fmt: skip
        self.process: warm.Command | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            words = ["serve", "--config", str(self.config), "--app", "handlers", "--port", "0"]
            self.process = warm.Command(
                words, cwd=self.folder, env=self.environment, stdout=log.fileno(), stderr=log.fileno()
            )

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]

    def said(self, text: str) -> bool:
        return text in (self.folder / "log").read_text()

    @property
    def url(self) -> str:
        line: str = next(each["event"] for each in self.lines() if "listens on" in each["event"])
        return line.split()[3]

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    made = Process(tmp_path, JOBCTL_SECRET=CANARY)
    made.config.write_text('[log]\nlevel = "debug"\nformat = "json"\n')
    made.start()
    try:
        await until(lambda: made.said("listens on"), 30)
        yield made
    finally:
        assert made.process is not None
        if made.process.poll() is None:
            made.process.kill()
        made.process.wait()


async def test_the_log_of_a_server_binds_ids_and_holds_no_secret(process: Process) -> None:
    token = auth.mint(CANARY.encode(), subject="root", role="admin")
    headers = {"Authorization": f"Bearer {token}", "X-Request-Id": "req-7"}
    async with httpx2.AsyncClient(base_url=process.url, headers=headers) as http:
        job = {"name": "careless", "data": {"password": CANARY}, "maxAttempts": 1}
        answer = await http.post("/api/jobs", json=job)
        job_id = answer.json()["data"]["id"]
        await http.get("/api/jobs", params={"q": token})
        await http.get(f"/api/nope/{token}")
        await http.get("/api/jobs", headers={"Authorization": f"Bearer {CANARY}"})
    await until(lambda: process.said("failed: ValueError"), 20)
    process.send(signal.SIGTERM)
    await until(lambda: process.said('"stopped"'), 20)
    lines = process.lines()
    said = (process.folder / "log").read_text()
    assert CANARY not in said
    assert token not in said
    assert token.rpartition(".")[2] not in said
    careless = [each for each in lines if each["logger"] == "tasks"]
    assert [each["event"] for each in careless] == ["a careless line", "with [hidden]"]
    assert all((each["job_name"], each["job_id"]) == ("careless", job_id) for each in careless)
    (access,) = [each for each in lines if each["event"] == "POST /api/jobs 201"]
    assert (access["request_id"], access["subject"], access["level"]) == ("req-7", "root", "info")


async def test_a_sighup_reads_the_file_again(process: Process) -> None:
    process.config.write_text('grace = 1.0\n[log]\nlevel = "warning"\nformat = "json"\n')
    process.send(signal.SIGHUP)
    await until(lambda: process.said("changed: grace, log.level"), 20)
    process.config.write_text("grace = what\n")
    process.send(signal.SIGHUP)
    await until(lambda: process.said("the settings stay as they are"), 20)
    async with httpx2.AsyncClient(base_url=process.url) as http:
        assert (await http.get("/readyz")).status_code == 200
    process.send(signal.SIGTERM)
    assert process.process is not None
    assert await process.process.ended() == 0
    assert not process.said('"stopped"')  # that is no warning
