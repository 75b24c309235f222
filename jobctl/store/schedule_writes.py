"""The writes of schedules, each a function of an open transaction."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from jobctl.errors import Conflict, NotFound, TooLarge
from jobctl.model import Job, NewJob
from jobctl.schedule import MAX_SCHEDULES, ScheduleSpec, ScheduleState, Source
from jobctl.store.enqueue import enqueue
from jobctl.store.rows import dump_tags, load_tags
from jobctl.store.schedules import Firing, Planned, Synced
from jobctl.store.transaction import Tx

TICKS_KEPT: Final = 1000
"""Per schedule: a clock set back by less than so many ticks finds each of them noted by itself."""


def state_of(row: Sequence[Any]) -> ScheduleState:
    """A schedule from its row, the columns in order."""
    spec = ScheduleSpec(
        name=row[0], cron=row[1], timezone=row[2], job_name=row[3], data=row[4], queue=row[5], priority=row[6],
        max_attempts=row[7], timeout=row[8], tags=load_tags(row[9]), missed=row[10], enabled=bool(row[11]),
    )  # fmt: skip
    return ScheduleState(
        spec=spec, source=row[12], created_by=row[13], created_at=row[14], updated_at=row[15], version=row[16],
        next_run=row[17], last_run=row[18], last_job=row[19], run_count=row[20], error=row[21],
    )  # fmt: skip


def _row(tx: Tx, name: str) -> Any:
    return tx.one("schedule_locked", name)


def _find(tx: Tx, name: str) -> ScheduleState:
    row = _row(tx, name)
    if row is None:
        raise NotFound("there is no such schedule")
    return state_of(row)


def _find_own(tx: Tx, name: str) -> ScheduleState:
    """One that may be changed through the API."""
    state = _find(tx, name)
    if state.source == "config":
        raise Conflict(
            f"the schedule {name} belongs to the configuration; change [schedules.{name}] there, and send the server "
            "SIGHUP or start it again"
        )
    return state


def _said(spec: ScheduleSpec, next_run: int | None) -> tuple[object, ...]:
    return (
        spec.cron, spec.timezone, spec.job_name, spec.data, spec.queue, spec.priority, spec.max_attempts, spec.timeout,
        dump_tags(spec.tags), spec.missed, int(spec.enabled), next_run if spec.enabled else None,
    )  # fmt: skip


def _insert(tx: Tx, spec: ScheduleSpec, next_run: int | None, source: Source, created_by: str) -> None:
    values = (*_said(spec, next_run), source, created_by, tx.now, tx.now, spec.name)
    tx.run("schedule_insert", *values)
    tx.schedules = True


def _update(tx: Tx, before: ScheduleState, spec: ScheduleSpec, next_run: int | None) -> None:
    old = before.spec
    if (old.cron, old.timezone, old.enabled) == (spec.cron, spec.timezone, spec.enabled):
        next_run = before.next_run  # it may be due already
    tx.run("schedule_update", *_said(spec, next_run), tx.now, spec.name)
    tx.schedules = True


def _delete(tx: Tx, name: str) -> None:
    tx.run("schedule_delete", name)
    tx.run("schedule_delete_ticks", name)
    tx.schedules = True


def add(tx: Tx, spec: ScheduleSpec, created_by: str, next_run: int | None) -> ScheduleState:
    """A new schedule of the API."""
    tx.alone("lock_schedules")
    if _row(tx, spec.name) is not None:
        raise Conflict(f"there is a schedule {spec.name} already")
    if tx.one("schedule_count")[0] >= MAX_SCHEDULES:
        raise TooLarge(f"there are {MAX_SCHEDULES} schedules already", field="name")
    _insert(tx, spec, next_run, "api", created_by)
    return _find(tx, spec.name)


def replace(tx: Tx, spec: ScheduleSpec, next_run: int | None) -> ScheduleState:
    """Change a schedule of the API."""
    _update(tx, _find_own(tx, spec.name), spec, next_run)
    return _find(tx, spec.name)


def set_enabled(tx: Tx, name: str, enabled: bool, next_run: int | None) -> ScheduleState:
    """Enable or disable a schedule of the API."""
    before = _find_own(tx, name)
    if before.spec.enabled == enabled:
        return before
    _update(tx, before, msgspec.structs.replace(before.spec, enabled=enabled), next_run)
    return _find(tx, name)


def remove(tx: Tx, name: str) -> None:
    """Remove a schedule of the API."""
    _find_own(tx, name)
    _delete(tx, name)


def sync(tx: Tx, planned: Sequence[Planned], untouched: Collection[str]) -> Synced:
    """Make the configuration's schedules be these; those of the API, and ``untouched``, stay as they are."""
    tx.alone("lock_schedules")
    there = {state.spec.name: state for state in map(state_of, tx.all("schedule_list"))}
    added, changed, kept = [], [], []
    for spec, next_run in planned:
        before = there.pop(spec.name, None)
        if before is None:
            _insert(tx, spec, next_run, "config", "config")
            added.append(spec.name)
        elif before.source != "config":
            kept.append(spec.name)
        elif before.spec != spec:
            _update(tx, before, spec, next_run)
            changed.append(spec.name)
    gone = [name for name, state in there.items() if state.source == "config" and name not in untouched]
    for name in gone:
        _delete(tx, name)
    return Synced(tuple(added), tuple(changed), tuple(gone), tuple(kept))


