import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import histograms, statistics

POSITIVE = st.floats(1e-3, 1e3)


@pytest.mark.parametrize(
    ("freedom", "confidence", "expected"),
    [(1, 0.95, 12.7062), (2, 0.95, 4.3027), (3, 0.95, 3.1824), (4, 0.95, 2.7764), (9, 0.95, 2.2622), (30, 0.95, 2.0423),
     (120, 0.95, 1.9799), (5, 0.99, 4.0321), (10, 0.90, 1.8125)],
)  # fmt: skip
def test_t_is_as_in_the_tables(freedom, confidence, expected):
    assert statistics.t_quantile(freedom, confidence) == pytest.approx(expected, abs=6e-5)


def test_t_of_no_freedom_is_an_error():
    with pytest.raises(ValueError, match="freedom"):
        statistics.t_quantile(0)


def test_a_mean_has_the_interval_of_the_textbook():
    found = statistics.mean([4.0, 5.0, 6.0])
    assert found.value == 5.0
    assert found.high - 5.0 == pytest.approx(4.3027 / math.sqrt(3), abs=1e-3)
    assert statistics.mean([4.0]) == (4.0, None, None)


def test_a_known_ratio_is_recovered_whatever_the_weather():
    chance = random.Random(5)
    weather = [chance.lognormvariate(0, 1) for _ in range(6)]  # the machine is ten times slower in some repeats
    found = statistics.paired_ratio([0.2 * each * chance.lognormvariate(0, 0.02) for each in weather], weather)
    assert found.value == pytest.approx(0.2, rel=0.03)
    assert found.low < 0.2 < found.high < 0.22
    assert found.resolvable


def test_the_interval_covers_the_truth_as_often_as_it_says():
    chance = random.Random(11)
    covered = 0
    for _ in range(1500):
        theirs = [chance.lognormvariate(0, 0.5) for _ in range(5)]
        ours = [0.7 * each * chance.lognormvariate(0, 0.3) for each in theirs]
        found = statistics.paired_ratio(ours, theirs)
        covered += found.low <= 0.7 <= found.high
    assert 0.93 <= covered / 1500 <= 0.97


def test_the_interval_of_a_difference_from_nothing_covers_as_often_as_it_says():
    chance = random.Random(12)
    covered = 0
    for _ in range(1500):
        theirs = [chance.gauss(10, 1) for _ in range(6)]
        ours = [chance.gauss(0.0, 1) for _ in range(6)]  # nothing, in noise: half of it is negative
        found = statistics.paired_ratio(ours, theirs)
        assert found.value is not None
        covered += found.low <= 0.0 <= found.high
    assert covered / 1500 >= 0.93


def test_unpaired_intervals_cover_as_often_as_they_say():
    chance = random.Random(13)
    covered = 0
    for _ in range(1500):
        found = statistics.unpaired_ratio(
            [2 * chance.lognormvariate(0, 0.1) for _ in range(5)], [chance.lognormvariate(0, 0.3) for _ in range(4)]
        )
        covered += found.low <= 2.0 <= found.high
    assert 0.93 <= covered / 1500 <= 0.98


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=8))
def test_turned_round_a_ratio_is_its_inverse(pairs):
    ours, theirs = zip(*pairs, strict=True)
    there, back = statistics.paired_ratio(ours, theirs), statistics.paired_ratio(theirs, ours)
    assert there.value * back.value == pytest.approx(1.0)
    assert there.low * back.high == pytest.approx(1.0)
    assert there.low <= there.value <= there.high


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=8), POSITIVE)
def test_a_ratio_does_not_depend_on_the_unit(pairs, unit):
    ours, theirs = zip(*pairs, strict=True)
    plain = statistics.paired_ratio(ours, theirs)
    scaled = statistics.paired_ratio([each * unit for each in ours], [each * unit for each in theirs])
    assert scaled[:3] == pytest.approx(plain[:3])


@pytest.mark.parametrize(
    ("ours", "theirs", "value", "note"),
    [
        ([0, 0, 0], [57, 57, 57], 0.0, ""),
        ([1, 1, 1], [0, 0, 0], None, "is 0"),
        ([1.0, 1.1, 0.9], [0.1, -0.1, 0.05], None, "noise"),
        ([1.0, 1.1, 0.9], [-3.0, -3.1, -3.2], None, "noise"),
        ([3], [90], 3 / 90, "one repeat"),
        ([0], [90], 0.0, "one repeat"),
        ([], [], None, "no pairs"),
    ],
)
def test_where_there_is_no_ratio_it_says_why(ours, theirs, value, note):
    found = statistics.paired_ratio(ours, theirs)
    assert found.value == (None if value is None else pytest.approx(value))
    assert note in found.note


