"""``jobctl bench`` for real, small: server, load generator, counts, and what becomes of processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import jwt
import msgspec
import psutil
import pytest

from bench import block, driver, plan, processes, result, validity
from bench.load.http import HttpConnection
from bench.load.order import Place
from bench.server import Ready, ServerOrder
from bench.validity import Evidence
from jobctl.cli import bench as command
from jobctl.cli import main
from jobctl.cli.output import ExitCode
from tests.integration.counting_proxy import CountingProxy

pytestmark = pytest.mark.slow
CLIENTS, POLLS = 3, 5
TIMED = {"polls-uniform", "generator-headroom", "on-schedule"}
"""Checks that a loaded machine may fail. Counts hold on any."""


def tiny(*scenarios: str, **given: object) -> result.Plan:
    """Blocks of 1.25 s: five polls, each a quarter of a second after the other."""
    values = {
        "clients": [CLIENTS], "repeats": 1, "interval": 30, "duration": 30 * POLLS, "time_scale": 120, "updates": [0.4],
    }  # fmt: skip
    return plan.make("smoke", seed=5, scenarios=list(scenarios), **(values | given))


class Silent:
    def begins(self, *_: object) -> None: ...
    def ended(self, *_: object) -> None: ...


def failed_counts(run: result.Run) -> list[str]:
    return [f"{each.id}: {each.detail}" for each in run.checks if not each.passed and each.id not in TIMED]


def command_line(process):
    """Of another test's process it may not be known any more."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_a_run_measures_what_it_planned_and_leaves_nothing_behind(tmp_path):
    ended = driver.run(tiny("idle", "poll", "poll-etag", "ws"), tmp_path, Silent())
    run = result.decode((tmp_path / "run.json").read_bytes())
    assert (run, ended.interrupted) == (ended.run, False)
    assert run.complete
    assert failed_counts(run) == []
    blocks = {each.scenario: each for each in run.blocks}
    poll, ws, idle = blocks["poll"], blocks["ws"], blocks["idle"]
    assert (poll.client.total, poll.client.connections) == (3 * POLLS * CLIENTS, POLLS * CLIENTS)
    assert (ws.client.total, ws.client.connections, ws.client.streams) == (3 * CLIENTS, 2 * CLIENTS, CLIENTS)
    assert idle.client.total == 0
    assert idle.server.traffic.total == 0
    for each in (poll, ws):
        assert each.updates.due == each.updates.committed * CLIENTS > 0
        assert each.updates.seen == each.updates.due
        wire, received = each.client.wire_received, each.client.received
        assert wire is None or received <= wire <= received + each.client.connections  # a FIN counts as a byte
        assert (tmp_path / each.directory / "observations.jsonl").exists()
    assert poll.updates.superseded > ws.updates.superseded == 0
    assert poll.staleness.p50 > ws.staleness.p50 > 0
    assert poll.server.db_queries > ws.server.db_queries > idle.server.db_queries == 0
    assert poll.empty > ws.empty == 0
    schedules = blocks["poll-etag"].client.requests["GET /api/jobs/schedules"]
    assert schedules == {"200": CLIENTS, "304": CLIENTS * (POLLS - 1)}
    assert not [each for each in psutil.Process().children(recursive=True) if "bench" in command_line(each)]


@pytest.mark.parametrize("scenario", ["poll", "ws-churn", "longpoll"])
def test_a_proxy_that_knows_neither_counts_what_both_count(scenario, tmp_path, monkeypatch):
    usual = block.order_of
    with CountingProxy() as proxy:

        def through(cell, start, place, tokens):
            proxy.target = (place.host, place.port)
            return usual(cell, start, Place(*proxy.address), tokens)

        monkeypatch.setattr(block, "order_of", through)
        found = block.run(plan.cells(tiny(scenario))[0], tmp_path / "kept", (), ())
    assert not found.errors
    ours, theirs = found.block.client, found.block.server.traffic
    assert {route: sum(by.values()) for route, by in ours.requests.items()} == proxy.requests
    assert (ours.connections, ours.streams) == (proxy.connections, proxy.streams)
    assert (ours.requests, ours.connections, ours.streams) == (theirs.requests, theirs.connections, theirs.streams)


def test_polls_are_refused_by_a_limit_that_the_stream_never_meets(tmp_path):
    # 100 at once and 100 in 15 minutes, for three tabs that ask 90 times each in as long.
    made = tiny("poll-limited", duration=900, time_scale=300)
    found = block.run(plan.cells(made)[0], tmp_path / "kept", (), ())
    refused = sum(by.get("429", 0) for by in found.block.client.requests.values())
    assert 0 < refused < found.block.client.total == 3 * 30 * CLIENTS
    assert [each.detail for each in validity.checks([found]) if each.id == "counts-agree" and not each.passed] == []


def test_tokens_of_a_long_block_outlive_a_quarter_of_an_hour(tmp_path):
    order = ServerOrder(str(tmp_path), seconds=1000.0, updates=1.0, scale=1.0, seed=1, limited=False, users=2)
    (tmp_path / "order.json").write_bytes(msgspec.json.encode(order))
    (tmp_path / "empty").mkdir()
    server = processes.start_server(tmp_path / "order.json", tmp_path, ())
    try:
        ready = msgspec.json.decode(server.hear(processes.READY_S), type=Ready)
        connection = HttpConnection(Place("127.0.0.1", ready.port))
        assert len({*ready.tokens}) == 2
        for token in ready.tokens:
            claims = jwt.decode(token, options={"verify_signature": False})
            assert claims["exp"] - claims["iat"] > 1000
            assert connection.get("/api/jobs/schedules", token).status == 200
        connection.close(lambda _: None)
    finally:
        server.end()


