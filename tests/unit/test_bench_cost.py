import bench_kit as kit
import msgspec
import pytest

from bench import cost, verdict
from bench.result import Fit


def fitted(scenario="ws", a=0.0, b=1e-4, c=1e-5, spread=0.0, **changed):
    covariance = tuple(tuple((spread * x) ** 2 if i == j else 0.0 for j in range(3)) for i, x in enumerate((a, b, c)))
    usual = Fit(scenario, "cpu", a, b, c, covariance, points=30, residual=0.0, max_clients=200, max_updates=10.0)
    return msgspec.structs.replace(usual, **changed)


def test_known_coefficients_are_recovered():
    run = kit.run(clients=(50, 100, 200), updates=(0.1, 0.5, 2.0))
    for scenario in ("ws", "poll"):
        found = cost.fit(run, scenario)
        assert (found.a, found.b, found.c) == pytest.approx(kit.COSTS[scenario], rel=1e-6)
        assert (found.points, found.max_clients, found.max_updates) == (45, 200, 40.0)
        assert found.residual < 1e-9


def test_they_are_recovered_from_noise_within_their_uncertainty():
    run = kit.full()
    for scenario in ("ws", "poll"):
        found = cost.fit(run, scenario)
        for k, truth in enumerate(kit.COSTS[scenario]):
            assert abs((found.a, found.b, found.c)[k] - truth) < 4 * found.covariance[k][k] ** 0.5
        assert found.residual > 0


@pytest.mark.parametrize(
    "planned",
    [
        {"clients": (100,), "updates": (0.1, 2.0)},  # a and N * b look alike
        {"clients": (50, 100), "updates": (0.1,)},  # b and c * r look alike
        {"clients": (50, 100), "updates": (0.1, 2.0), "repeats": 1, "scenarios": ("poll", "ws")},  # no control
    ],
)
def test_what_the_blocks_do_not_tell_apart_is_not_fitted(planned):
    assert cost.fit(kit.run(**planned), "ws") is None


def test_bytes_are_fitted_too():
    found = cost.fit(kit.run(clients=(50, 100, 200), updates=(0.1, 0.5, 2.0)), "ws", "wire")
    assert found.b == pytest.approx(31_950 / 45)
    assert found.c == pytest.approx(340, rel=0.01)
    assert found.saturation is None


def test_on_a_clock_of_one_what_goes_by_time_is_less_and_what_goes_by_updates_is_not():
    found = cost.scaled_back(fitted(a=0.2, b=1e-4, c=1e-5, spread=0.1), 20.0)
    assert (found.a, found.b, found.c) == pytest.approx((0.01, 5e-6, 1e-5))
    assert [found.covariance[k][k] ** 0.5 for k in range(3)] == pytest.approx([0.001, 5e-7, 1e-6])
    assert found.max_updates == pytest.approx(0.5)
    # 20 times as much in a 20th of the time is the same work.
    assert cost.cost(found, 100, 0.4).value * 20 == pytest.approx(0.2 + 100 * (1e-4 + 1e-5 * 8.0))
    assert cost.scaled_back(found, 1.0) is found


def test_beyond_what_was_measured_is_marked_and_beyond_a_full_core_refused():
    ws = fitted(a=0.01, b=1e-5, c=1e-6, spread=0.05)
    assert not cost.cost(ws, 200, 10.0).extrapolated
    assert cost.cost(ws, 201, 10.0).extrapolated
    assert cost.cost(ws, 200, 11.0).extrapolated
    found = cost.cost(ws, 10_000, 1.0)
    assert found.value == pytest.approx(0.12)
    assert found.low < 0.12 < found.high
    assert found.extrapolated
    with pytest.raises(cost.Saturated, match="one core is full at 90,000"):
        cost.cost(ws, 1_000_000, 1.0)
    assert cost.saturation(ws, 0.0) == pytest.approx(99_000)
    assert cost.saturation(fitted(b=0.0, c=0.0), 1.0) is None


