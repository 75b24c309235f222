"""A run is believed only while everything fits: each check is seen to pass, and to fail by the one thing it is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from bench import plan, scenarios, validity
from bench.result import Block, Generator, Server, Traffic, Updates
from bench.scenarios import THREE
from bench.validity import Evidence

CLIENTS, POLLS = 4, 30


def traffic(**changed: Any) -> Traffic:
    polled = Traffic(requests={route: {"200": CLIENTS * POLLS} for route in THREE}, connections=CLIENTS * POLLS)
    return msgspec.structs.replace(polled, **changed)


def good(scenario: str = "poll", **of_block: Any) -> Evidence:
    made = plan.make("smoke", seed=1, clients=[CLIENTS], scenarios=[scenario], repeats=1)
    cell = plan.cells(made)[0]
    counted = of_block.pop("client", traffic())
    server = Server(1.0, 1, 1, 1, of_block.pop("counted", counted))
    block = Block(
        scenario=scenario, repeat=0, order=3, clients=CLIENTS, updates_per_s=36.0, interval=cell.interval,
        seconds=cell.seconds, client=counted, updates=Updates(200, 800, 800, 5, 0), empty=0, server=server,
        generator=Generator(0.2, 0.001),
    )  # fmt: skip
    even = tuple(cell.interval * (n + 0.5) / 800 for n in range(800))
    return Evidence(cell, msgspec.structs.replace(block, **of_block), planned=200, finished=CLIENTS, from_due=even)


def failed(*evidence: Evidence) -> list[str]:
    return [each.id for each in validity.checks(evidence) if not each.passed]


def detail(check: str, *evidence: Evidence) -> str:
    found = next(each for each in validity.checks(evidence) if each.id == check)
    assert found.passed
    return found.detail


def test_a_good_block_passes_every_check():
    assert failed(good()) == []


def test_nothing_measured_is_not_valid():
    assert len(failed()) == len(validity.checks([]))


FEWER = {route: {"200": CLIENTS * POLLS - (route == THREE[0])} for route in THREE}


@pytest.mark.parametrize(
    ("evidence", "check"),
    [
        (good(counted=traffic(requests=FEWER)), "counts-agree"),
        (good(counted=traffic(connections=1)), "counts-agree"),
        (good(counted=traffic(streams=1)), "counts-agree"),
        (good(client=traffic(requests=FEWER)), "counts-expected"),
        (good(client=traffic(connections=1)), "counts-expected"),
        (replace(good(), planned=204), "updates-planned"),
        (good(updates=Updates(200, 800, 799, 0, 1)), "nothing-lost"),
        (good(updates=Updates(200, 800, 800, 0, 0, duplicated=1)), "nothing-lost"),
        (good(updates=Updates(200, 800, 800, 0, 0, out_of_order=1)), "nothing-lost"),
        (replace(good(), errors=("client 1: TimeoutError",)), "no-errors"),
        (replace(good(), finished=CLIENTS - 1), "no-errors"),
        (replace(good(), from_due=tuple(each / 2 for each in good().from_due)), "polls-uniform"),
        (good(generator=Generator(0.71, 0.001)), "generator-headroom"),
        (good(generator=Generator(0.2, 0.1)), "on-schedule"),
        (replace(good(), server_late_p99=0.1), "on-schedule"),
    ],
)
def test_one_thing_that_does_not_fit_fails_its_check_alone(evidence, check):
    assert failed(good(), evidence) == [check]


def test_a_failed_check_names_its_blocks_and_figures():
    found = next(each for each in validity.checks([good(), good(counted=traffic(connections=1))]) if not each.passed)
    assert found.blocks == (3,)
    assert "connections: the clients counted 120, the server 1" in found.detail


def test_who_is_refused_may_miss_updates():
    kept = traffic(connections=CLIENTS)
    assert failed(good("poll-limited", client=kept, updates=Updates(200, 800, 700, 0, 100))) == []


def test_a_custom_scenario_has_no_plan_to_agree_with(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("")
    assert failed(replace(good(str(mine), client=traffic(requests=FEWER)), from_due=())) == []


OWN_SERVER = ("counts-agree", "updates-planned", "nothing-lost", "polls-uniform")


def foreign(each: Evidence) -> Evidence:
    block = msgspec.structs.replace(each.block, server=None, updates=Updates(0, 0, 0, 0, 0))
    return replace(each, block=block, planned=0, from_due=())


def test_of_a_server_that_is_not_ours_nothing_is_said_that_was_not_looked_at():
    away = foreign(good())
    assert failed(away) == []
    for check in OWN_SERVER:
        assert detail(check, away) == "not looked at: only the clients counted, the server is not ours"
    assert detail("on-schedule", away) == (
        "what was planned began on time (p99 of polls and arrivals at most 1.0 ms late in 1 block)"
    )


def test_a_check_counts_only_what_it_looked_at(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("")
    own = replace(good(str(mine)), from_due=())
    once = {route: {"200": CLIENTS} for route in THREE}
    stream = good("ws", client=traffic(requests=once, connections=2 * CLIENTS, streams=CLIENTS))
    assert detail("counts-expected", own, good()).endswith(
        f"({3 * CLIENTS * POLLS:,} requests in 1 block; not looked at in 1 block: "
        "a scenario of your own has no such plan)"
    )
    assert detail("polls-uniform", stream, good()).endswith("(800 stalenesses in 1 block)")
    assert detail("nothing-lost", own, good()).endswith("(800 observations in 1 block)")
    assert detail("updates-planned", own, good()).endswith("(400 updates in 2 blocks)")


def test_too_few_polls_to_tell_are_not_said_to_be_uniform():
    few = replace(good(), from_due=(0.9,) * 5)
    assert detail("polls-uniform", few) == "not looked at: too few stalenesses to tell, it takes 20"


def test_where_nobody_is_there_is_nothing_to_look_at():
    nobody = replace(good(), finished=0, from_due=(), planned=0)
    empty = Traffic({}, 0)
    none = {"scenario": "idle", "clients": 0, "client": empty, "generator": None, "updates": Updates(0, 0, 0, 0, 0)}
    block = msgspec.structs.replace(nobody.block, server=Server(1.0, 1, 1, 1, empty), **none)
    idle = replace(nobody, cell=replace(nobody.cell, scenario=scenarios.find("idle"), clients=0), block=block)
    assert failed(idle) == []
    said = {
        "updates-planned": "no updates were planned",
        "nothing-lost": "no block has clients that are to see every update",
        "no-errors": "no block has clients", "polls-uniform": "no block polls without a limit",
        "generator-headroom": "no block has clients", "on-schedule": "no block has a schedule",
    }  # fmt: skip
    assert {check: detail(check, idle) for check in said} == {k: f"not looked at: {why}" for k, why in said.items()}