BUSY = """
import time
import gevent
from bench.locustfiles.scenario import BenchUser, ask_each_interval

def burn(end):
    while time.monotonic_ns() < end:
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            pass
        gevent.sleep(0)

class Busy(BenchUser):
    def behave(self):
        if self.client.number == 0:
            gevent.spawn(burn, self.client.order.end)
        ask_each_interval(self.client, ["GET /api/queues"])
"""


def test_a_starved_load_generator_makes_the_run_invalid(tmp_path, capsys):
    (tmp_path / "busy.py").write_text(BUSY)
    options = ["--interval", "30", "--duration", "150", "--time-scale", "120", "--clients", "2", "--repeats", "1"]
    scenario = ["--scenario", str(tmp_path / "busy.py")]
    code = main._guarded(["bench", "run", *options, *scenario, "--out", str(tmp_path / "out")])
    assert code == 6
    run = result.decode((tmp_path / "out" / "run.json").read_bytes())
    assert run.conclusion == "invalid"
    assert {"generator-headroom", "on-schedule"} <= {each.id for each in run.checks if not each.passed}
    busy = next(each for each in run.blocks if each.scenario == "busy")
    assert "blocks" not in [each.id for each in run.checks if not each.passed]
    assert busy.client.requests == {"GET /api/queues": {"200": 2 * POLLS}} == busy.server.traffic.requests


def test_ctrl_c_keeps_what_was_measured_and_ends_every_process(tmp_path):
    out = tmp_path / "out"
    argv = [sys.executable, "-m", "jobctl", "bench", "--scenario", "ws", "--repeats", "9", "--out", str(out)]
    options = ["--interval", "30", "--duration", "150", "--time-scale", "120", "--clients", "2"]
    process = subprocess.Popen([*argv, *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert re.search(r"1/9 ws, 2 clients", process.stderr.readline())
        children = wait_for(lambda: psutil.Process(process.pid).children(recursive=True))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == ExitCode.INTERRUPTED
    finally:
        process.kill()
        process.stderr.close()
    assert not psutil.wait_procs(children, timeout=5)[1]
    run = result.decode((out / "run.json").read_bytes())
    assert (run.complete, run.conclusion) == (False, "invalid")
    assert len(run.blocks) >= 1


def test_a_killed_driver_takes_its_processes_along(tmp_path):
    argv = [sys.executable, "-m", "jobctl", "bench", "--scenario", "ws", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        children = wait_for(lambda: psutil.Process(process.pid).children(recursive=True)[1:])
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not psutil.wait_procs(children, timeout=10)[1]


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


# --- before anything runs ------------------------------------------------------------------------------------------


def test_without_the_extra_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(command, "NEEDS", ("locust", "there_is_no_such_module"))
    assert main._guarded(["bench"]) == ExitCode.USAGE
    assert capsys.readouterr().err == (
        "jobctl: this needs there_is_no_such_module, which come with: pip install 'jobctl[bench]'\n"
    )


def test_a_wrong_threshold_stops_it_before_anything_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(driver, "run", lambda *_, **__: pytest.fail("it ran"))
    wrong = 'id = "x"\nmetric = "speed"\nscenario = "ws"\nmax = 1'
    (tmp_path / "t.toml").write_text(f"schema = 1\n[[threshold]]\n{wrong}\n")
    code = main._guarded(["bench", "--thresholds", str(tmp_path / "t.toml"), "--out", str(tmp_path / "out")])
    assert code == ExitCode.USAGE
    assert "unknown metric 'speed'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_results_are_not_written_over_others(tmp_path, capsys):
    (tmp_path / "run.json").write_text("{}")
    for place in (tmp_path, tmp_path / "run.json", tmp_path / "run.json" / "below"):
        assert main._guarded(["bench", "--out", str(place)]) == ExitCode.USAGE
        assert "choose another folder with --out" in capsys.readouterr().err


def test_a_process_that_fails_makes_a_run_invalid_and_says_why(tmp_path):
    def play(*_: object) -> Evidence:
        raise processes.Failed("the server ended early: no space")

    ended = driver.run(tiny("poll"), tmp_path, Silent(), play=play)
    assert "processes: the server ended early: no space" in failed_counts(ended.run)
    assert msgspec.json.decode((tmp_path / "run.json").read_bytes())["complete"] is False


def test_a_server_that_does_not_start_is_told_with_its_last_words(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "order.json").write_text("{}")
    server = processes.start_server(tmp_path / "order.json", tmp_path, ())
    try:
        with pytest.raises(processes.Failed, match=r"the server ended early: .*ValidationError"):
            server.hear(processes.READY_S)
    finally:
        server.end()


def test_a_process_of_a_block_finds_nothing_that_could_set_it_up_otherwise(tmp_path, monkeypatch):
    for name in ("LOCUST_USERS", "JOBCTL_PORT", "PYTHONSTARTUP", "HTTP_PROXY"):
        monkeypatch.setenv(name, "1")
    found = processes.environment(tmp_path)
    assert not [name for name in found if name.startswith(("LOCUST", "HTTP", "PYTHONSTARTUP")) or name == "JOBCTL_PORT"]
    assert found["HOME"] == str(tmp_path / "empty")
