"""Who saw which update, and when: a few clients and updates, told by hand."""

from __future__ import annotations

import time

import pytest

from bench import measure
from bench.load.record import Recorder
from bench.measure import Committed, News, Observations
from bench.percentile import percentile

MS = 1_000_000
JOB = [Committed(1, 0, "a", 1, 0), Committed(2, 0, "a", 2, 10 * MS), Committed(3, 0, "a", 3, 20 * MS)]


def follow(*news: News, clients: int = 1, positions: dict[int, list[int]] | None = None) -> measure.Seen:
    return measure.follow(JOB, {0}, Observations(news, positions or {}), clients)


def told(version: int, at_ms: int, *, client: int = 0, due_ms: int | None = None, seq: int | None = None) -> News:
    return News(client, at_ms * MS, (at_ms if due_ms is None else due_ms) * MS, "a", version, 0, seq)


def test_staleness_is_from_the_commit_to_the_first_that_told():
    seen = follow(told(1, 3), told(2, 14), told(3, 21), told(3, 99))
    assert [round(each * 1000) for each in seen.delays] == [3, 4, 1]
    assert (seen.updates.seen, seen.updates.superseded, seen.updates.lost) == (3, 0, 0)


def test_a_later_state_makes_the_earlier_ones_known_but_never_seen():
    seen = follow(told(3, 50))
    assert [round(each * 1000) for each in seen.delays] == [50, 40, 30]
    assert (seen.updates.due, seen.updates.seen, seen.updates.superseded) == (3, 3, 2)
    assert seen.per_client == ((1, 2, 0),)


def test_what_nothing_told_is_lost_at_the_client_that_missed_it():
    seen = follow(told(1, 3), told(3, 21, client=1), clients=2)
    assert seen.updates.lost == 2
    assert seen.per_client == ((1, 0, 2), (1, 2, 0))


def test_a_late_answer_counts_from_the_poll_that_should_have_been():
    seen = follow(told(3, 90, due_ms=40))
    assert [round(each * 1000) for each in seen.from_due] == [40, 30, 20]


def test_updates_of_other_jobs_are_not_looked_at():
    assert measure.follow(JOB, {5}, Observations((), {}), 1).updates.due == 0


def test_doubled_and_disordered_updates_are_counted():
    seen = follow(told(1, 3, seq=1), told(3, 5, seq=3), told(2, 6, seq=2), told(3, 7, seq=3))
    assert (seen.updates.duplicated, seen.updates.out_of_order) == (1, 1)
    fine = follow(told(1, 3, seq=1), told(2, 6, seq=2), told(3, 7, seq=3))
    assert (fine.updates.duplicated, fine.updates.out_of_order) == (0, 0)


def test_a_position_that_goes_back_is_disorder():
    assert follow(positions={0: [4, 6, 5]}).updates.out_of_order == 1


def test_who_knew_before_the_stamp_was_taken_waited_for_nothing():
    seen = measure.follow([Committed(1, 0, "a", 1, 10 * MS)], {0}, Observations((told(1, 9),), {}), 1)
    assert seen.delays == (0.0,)


@pytest.mark.parametrize(
    ("n", "share", "rank"),
    [(1, 0.99, 1), (2, 0.99, 2), (3, 0.99, 3), (2, 0.5, 1), (3, 0.5, 2), (100, 0.99, 99), (101, 0.99, 100),
     (100, 0.07, 7), (5, 0.0, 1), (5, 1.0, 5)],
)  # fmt: skip
def test_a_percentile_is_the_value_at_its_rank_rounded_up(n, share, rank):
    assert percentile(range(1, n + 1), share) == rank


def test_the_lateness_of_few_polls_is_that_of_the_latest():
    recorder = Recorder()
    now = time.monotonic_ns()
    for late_ms in (0, 0, 900):
        recorder.began(now - late_ms * MS)
    late = recorder.summary(cpu_s=0.0, seconds=1.0).late
    assert late["p99"] == late["max"] >= 0.9 > late["p50"]


def test_the_distribution_has_its_quantiles_and_a_histogram():
    found = measure.staleness([n / 1000 for n in range(1, 101)])
    assert found is not None
    assert (found.count, found.p50, found.p99, found.max) == (100, 0.05, 0.099, 0.1)
    assert found.histogram
    assert measure.staleness([]) is None
