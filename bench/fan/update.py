"""The updates that are sent: of a job as they come, so that everybody sends as many bytes as jobctl has to. Pure."""

from functools import cache
from typing import Final

import msgspec

from jobctl.events import JOB_UPDATE, Event
from jobctl.model import Job, wire_time
from jobctl.protocol import messages
from jobctl.states import Status

QUEUE: Final = "default"
FIRST_SEQ: Final = 1_000_000
"""All numbers have as many digits, and so all updates are of one size."""
_AT: Final = 1_790_000_000_000
_ID: Final = "019f2b7c-5c00-7000-8000-000000000001"


def name_of(n: int) -> str:
    """The name of the jobs that the ``n``th filter is about."""
    return f"resize-{n:03}"


def make(seq: int, name: str = name_of(0)) -> Event:
    """One update: a job that runs."""
    return Event(
        seq=seq, kind=JOB_UPDATE, job_id=_ID, at=_AT, owner="root", name=name, queue=QUEUE, tags=(),
        status_before=Status.PENDING.value, status=Status.RUNNING.value, body=_body(name),
    )  # fmt: skip


@cache
def _body(name: str) -> bytes:
    at = wire_time(_AT)
    job = Job(
        id=_ID, name=name, queue=QUEUE, data={}, status=Status.RUNNING, priority=0, attempts=0, max_attempts=3,
        error=None, result=None, progress=None, created_at=at, started_at=at, completed_at=None, scheduled_for=None,
        processing_by="localhost:4711", created_by="root", unique_key=None, timeout=3600.0, tags=(), version=2,
        cancel_requested=False,
    )  # fmt: skip
    return msgspec.json.encode(job)


def payload() -> str:
    """The text of one."""
    return messages.event_text(make(FIRST_SEQ)).decode()
