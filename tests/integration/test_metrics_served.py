"""``/metrics``: what is counted on a server that runs, and who may see it."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from operations_kit import bearer, http, scrape  # noqa: F401

from jobctl.engine.registry import Registry
from tests.kit import LOOPBACK, RawPeer, Running, StartServer, until


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

    hour = 3_600_000
    server = await start_server(registry)
    now = server.store.clock  # type: ignore[attr-defined]
    await server.enqueue(name="late", scheduled_for=now() + hour)
    server.store.clock = lambda: now() + hour  # type: ignore[attr-defined]
    server.service.runner.look_again()

    async def ended() -> bool:
        return (await server.store.stats(owner=None)).value.completed == 1

    await until(ended)
    value = await scrape(server.port)
    assert value("jobctl_job_wait_seconds_count", name="late") == 1
    assert value("jobctl_job_wait_seconds_sum", name="late") < hour / 2000


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
