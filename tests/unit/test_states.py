"""The transition table, and that the README shows it."""

import itertools
from pathlib import Path

import pytest

from jobctl import states
from jobctl.errors import IllegalTransition
from jobctl.states import LIVE, TERMINAL, TRANSITIONS, Action, Status, after

LEGAL = {
    "pending": {"claim": "running", "cancel": "cancelled"},
    "running": {
        "complete": "completed",
        "back_off": "retrying",
        "fail": "failed",
        "release": "pending",
        "cancel": "cancelled",
    },
    "retrying": {"claim": "running", "cancel": "cancelled"},
    "completed": {"retry": "pending"},
    "failed": {"retry": "pending"},
    "cancelled": {"retry": "pending"},
}


@pytest.mark.parametrize(("status", "action"), list(itertools.product(Status, Action)))
def test_only_the_moves_of_the_design_are_legal(status: Status, action: Action) -> None:
    to = LEGAL[status].get(action)
    if to is not None:
        assert after(status, action) is Status(to)
        assert after(status.value, action) == to
        return
    with pytest.raises(IllegalTransition) as caught:
        after(status, action)
    assert (caught.value.action, caught.value.status, caught.value.code) == (action, status, "illegal_transition")
    assert str(caught.value) == f"cannot {action} a job that is {status}"


def test_every_status_is_either_live_or_terminal() -> None:
    assert set(Status) == LIVE | TERMINAL
    assert not LIVE & TERMINAL


def test_a_terminal_status_is_left_only_by_a_retry() -> None:
    for (status, action), to in TRANSITIONS.items():
        if status in TERMINAL:
            assert (action, to) == (Action.RETRY, Status.PENDING)


def test_every_status_can_be_reached_and_left() -> None:
    reached = {Status.PENDING, *TRANSITIONS.values()}
    assert reached == {status for status, _ in TRANSITIONS} == set(Status)


def test_every_action_has_a_label() -> None:
    assert set(states._LABELS) == set(Action)


def test_the_readme_shows_the_table() -> None:
    readme = Path(__file__).parents[2].joinpath("README.md").read_text("utf-8")
    shown = [block.split("```")[0].strip() for block in readme.split("```mermaid\n")[1:]]
    assert states.mermaid() in shown


def test_an_unknown_status_is_no_status() -> None:
    with pytest.raises(ValueError, match="unknown"):
        after("unknown", Action.CLAIM)
