"""What is counted: where values fall, and that labels cannot grow without bound."""

import pytest

from jobctl.metrics import MAX_LABELS, OTHER, QUICK, Histogram, Histograms, Tallies


@pytest.mark.parametrize(
    ("value", "bucket"), [(0.0, 0), (1.0, 0), (1.0001, 1), (2.0, 1), (5.0, 2), (5.1, 3), (1e9, 3), (-1.0, 0)]
)
def test_a_value_belongs_to_the_first_bound_that_is_not_below_it(value: float, bucket: int) -> None:
    histogram = Histogram((1.0, 2.0, 5.0))
    histogram.observe(value)
    assert histogram.counts == [int(i == bucket) for i in range(4)]
    assert (histogram.count, histogram.total) == (1, value)


def test_names_beyond_the_bound_share_one_histogram() -> None:
    histograms = Histograms(QUICK)
    for i in range(MAX_LABELS * 3):
        histograms.observe(f"name-{i}", 0.1)
    assert len(histograms.by_name) == MAX_LABELS + 1
    assert histograms.by_name[OTHER].count == 2 * MAX_LABELS
    histograms.observe("name-0", 0.1)
    assert histograms.by_name["name-0"].count == 2


def test_the_first_label_is_bounded_and_the_rest_is_kept_apart() -> None:
    tallies = Tallies()
    for i in range(MAX_LABELS * 2):
        tallies.add(f"name-{i}", "failed")
        tallies.add(f"name-{i}", "completed")
    assert len(tallies.counts) == 2 * MAX_LABELS + 2
    assert tallies.counts[OTHER, "failed"] == tallies.counts[OTHER, "completed"] == MAX_LABELS
    assert tallies.counts["name-0", "failed"] == 1
