"""A queue, and a reference beside it: any history of steps, and the promises of the design after each of them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import QueueMachine

PARTS = 6
"""The histories are shared out over so many tests, so that all cores have some."""
STEPS = 40
PHASES = (Phase.generate,)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("part", range(PARTS))
def test_any_history_keeps_every_promise(part: int, long_form: bool) -> None:
    histories = (10_000 if long_form else 300) // PARTS + 1
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=histories,
            stateful_step_count=STEPS,
            deadline=None,  # a step waits for threads, and a busy machine is no failure
            database=None,
            print_blob=True,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )
