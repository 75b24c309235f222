"""A run is believed only while everything fits: each check is seen to pass, and to fail by the one thing it is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from bench import plan, validity
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
    return validity.failing(validity.checks(evidence))


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
