import bench_kit as kit
import msgspec
import pytest

from bench import metrics
from bench.metrics import METRICS, Cell


def of(name, block, *others, **planned):
    return METRICS[name].of(block, kit.run([block, *others], **planned))


def test_requests_are_per_client_and_fifteen_minutes_on_a_clock_of_one():
    assert of("requests_per_client", kit.block("poll")) == pytest.approx(90)  # 45 s at 20 times the pace
    assert of("requests_per_client", kit.block("ws")) == pytest.approx(3)
    # A measured time of five minutes stands for fifteen: the first three requests weigh threefold, against the stream.
    assert of("requests_per_client", kit.block("ws", seconds=15.0)) == pytest.approx(9)
    assert of("requests_per_client", kit.block("ws"), time_scale=10.0) == pytest.approx(6)


@pytest.mark.parametrize(
    ("name", "scenario", "value"),
    [("connections_per_client", "poll", 30), ("connections_per_client", "ws", 2), ("empty_requests", "poll", 45),
     ("app_bytes_per_client", "poll", 30 * 30_900), ("wire_bytes_per_client", "poll", 30 * 31_950),
     ("db_queries", "ws", 4.4),
     ("updates_lost", "ws", 0), ("updates_superseded", "poll", 1800), ("rate_limited", "poll-limited", 20),
     ("rate_limited", "poll", 0)],
)  # fmt: skip
def test_what_a_block_counted(name, scenario, value):
    assert of(name, kit.block(scenario)) == pytest.approx(value)


def test_what_the_server_or_the_kernel_did_not_tell_is_not_known():
    blind = kit.block("ws", server=None)
    traffic = msgspec.structs.replace(blind.client, wire_sent=None, wire_received=None)
    blind = msgspec.structs.replace(blind, client=traffic)
    for name in ("cpu_s_attributable", "rss_per_client", "db_queries", "wire_bytes_per_client", "staleness_s.p99"):
        assert of(name, blind, kit.block("idle")) is None, name


def test_nobody_is_no_client():
    for name in ("requests_per_client", "db_queries", "connections_per_client"):
        assert of(name, kit.block("idle")) is of(name, kit.block("ws", clients=0)) is None


def test_cpu_is_what_is_beyond_the_idle_control_of_the_same_repeat_and_rate():
    ws = kit.block("ws", repeat=1)
    slow = kit.block("idle", repeat=1)
    slow = msgspec.structs.replace(slow, server=msgspec.structs.replace(slow.server, cpu_s=0.9))
    others = [kit.block("idle", repeat=0), kit.block("idle", repeat=1, rate=40.0)]
    expected = (ws.server.cpu_s - 0.9) / 45 / 20  # 20 times the pace is 20 times the work a second
    assert metrics.cpu_attributable(ws, kit.run([ws, slow, *others])) == pytest.approx(expected * 20)
    assert of("cpu_s_attributable", ws, slow, *others) == pytest.approx(expected)
    assert of("cpu_s_attributable", ws, *others) is None  # no control of its own
    assert of("cpu_s_attributable", slow) is None


def test_memory_is_the_slope_over_clients_the_control_being_none():
    blocks = [kit.block("ws", clients=n) for n in (50, 100, 200)]
    assert of("rss_per_client", blocks[0], *blocks[1:], kit.block("idle")) == pytest.approx(14_000)
    assert of("rss_per_client", blocks[0], blocks[1], kit.block("idle")) == pytest.approx(14_000)
    assert of("rss_per_client", blocks[0], kit.block("idle")) is None  # nobody and one number are no slope
    assert of("rss_per_client", blocks[0]) is None
    assert of("rss_per_client", blocks[0], kit.block("ws", repeat=1, clients=200)) is None  # another server


def test_staleness_is_as_measured_and_scaled_back_only_where_it_waits_for_a_poll():
    poll, ws = (kit.block(name, staleness=kit.staleness([0.5] * 99 + [1.0])) for name in ("poll", "ws"))
    assert of("staleness_s.p50", poll) == of("staleness_s.p50", ws) == 0.5
    assert of("staleness_s.p99", poll) == 1.0
    run = kit.run([poll, ws])
    assert metrics.scaled_back(1.0, "poll", run, 0.99) == 20.0
    # Of 1.6 s at most 99% of the interval of 1.5 s was waiting; the rest is the request, which is no longer in life.
    assert metrics.scaled_back(1.6, "poll", run, 0.99) == pytest.approx(0.99 * 30 + (1.6 - 0.99 * 1.5))
    assert metrics.scaled_back(1.0, "ws", run, 0.99) == 1.0


def test_scenarios_are_shown_at_what_all_were_measured_at_and_compared_at_the_most_clients():
    blocks = [kit.block(name, clients=n, rate=r) for name in ("poll", "ws") for n in (10, 40) for r in (2.0, 4.0)]
    run = kit.run(
        [*blocks, kit.block("longpoll", clients=10, rate=4.0), kit.block("idle", clients=1)], updates=(0.2, 0.1)
    )
    assert metrics.cells(run, "ws") == [Cell(40, 4.0), Cell(40, 2.0), Cell(10, 4.0), Cell(10, 2.0)]
    assert metrics.common_cell(run, "ws", "poll") == Cell(40, 4.0)
    assert metrics.common_cell(run, "ws", "longpoll") == Cell(10, 4.0)
    assert metrics.common_cell(run, "ws", "poll-etag") is None
    assert metrics.shown_cell(run, "ws") == Cell(10, 4.0)
    assert metrics.shown_cell(run, "idle") == Cell(1, 2.0)
    assert metrics.shown_cell(run, "poll-etag") is None


def test_a_loss_counts_wherever_it_was():
    lost = kit.block("ws", clients=10)
    lost = msgspec.structs.replace(lost, updates=msgspec.structs.replace(lost.updates, lost=1))
    run = kit.run([lost, kit.block("ws"), kit.block("ws", repeat=1)])
    assert metrics.values(run, METRICS["updates_lost"], "ws", None) == {0: 1.0, 1: 0.0}


def test_where_no_update_was_due_nothing_is_said_of_updates():
    still = kit.block("ws", rate=0.0)
    for name in ("updates_lost", "updates_duplicated", "updates_out_of_order", "updates_superseded"):
        assert of(name, still) is None
        assert of(name, kit.block("ws")) == 0


def test_every_metric_has_words_and_a_unit():
    for name, metric in METRICS.items():
        assert name == metric.name
        assert metric.words
        assert metric.unit
    assert set(metrics.SERVER_SIDE) < METRICS.keys()