def test_equal_counts_are_no_difference_and_others_are_one():
    assert not statistics.paired_ratio([3, 3, 3], [3, 3, 3]).resolvable
    assert statistics.paired_ratio([3, 3, 3], [90, 90, 90]).resolvable
    assert statistics.paired_ratio([0, 0, 0], [90, 90, 90]).resolvable
    assert not statistics.paired_ratio([3], [90]).resolvable


def test_least_squares_is_exact_on_what_is_exact():
    rows = [(1.0, n, n * r) for n in (10.0, 1000.0) for r in (0.1, 50.0)]
    line = statistics.least_squares(rows, [0.5 + n * (1e-5 + 3e-6 * r) for _, n, nr in rows for r in [nr / n]])
    assert line.coefficients == pytest.approx((0.5, 1e-5, 3e-6))
    assert line.spare == 1


@pytest.mark.parametrize("rows", [[(1.0, 2.0)], [(1.0, 2.0), (1.0, 2.0), (1.0, 2.0)], [(1.0, 0.0), (1.0, 0.0)], []])
def test_points_that_tell_nothing_apart_are_an_error(rows):
    with pytest.raises(ValueError):
        statistics.least_squares(rows, [1.0] * len(rows))


def test_a_slope_is_found_with_its_interval():
    found = statistics.slope([(0, 100.1), (10, 119.8), (20, 140.2), (30, 159.9)])
    assert found.low < 2.0 < found.high
    assert found.value == pytest.approx(2.0, abs=0.02)
    assert statistics.slope([(0, 100), (10, 120)]) == (pytest.approx(2.0), None, None)
    assert statistics.slope([(5, 100), (5, 120)]) is None


def test_honest_polls_are_uniform_however_many_there_are():
    chance = random.Random(2)
    for n in (25, 400, 50_000):
        # An answer that takes a hundredth of the interval is a difference too, and must not count for one.
        passed, detail = statistics.uniform_check([chance.uniform(0, 1.5) + 0.015 for _ in range(n)], 1.5)
        assert passed, detail


@pytest.mark.parametrize(
    "dishonest",
    [
        lambda chance: chance.uniform(0, 0.75),  # measured from the middle
        lambda chance: 0.75,  # all clients in step with the updates
        lambda chance: chance.uniform(0, 3.0),  # every other poll left out
        lambda chance: chance.expovariate(1 / 0.75),  # a schedule that drifts
        lambda chance: chance.uniform(0, 1.5) * chance.random(),  # what was late is not counted
    ],
)
def test_dishonest_polls_are_not_uniform(dishonest):
    chance = random.Random(4)
    passed, detail = statistics.uniform_check([dishonest(chance) for _ in range(2000)], 1.5)
    assert not passed, detail


def test_few_or_dependent_values_are_too_few():
    assert not statistics.uniform_check([0.5] * 19, 1.0)[0]
    assert not statistics.uniform_check([k / 100 for k in range(100)], 1.0, independent=4)[0]
    assert statistics.uniform_check([k / 100 for k in range(100)], 1.0, independent=40)[0]
    assert not statistics.uniform_check([0.5] * 100, 0.0)[0]


@given(st.lists(st.floats(0, 2), min_size=1, max_size=50))
def test_a_distance_is_a_probability(values):
    assert 0 <= statistics.uniform_distance(values, 1.0) <= 1


def test_a_histogram_gives_back_its_distribution():
    steps = histograms.distribution([histograms.record([0.001] * 50), histograms.record([0.1] * 30 + [2.0] * 20)])
    assert [round(step.at_most, 9) for step in steps] == [0.5, 0.8, 1.0]
    assert [step.seconds for step in steps] == pytest.approx([0.001, 0.1, 2.0], rel=2e-3)
    assert histograms.quantile(steps, 0.5) == pytest.approx(0.001, rel=2e-3)
    assert histograms.quantile(steps, 0.51) == pytest.approx(0.1, rel=2e-3)
    assert histograms.quantile((), 0.5) is None
    assert histograms.distribution([]) == ()


@pytest.mark.parametrize("junk", ["", "zz", "!!!", "aGVsbG8=", "HISTFAAAAA", "é", "HISTFAAAAId4nJNpmSzMwMB"])
def test_what_is_no_histogram_is_an_error(junk):
    with pytest.raises(ValueError, match="histogram"):
        histograms.distribution([junk])