def fire(tx: Tx, firings: Sequence[Firing]) -> tuple[str | None, ...]:
    """Carry out plans, in their order; those that their schedule has moved on from change nothing.

    Their schedules are locked first, by name as in all processes, so that none waits for one that waits for it.
    """
    if len(firings) > 1:
        for name in sorted({firing.name for firing in firings}):
            _row(tx, name)
    return tuple(_fire(tx, firing) for firing in firings)


def _fire(tx: Tx, firing: Firing) -> str | None:
    row = _row(tx, firing.name)
    if row is None:
        return None
    state, settled = state_of(row), row[-1]
    if (state.version, state.next_run) != (firing.version, firing.expected):
        return None
    tx.run("schedule_set_next_run", firing.next_run, firing.name)
    tx.schedules = True
    tick, error = firing.tick, firing.error
    if error is None and tick is not None and firing.job is not None and not _had_job(tx, firing.name, tick, settled):
        try:
            job = _enqueue(tx, state, firing.job)
        except TooLarge as refused:  # the queue cannot be made; raised before anything is written
            error = str(refused)
        else:
            tx.run("schedule_insert_tick", firing.name, tick)
            _forget_ticks(tx, firing.name)
            return job.id
    if error is not None:
        tx.run("schedule_set_error", error, firing.name)
    return None


def _had_job(tx: Tx, name: str, tick: int, settled: int) -> bool:
    return tick <= settled or tx.one("schedule_had_tick", name, tick) is not None


def _forget_ticks(tx: Tx, name: str) -> None:
    """Keep the latest ticks; what is forgotten is settled.

    The lowest go first, not the oldest: after a clock that was ahead is put right, what it had run in the future stays
    noted, and does not settle the time until then.
    """
    old = tx.one("schedule_old_ticks", name, TICKS_KEPT)
    if old is not None:
        tx.run("schedule_forget_ticks", name, old[0])
        tx.run("schedule_settle", old[0], name)


def _enqueue(tx: Tx, state: ScheduleState, job: NewJob) -> Job:
    made = enqueue(tx, [job], state.owner, None).job
    assert made is not None  # noqa: S101 - one was asked for
    tx.run("schedule_ran", tx.now, made.id, state.spec.name)
    tx.schedules = True
    return made


def trigger(tx: Tx, name: str, job: NewJob) -> Job:
    """Enqueue a job of a schedule by hand."""
    return _enqueue(tx, _find(tx, name), job)
