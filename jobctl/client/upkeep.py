"""Schedules and pruning over the HTTP API, as pure functions; see ``client.api``."""

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from jobctl.client.api import Call, encode
from jobctl.errors import InvalidInput
from jobctl.model import Job, Wire
from jobctl.schedule import Schedule, ScheduleChange, ScheduleList

_PATH: Final = "/api/jobs/schedules"
_JSON: Final = (("Content-Type", "application/json"),)


class PruneResult(Wire, frozen=True):
    """How many jobs are gone, or would be; with ``more`` there are others left to remove by asking again."""

    count: int
    by_status: dict[str, int]
    finished_before: str
    dry_run: bool
    more: bool


def schedules() -> Call[ScheduleList]:
    """All schedules."""
    return Call(method="GET", path=_PATH, kind=ScheduleList, repeatable=True)


def schedule(name: str) -> Call[Schedule]:
    """One schedule, whole."""
    return Call(method="GET", path=_one(name), kind=Schedule, repeatable=True)


def add_schedule(name: str, fields: Mapping[str, Any]) -> Call[Schedule]:
    """A new schedule; ``fields`` are those of ``ScheduleChange``, in camelCase."""
    return Call(method="POST", path=_PATH, kind=Schedule, body=encode({"name": name, **fields}), headers=_JSON)


def replace_schedule(name: str, fields: Mapping[str, Any]) -> Call[Schedule]:
    """Replace all that a schedule says."""
    return Call(method="PUT", path=_one(name), kind=Schedule, body=encode(fields), headers=_JSON, repeatable=True)


def remove_schedule(name: str) -> Call[Any]:
    """Remove a schedule."""
    return Call(method="DELETE", path=_one(name), kind=Any)


def enable_schedule(name: str) -> Call[Schedule]:
    """Let a schedule run."""
    return Call(method="POST", path=f"{_one(name)}/enable", kind=Schedule, repeatable=True)


def disable_schedule(name: str) -> Call[Schedule]:
    """Let a schedule rest."""
    return Call(method="POST", path=f"{_one(name)}/disable", kind=Schedule, repeatable=True)


def trigger_schedule(name: str) -> Call[Job]:
    """Enqueue a schedule's job now."""
    return Call(method="POST", path=f"{_one(name)}/trigger", kind=Job)


def said(schedule: Schedule) -> dict[str, Any]:
    """What a schedule says, as the fields of ``replace_schedule``."""
    names = zip(ScheduleChange.__struct_fields__, ScheduleChange.__struct_encode_fields__, strict=True)
    return {wire: getattr(schedule, field) for field, wire in names}


def prune(older_than: float, *, statuses: Iterable[str] = (), dry_run: bool = False) -> Call[PruneResult]:
    """Remove jobs that ended more than ``older_than`` seconds ago, or count them; of all ends unless some are named."""
    fields = {"olderThan": older_than, "statuses": list(statuses), "dryRun": dry_run}
    body = encode({name: value for name, value in fields.items() if value != []})
    return Call(
        method="POST", path="/api/admin/prune", kind=PruneResult, body=body, headers=_JSON, repeatable=dry_run
    )


def _one(name: str) -> str:
    if not name:
        raise InvalidInput("a schedule has a name", field="name")
    return f"{_PATH}/{quote(name, safe='')}"
