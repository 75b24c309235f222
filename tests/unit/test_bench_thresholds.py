from pathlib import Path

import bench_kit as kit
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import thresholds
from bench.metrics import METRICS, SCENARIOS, unknown
from bench.result import Comparison, Estimate
from bench.thresholds import Threshold
from jobctl.errors import ConfigError

ROOT = Path(__file__).parents[2]


def toml(lines: str, schema: str = "schema = 1") -> str:
    return f'{schema}\n[[threshold]]\nid = "a"\n{lines}\n'


GOOD = 'metric = "requests_per_client"\nscenario = "ws"\nvs = "poll"\nmax_ratio = 0.1'


def test_the_example_of_the_format_is_understood():
    text = toml(GOOD + '\ndecide = "ci"\nseverity = "warn"')
    assert thresholds.parse(text, "x.toml") == (
        Threshold("a", "requests_per_client", "ws", "poll", max_ratio=0.1, decide="ci", severity="warn"),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "not TOML"),
        ("", "schema = 1 must stand at its top"),
        (toml(GOOD, "schema = 2"), r"it says 2"),
        ("schema = 1", r"no \[\[threshold\]\]"),
        ("schema = 1\nthreshold = 3", "array"),
        (toml(GOOD + "\nmax_ration = 1"), "threshold 'a': unknown key `max_ration`; there are id, metric, .*max_ratio"),
        (toml(GOOD + '\nmax = "x"'), "threshold 'a': Expected `float .*`max`"),
        (toml(GOOD).replace('id = "a"', "id = 3"), "threshold number 1: Expected `str`, got `int` - at `id`"),
        ("[[threshold]]", r"schema = 1 must stand at its top \(it is missing\)"),
        (toml(GOOD, "schema = 1\nmore = 2"), "more"),
        (toml(GOOD.replace("requests_per_client", "requests")), "unknown metric 'requests'; there are requests_per"),
        (toml(GOOD.replace('"ws"', '"wss"')), "unknown scenario 'wss'; there are idle"),
        (toml(GOOD.replace('"poll"', '"polls"')), "unknown scenario 'polls'"),
        (toml(GOOD.replace('"poll"', '"ws"')), "against itself"),
        (toml(GOOD.replace("max_ratio", "max")), "max is without vs"),
        (toml('metric = "updates_lost"\nscenario = "ws"\nmax_ratio = 1'), "max_ratio needs vs"),
        (toml('metric = "updates_lost"\nscenario = "ws"'), "no bound; give max or min"),
        (toml('metric = "updates_lost"\nscenario = "ws"\nmax = 1\nmin = 2'), "above the upper"),
        (toml('metric = "updates_lost"\nscenario = "ws"\nmax = nan'), "threshold"),
        (toml('metric = "updates_lost"\nscenario = "ws"\nmax = inf'), "finite"),
        (toml('metric = "updates_lost"\nscenario = "ws"\nmax = true'), "float"),
        (toml('metric = "updates_lost"\nscenario = "ws"\nmax = "1"'), "float"),
        (toml('metric = "updates_lost"\nscenario = "ws"\nmax = -1'), ">= 0"),
        (toml(GOOD + '\ndecide = "mean"'), "mean"),
        (toml(GOOD + '\nseverity = "error"'), "error"),
        (toml(GOOD) + toml(GOOD, ""), "there twice"),
        (toml(GOOD).replace('id = "a"\n', ""), "threshold number 1: it lacks `id`"),
    ],
)
def test_a_wrong_file_is_one_clear_error(text, said):
    with pytest.raises(ConfigError, match=said) as caught:
        thresholds.parse(text, "gates.toml")
    assert str(caught.value).startswith("gates.toml: ")


