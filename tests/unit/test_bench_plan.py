"""From a profile to blocks: what is the same for every scenario, what is drawn, and what cannot be asked for."""

from __future__ import annotations

from collections import Counter

import pytest

from bench import plan, scenarios, workload
from jobctl.errors import InvalidInput


def make(**given: object):
    return plan.make("smoke", seed=7, **given)


def test_profiles_can_be_planned():
    for name in plan.profiles():
        made = plan.make(name, seed=1)
        assert plan.cells(made)
        assert all(scenarios.find(each) for each in made.scenarios)


def test_smoke_fits_into_its_time():
    made = make()
    assert plan.seconds_left(made, 0, 0.0, len(plan.cells(made))) <= 90
    ci = plan.make("ci", seed=1)
    assert plan.seconds_left(ci, 0, 0.0, len(plan.cells(ci))) <= 300
    full = plan.make("full", seed=1)
    assert plan.seconds_left(full, 0, 0.0, len(plan.cells(full))) <= 1800


def test_a_repeat_has_every_block_once_and_an_order_of_its_own():
    cells = plan.cells(make(repeats=20))
    by_repeat = [[each.scenario.name for each in cells if each.repeat == repeat] for repeat in range(20)]
    assert all(sorted(names) == ["idle", "poll", "ws"] for names in by_repeat)
    assert len({tuple(names) for names in by_repeat}) == 6  # all orders occur
    assert [each.order for each in cells] == list(range(60))


def test_the_same_seed_plans_the_same_run():
    assert plan.cells(make()) == plan.cells(make())
    assert plan.cells(make()) != plan.cells(plan.make("smoke", seed=8))


def test_scenarios_of_a_repeat_share_updates_and_arrivals_and_repeats_do_not():
    cells = plan.cells(make(repeats=2))
    seeds = [{(each.phases, each.workload) for each in cells if each.repeat == repeat} for repeat in range(2)]
    assert [len(each) for each in seeds] == [1, 1]
    assert seeds[0] != seeds[1]


def test_every_time_is_scaled_alike():
    one, ten = (plan.cells(make(time_scale=scale, repeats=1))[0] for scale in (1.0, 10.0))
    assert (one.interval, one.seconds) == (ten.interval * 10, ten.seconds * 10)
    assert one.updates == ten.updates / 10
    assert one.polls == ten.polls == 30
    slow, fast = (workload.workload(each.updates, each.seconds, each.scale, 1) for each in (one, ten))
    assert [job.end for job in slow] == pytest.approx([job.end * 10 for job in fast])


def test_slopes_are_measured_where_the_cost_model_needs_them():
    made = make(scenarios=["idle", "ws", "poll-etag"], clients=[5, 10], updates=[0.2, 1.0], repeats=1)
    sizes = Counter((each.scenario.name, each.clients) for each in plan.cells(made))
    assert sizes == {("idle", 0): 2, ("ws", 5): 2, ("ws", 10): 2, ("poll-etag", 5): 1}


