"""What the tests of the page's modules share: scripts run beside them, and jobs as they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Js = Callable[..., Any]
JOB = {
    "id": "0", "name": "noop", "queue": "default", "status": "pending", "attempts": 0, "maxAttempts": 3, "error": None,
    "progress": None, "createdAt": "2026-01-31T12:00:00.000Z", "startedAt": None, "completedAt": None,
    "scheduledFor": None, "createdBy": "root", "tags": [], "version": 1, "cancelRequested": False,
}  # fmt: skip


def at(second: float) -> str:
    return f"2026-01-31T12:{int(second // 60):02}:{second % 60:06.3f}Z"


def job(number: int, **fields: Any) -> dict[str, Any]:
    return JOB | {"id": f"{number:04}", "createdAt": at(number % 3600)} | fields
