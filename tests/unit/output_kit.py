"""What the tests of output share: a job, and an update of it."""

from __future__ import annotations

from typing import Any

from jobctl.model import Job, Position
from jobctl.protocol.messages import JobUpdate
from jobctl.states import Status

PLACE = Position("e", 1)


def job(job_id: str, status: str = "pending", version: int = 1, **fields: Any) -> Job:
    values = {
        "id": job_id, "name": "n", "queue": "default", "data": {}, "status": Status(status), "priority": 0,
        "attempts": 0, "max_attempts": 3, "error": None, "result": None, "progress": None,
        "created_at": "2026-01-01T00:00:00.000Z", "started_at": None, "completed_at": None, "scheduled_for": None,
        "processing_by": None, "created_by": "root", "unique_key": None, "timeout": 3600.0, "tags": (),
        "version": version, "cancel_requested": False,
    }  # fmt: skip
    return Job(**{**values, **fields})


def update(seq: int, *args: Any, **fields: Any) -> JobUpdate:
    return JobUpdate(job=job(*args, **fields), seq=seq, timestamp="2026-01-01T00:00:00.000Z")