def test_bytes_have_no_core_to_fill():
    assert cost.cost(fitted(resource="wire", b=700.0, c=340.0), 1_000_000, 1.0).value == pytest.approx(1.04e9)


def test_polling_gets_cheaper_the_less_often_it_asks():
    push, poll = fitted("ws", b=1e-6, c=1e-5), fitted("poll", b=1e-4, c=0.0)
    rates = [cost.break_even(push, poll, interval, 30.0).updates_per_s for interval in (1.0, 10.0, 30.0, 60.0)]
    assert rates == pytest.approx([(1e-4 * 30 / each - 1e-6) / 1e-5 for each in (1, 10, 30, 60)])
    assert rates == sorted(rates, reverse=True)
    seldom = cost.break_even(push, poll, 30 * 200.0, 30.0)
    assert (seldom.updates_per_s, seldom.note) == (None, cost.CHEAPER_POLL)


def test_at_the_line_both_cost_alike():
    push, poll = fitted("ws", b=1e-6, c=1e-5), fitted("poll", b=1e-4, c=1e-6)
    for interval in (10.0, 30.0, 60.0):
        line = cost.break_even(push, poll, interval, 30.0)
        assert cost.relative(push, poll, interval, 30.0, line.updates_per_s) == pytest.approx(1.0)
        assert cost.relative(push, poll, interval, 30.0, line.updates_per_s * 0.9) < 1
        assert cost.relative(push, poll, interval, 30.0, line.updates_per_s * 1.1) > 1
        assert line.note.startswith("polling is cheaper above")


def test_push_may_win_everywhere_or_only_above():
    always = cost.break_even(fitted("ws", b=1e-6, c=1e-6), fitted("poll", b=1e-4, c=1e-5), 30.0, 30.0)
    assert (always.updates_per_s, always.note) == (None, cost.CHEAPER_PUSH)
    above = cost.break_even(fitted("ws", b=1e-4, c=1e-6), fitted("poll", b=1e-5, c=1e-5), 30.0, 30.0)
    assert above.updates_per_s == pytest.approx(10.0)
    assert above.note == "push is cheaper above"


def test_the_band_of_the_line_grows_with_what_is_not_known():
    def line(spread):
        return cost.break_even(
            fitted("ws", b=1e-6, c=1e-5, spread=spread), fitted("poll", b=1e-4, c=1e-6, spread=spread), 30.0, 30.0
        )

    exact, vague, unknown = line(0.0), line(0.05), line(5.0)
    assert exact.low == pytest.approx(exact.high)
    assert vague.low < exact.low < vague.high
    assert vague.low < vague.updates_per_s < vague.high
    assert unknown.low is unknown.high is None
    # What a client costs may be known well; if what an update costs is not, the line may be anywhere.
    slope = fitted("ws", b=1e-6, c=1e-5, covariance=((0.0,) * 3, (0.0,) * 3, (0.0, 0.0, 1e-8)))
    unknown = cost.break_even(slope, fitted("poll", b=1e-4, c=1e-6), 30.0, 30.0)
    assert unknown.low is unknown.high is None


def test_a_line_beyond_the_rates_measured_says_so():
    far = cost.break_even(fitted("ws", b=1e-6, c=1e-6), fitted("poll", b=1e-4, c=0.0), 30.0, 30.0)
    assert far.updates_per_s == pytest.approx(99.0)
    assert "extrapolation, measured up to 10" in far.note


def test_the_surface_is_of_the_stream_against_each_fitted_way_of_polling():
    run = verdict.judge(kit.full(), ())
    assert {(each.scenario, each.vs) for each in run.break_even} == {
        ("ws", "poll"), ("ws", "poll-keepalive"), ("ws", "poll-etag"),
    }  # fmt: skip
    assert {each.resource for each in run.break_even} == {"cpu", "wire"}
    at_30 = next(each for each in run.break_even if (each.interval, each.vs, each.resource) == (30.0, "poll", "cpu"))
    # On a clock of 1: (9e-5 - 2e-6) / 20 over (4e-6 - 1e-6).
    assert at_30.low < 8.8e-5 / 20 / 3e-6 < at_30.high
