"""A queue, and a reference beside it: any history of steps, and the promises of the design after each of them."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import PostgresMachine, QueueMachine

PARTS: Final = 6
"""The histories are shared out over so many tests, so that all cores have some."""
STEPS: Final = 40
SQLITE: Final = (300, 10_000)
"""Histories in the short form, and in the long one."""
POSTGRES: Final = (60, 2_000)
"""A step there takes several times as long, and most of what may go wrong in one is the same code."""


def run(machine: type[QueueMachine], histories: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=histories // PARTS + 1,
            stateful_step_count=STEPS,
            deadline=None,  # a step waits for threads, and a busy machine is no failure
            database=None,
            print_blob=True,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("part", range(PARTS))
def test_any_history_keeps_every_promise(part: int, long_form: bool) -> None:
    run(QueueMachine, SQLITE[long_form])


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("part", range(PARTS))
def test_any_history_on_postgresql_keeps_every_promise(part: int, long_form: bool, postgres_url: str) -> None:
    run(type("OnPostgres", (PostgresMachine,), {"url": postgres_url}), POSTGRES[long_form])
