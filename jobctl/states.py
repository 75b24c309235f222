"""The states of a job and the only table of how it moves between them.

Every write to a job's status goes through ``after``; the README's diagram is made from the table by ``mermaid``
and a test compares the two. ``release`` is a run given back at shutdown (it does not count as an attempt);
``rescue`` is a run that died with its process (it does).
"""

from enum import StrEnum
from typing import Final

from jobctl.errors import IllegalTransition


class Status(StrEnum):
    """Where a job is. A delayed job is ``PENDING`` with ``scheduledFor`` in the future."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Action(StrEnum):
    """What moves a job."""

    CLAIM = "claim"
    COMPLETE = "complete"
    BACK_OFF = "back_off"
    FAIL = "fail"
    RELEASE = "release"
    CANCEL = "cancel"
    RETRY = "retry"


LIVE: Final = frozenset({Status.PENDING, Status.RUNNING, Status.RETRYING})
TERMINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

TRANSITIONS: Final[dict[tuple[Status, Action], Status]] = {
    (Status.PENDING, Action.CLAIM): Status.RUNNING,
    (Status.RETRYING, Action.CLAIM): Status.RUNNING,
    (Status.RUNNING, Action.COMPLETE): Status.COMPLETED,
    (Status.RUNNING, Action.BACK_OFF): Status.RETRYING,
    (Status.RUNNING, Action.FAIL): Status.FAILED,
    (Status.RUNNING, Action.RELEASE): Status.PENDING,
    (Status.PENDING, Action.CANCEL): Status.CANCELLED,
    (Status.RETRYING, Action.CANCEL): Status.CANCELLED,
    (Status.RUNNING, Action.CANCEL): Status.CANCELLED,
    (Status.FAILED, Action.RETRY): Status.PENDING,
    (Status.CANCELLED, Action.RETRY): Status.PENDING,
    (Status.COMPLETED, Action.RETRY): Status.PENDING,
}

_LABELS: Final = {
    Action.CLAIM: "claimed",
    Action.COMPLETE: "handler returned",
    Action.BACK_OFF: "failed, attempts left",
    Action.FAIL: "attempts used up, or NoRetry",
    Action.RELEASE: "given back at shutdown",
    Action.CANCEL: "cancel",
    Action.RETRY: "retry by hand",
}


def after(status: str, action: Action) -> Status:
    """The status that ``action`` leads to.

    Raises:
        IllegalTransition: the table has no such move.
    """
    to = TRANSITIONS.get((Status(status), action))
    if to is None:
        raise IllegalTransition(action.value, status)
    return to


def mermaid() -> str:
    """The table as a Mermaid state diagram (no trailing newline)."""
    lines = ["stateDiagram-v2", "    [*] --> pending: enqueue"]
    lines += [f"    {a.value} --> {b.value}: {_LABELS[action]}" for (a, action), b in TRANSITIONS.items()]
    lines += [f"    {status.value} --> [*]" for status in Status if status in TERMINAL]
    return "\n".join(lines)