def test_a_file_that_cannot_be_read_is_one_too(tmp_path):
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(ConfigError, match="cannot read thresholds"):
            thresholds.load(path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        thresholds.load(tmp_path / "binary")


def test_a_scenario_of_the_users_own_may_be_spoken_of_if_it_is_there():
    text = toml(GOOD.replace('"ws"', '"mine"'))
    assert thresholds.parse(text, "x", (*SCENARIOS, "mine"))[0].scenario == "mine"


def test_counts_are_decided_by_value_and_times_by_interval_unless_told():
    for name, metric in METRICS.items():
        expected = "value" if metric.kind == "count" else "ci"
        assert Threshold("a", name, "ws", max=1).decided_by == expected
    assert Threshold("a", "updates_lost", "ws", max=1, decide="ci").decided_by == "ci"


@pytest.mark.parametrize(
    ("bounds", "decide", "value", "low", "high", "outcome"),
    [
        ({"max_ratio": 0.1}, "value", 0.1, None, None, "pass"),
        ({"max_ratio": 0.1}, "value", 0.1 + 1e-12, None, None, "pass"),  # 9 of 90, by way of a logarithm
        ({"max_ratio": 0.1}, "value", 0.1001, 0.05, 0.15, "fail"),
        ({"max_ratio": 0.0}, "value", 0.0, 0.0, 0.0, "pass"),
        ({"max_ratio": 0.0}, "value", 1e-12, 0.0, 0.0, "fail"),
        ({"min_ratio": 2}, "value", 1.9, 1.0, 3.0, "fail"),
        ({"min_ratio": 2}, "value", 2.0, 1.0, 3.0, "pass"),
        ({"max_ratio": 1}, "ci", 0.5, 0.4, 0.6, "pass"),
        ({"max_ratio": 1}, "ci", 0.9, 0.8, 1.1, "inconclusive"),
        ({"max_ratio": 1}, "ci", 1.1, 0.9, 1.3, "inconclusive"),
        ({"max_ratio": 1}, "ci", 1.3, 1.1, 1.5, "fail"),
        ({"max_ratio": 1}, "ci", 0.5, None, None, "inconclusive"),
        ({"min_ratio": 1}, "ci", 1.3, 1.1, 1.5, "pass"),
        ({"min_ratio": 1}, "ci", 0.5, 0.4, 0.6, "fail"),
        ({"min_ratio": 0.5, "max_ratio": 1}, "ci", 0.7, 0.6, 0.8, "pass"),
        ({"min_ratio": 0.5, "max_ratio": 1}, "ci", 0.7, 0.3, 1.2, "inconclusive"),
        ({"min_ratio": 0.5, "max_ratio": 1}, "ci", 1.3, 1.1, 1.4, "fail"),
        ({"max_ratio": 1}, "value", None, None, None, "no_data"),
        ({"max_ratio": 1}, "ci", None, None, None, "no_data"),
    ],
)
def test_what_becomes_of_a_threshold(bounds, decide, value, low, high, outcome):
    threshold = Threshold("a", "cpu_s_attributable", "ws", "poll", decide=decide, **bounds)
    found = Comparison("cpu_s_attributable", "ws", "poll", value, low, high, True, "the other one is 0")
    judged = thresholds.judge(threshold, None, found)
    assert judged.outcome == outcome
    assert judged.detail


def test_what_was_not_measured_is_no_data_with_or_without_vs():
    for threshold in (
        Threshold("a", "updates_lost", "ws", max=0),
        Threshold("a", "db_queries", "ws", "poll", max_ratio=1),
    ):
        judged = thresholds.judge(threshold, None, None)
        assert (judged.outcome, judged.value) == ("no_data", None)
        assert "measured" in judged.detail


def test_lost_in_noise_is_no_answer_where_the_interval_decides_and_no_data_where_the_value_does():
    noise = Comparison(
        "cpu_s_attributable", "ws", "poll", None, None, None, False, "the other one is not above the noise"
    )
    threshold = Threshold("a", "cpu_s_attributable", "ws", "poll", max_ratio=1)
    assert thresholds.judge(threshold, None, noise).outcome == "inconclusive"
    by_value = Threshold("a", "cpu_s_attributable", "ws", "poll", max_ratio=1, decide="value")
    assert thresholds.judge(by_value, None, noise).outcome == "no_data"


def test_one_that_warns_does_not_fail():
    estimate = Estimate("ws", "updates_lost", "updates", (1.0,), 1.0)
    assert (
        thresholds.judge(Threshold("a", "updates_lost", "ws", max=0, severity="warn"), estimate, None).outcome == "warn"
    )
    assert thresholds.judge(Threshold("a", "updates_lost", "ws", max=0), estimate, None).outcome == "fail"


@given(st.floats(0, 10), st.floats(0, 10), st.floats(0, 10))
def test_a_tighter_bound_never_passes_what_a_looser_one_fails(value, one, other):
    def outcome(bound):
        found = Comparison("db_queries", "ws", "poll", value, value, value, True)
        return thresholds.judge(Threshold("a", "db_queries", "ws", "poll", max_ratio=bound), None, found).outcome

    tight, loose = sorted((one, other))
    assert not (outcome(tight) == "pass" and outcome(loose) == "fail")


def test_the_file_to_copy_is_the_one_in_the_package():
    packaged = ROOT / "bench" / "defaults" / "thresholds.toml"
    assert (ROOT / "configs" / "bench-thresholds.toml").read_text() == packaged.read_text()


def test_the_defaults_ask_only_for_what_the_scenarios_can_answer():
    asked = thresholds.defaults(("idle", "poll", "ws"))
    assert {each.scenario for each in asked} == {"ws"}
    assert {each.vs for each in asked} == {None, "poll"}
    assert "cpu_s_attributable" in {each.metric for each in asked}
    blind = thresholds.defaults(("idle", "poll", "ws"), unknown(kit.plan(url="http://there")))
    assert not {each.metric for each in blind} & {"cpu_s_attributable", "db_queries", "rss_per_client"}
    assert blind
    assert "empty_requests" in {each.metric for each in asked} - {each.metric for each in blind}
    assert thresholds.defaults(("idle",)) == ()
    assert "poll-limited" in {each.scenario for each in thresholds.defaults(SCENARIOS)}


def test_a_foreign_server_and_a_run_without_updates_are_not_asked_what_they_cannot_show():
    three = ("idle", "poll", "ws")
    blind = {each.metric for each in thresholds.defaults(three, unknown(kit.plan(url="http://there")))}
    assert blind == {"requests_per_client", "connections_per_client", "rate_limited"}
    still = {each.metric for each in thresholds.defaults(three, unknown(kit.plan(updates=(0.0,))))}
    assert not [name for name in still if name.startswith(("staleness", "updates"))]
    assert {"requests_per_client", "cpu_s_attributable", "empty_requests"} <= still
    sizes = [
        {each.metric for each in thresholds.defaults(SCENARIOS, unknown(kit.plan(clients=n)))} for n in [(5,), (5, 9)]
    ]
    assert [("rss_per_client" in each) for each in sizes] == [False, True]


def test_the_gates_for_ci_are_counts_alone():
    gates = thresholds.load(ROOT / "configs" / "bench-ci-gates.toml")
    assert gates
    assert all(METRICS[each.metric].kind == "count" and each.decided_by == "value" for each in gates)