def test_clients_cover_the_interval_evenly():
    phases = sorted(plan.phases(50, 2.0, seed=3))
    assert all(place / 25 <= phase < (place + 1) / 25 for place, phase in enumerate(phases))
    assert plan.phases(50, 2.0, seed=3) != sorted(plan.phases(50, 2.0, seed=3))  # arrival is in no order


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"scenarios": ["pol"]}, "there is no scenario 'pol'"),
        ({"scenarios": ["nowhere/mine.py"]}, "there is no locustfile nowhere/mine.py"),
        ({"duration": 100.0}, "must be a multiple of --interval"),
        ({"duration": 60.0}, "at least 5"),
        ({"interval": 0.0}, "--interval must be more than 0"),
        ({"time_scale": -1.0}, "--time-scale must be more than 0"),
        ({"time_scale": 5000.0}, "keep it at 50 ms or more"),
        ({"clients": [0]}, "at least 1"),
        ({"clients": [5, 5001]}, r"--clients is at most 5,000 \(it is 5,001\)"),
        ({"updates": [6.0]}, "--updates is at most 1,000 a second after scaling by 180"),
        ({"updates": [201.0], "time_scale": 1.0}, "--updates is at most 200 a second"),
        ({"updates": [float("nan")]}, "--updates at least 0"),
        ({"repeats": 101}, "--repeats is at most 100"),
        ({"time_scale": 1001.0, "interval": 1e5, "duration": 1e6}, "--time-scale is at most 1,000"),
        ({"duration": 9e7, "time_scale": 1.0}, "--duration is at most 86,400 s after scaling"),
        ({"interval": float("nan")}, "--interval must be more than 0, and finite"),
        ({"duration": float("inf")}, "--duration must be more than 0, and finite"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(given, said):
    with pytest.raises(InvalidInput, match=said):
        make(**given)


def test_an_unknown_profile_is_refused():
    with pytest.raises(InvalidInput, match="there are smoke, ci, full"):
        plan.make("quick", seed=1)


def test_the_time_left_follows_what_blocks_have_taken():
    made = make()
    assert plan.seconds_left(made, 9, 90.0, 9) == 0
    assert plan.seconds_left(made, 4, 80.0, 9) > plan.seconds_left(made, 4, 40.0, 9) > 0


# --- what clients must cost --------------------------------------------------------------------------------------


def test_a_quarter_of_an_hour_of_polling_is_90_requests_and_of_the_stream_3():
    poll = scenarios.expected(scenarios.find("poll"), 1, 30)
    stream = scenarios.expected(scenarios.find("ws"), 1, 30)
    assert (sum(poll.requests.values()), poll.connections, poll.streams) == (90, 30, 0)
    assert (sum(stream.requests.values()), stream.connections, stream.streams) == (3, 2, 1)


def test_a_cut_stream_comes_back():
    churn = scenarios.expected(scenarios.find("ws-churn"), 10, 30)
    assert (churn.connections, churn.streams) == (50, 40)


def test_a_kept_connection_is_one():
    assert scenarios.expected(scenarios.find("poll-keepalive"), 10, 30).connections == 10


# --- the workload ------------------------------------------------------------------------------------------------


def test_updates_are_as_many_as_was_asked_for_and_end_in_time():
    jobs = workload.workload(36.0, 5.0, 180.0, seed=1)
    assert len(jobs) * workload.STEPS == 180
    assert all(0 <= job.start < job.report < job.end <= 5.0 for job in jobs)
    assert sum(job.fails for job in jobs) == len(jobs) // workload.FAILS


def test_only_updates_that_every_client_had_time_for_are_followed():
    jobs = workload.workload(36.0, 5.0, 180.0, seed=1)
    followed = workload.looked_at(jobs, 0.5, 5.0)
    assert 0 < len(followed) < len(jobs)
    assert all(jobs[n].start >= 0.75 and jobs[n].end <= 5.0 - 0.75 for n in followed)


def test_a_seed_fits_into_what_readers_can_hold():
    with pytest.raises(InvalidInput, match="--seed is at most"):
        plan.make("smoke", seed=2**63)


def test_with_a_server_that_is_there_no_updates_are_planned_and_none_can_be_asked_for():
    made = plan.make("ci", seed=1, url="http://127.0.0.1:1")
    assert made.updates == (0.0,)
    cells = plan.cells(made)
    assert all(each.foreign and each.updates == 0 for each in cells)
    assert plan.describe(cells[0]).endswith("updates: whatever that server does")
    with pytest.raises(InvalidInput, match="--updates needs a server that the bench starts itself"):
        plan.make("ci", seed=1, url="http://127.0.0.1:1", updates=[1.0])


def test_a_length_reads_as_a_person_says_it():
    assert [plan.length(each) for each in (40, 300, 9000)] == ["40 s", "5 minutes", "2.5 hours"]
