"""``enqueue`` for programs without an event loop: a web application, a script, a cron job."""

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from jobctl.client import api
from jobctl.client.address import DEFAULT_URL, Address
from jobctl.client.session import Session
from jobctl.errors import SignInFailed

PATIENCE_S: Final = 10.0


def enqueue(
    name: str,
    data: Mapping[str, Any] | None = None,
    *,
    url: str | None = None,
    token: str | Callable[[], str] | None = None,
    queue: str | None = None,
    priority: int | None = None,
    delay: float | None = None,
    scheduled_for: datetime | str | None = None,
    max_attempts: int | None = None,
    timeout: float | None = None,
    unique_key: str | None = None,
    tags: Iterable[str] | None = None,
    idempotency_key: str | None = None,
    patience: float = PATIENCE_S,
) -> str:
    """Enqueue a job and return its id.

    One HTTP request. It carries an idempotency key, so where no answer comes it is sent again, for ``patience``
    seconds in all, and the job is made once whatever happens on the way. It imports no event loop, and may be called
    from any thread.

    Args:
        name: The handler.
        data: Its fields.
        url: The server; else ``JOBCTL_URL``, else ``http://127.0.0.1:8000``.
        token: A JWT, or a function that gives a fresh one; else ``JOBCTL_TOKEN``.
        queue: ``default`` unless named.
        priority: Higher runs first.
        delay: Seconds before it may start.
        scheduled_for: When it may start, a ``datetime`` with a zone or RFC 3339.
        max_attempts: Runs in all.
        timeout: Seconds for one run of the job.
        unique_key: While a job of yours with it is live, that one's id is returned.
        tags: At most 20.
        idempotency_key: Yours, where the caller itself may be repeated (a webhook, a message); else a fresh one.
        patience: Seconds that this call may take, about.

    Raises:
        Unreachable: no answer. The job may have been made: the same call with the same ``idempotency_key`` tells.
        SignInFailed: there is no token, or the server refuses it.
        ApiError: the server refuses the job.
        InvalidInput: this cannot be sent at all.
    """
    fields = api.job_fields(
        name, data, queue=queue, priority=priority, delay=delay, scheduled_for=scheduled_for,
        max_attempts=max_attempts, timeout=timeout, unique_key=unique_key, tags=list(tags) if tags else None,
    )  # fmt: skip
    call = api.enqueue(fields, key=idempotency_key)
    address = Address.parse(url or os.environ.get("JOBCTL_URL") or DEFAULT_URL)
    with Session(address, _giver(token), patience=patience, timeout=patience, from_start=True) as session:
        return session.get(call).id


def _giver(token: str | Callable[[], str] | None) -> Callable[[], str]:
    if callable(token):
        return token
    given = (token or os.environ.get("JOBCTL_TOKEN") or "").strip()
    if not given:
        raise SignInFailed("no token: give enqueue(token=...) one, or set JOBCTL_TOKEN (`jobctl token` makes one)")
    return lambda: given
