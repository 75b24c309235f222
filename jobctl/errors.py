"""Every error that jobctl raises on purpose.

    JobctlError
    ├── InvalidInput            what was asked for cannot be understood
    │   ├── UnknownHandler      no handler of that name on this server
    │   ├── InvalidCursor       a page cursor from another list, or not one of ours
    │   └── TooLarge            a limit on size or count is exceeded
    ├── Unauthorized            no token, or one that is not valid (one answer for all causes)
    │   └── KeysUnknown         an external issuer's, whose key has to be fetched first
    ├── Forbidden               signed in, but not allowed
    ├── NotFound                absent, or somebody else's (the two are alike on purpose)
    ├── Conflict                the state does not allow it
    │   ├── IllegalTransition   the job's status does not allow the action
    │   ├── UniqueKeyLive       another live job holds the unique key
    │   └── IdempotencyMismatch the key was used for another request
    ├── RateLimited             too many requests; carries when to come back
    ├── StoreUnavailable        the database cannot take the write now; nothing was acknowledged
    ├── LeaseLost               this process was out of touch for too long; others have taken its jobs over
    ├── DatabaseDamaged         its pages are broken: a copy of it would be too
    ├── StartupError            the server cannot start as it was asked to
    │   ├── ConfigError         a setting is unknown or wrong
    │   ├── DatabaseInUse       another server holds the file
    │   ├── NotADatabase        the file is something else, or a newer jobctl's
    │   └── HandlersFailed      the handlers' module cannot be imported
    └── ClientError             seen from a client
        ├── Unreachable         no connection to the server
        │   └── Unanswered      it takes connections, but no answer came in time
        ├── SignInFailed        the server refuses the token
        ├── ApiError            the server answered with a problem; carries status and code
        └── WaitTimeout         waited as long as was asked
    NoRetry, RetryAfter         raised by handlers; how a run wishes to end

``code`` is stable and part of the API. What a code means in each world is one table there: HTTP status in
``web/problems.py``, close code in ``protocol/close_codes.py``, exit code in ``cli/output.py``.
"""

from collections.abc import Sequence
from typing import Any, ClassVar


class JobctlError(Exception):
    """Base of all errors raised on purpose. ``str(error)`` is one line for a person."""

    code: ClassVar[str] = "internal"


class InvalidInput(JobctlError):
    """What was asked for cannot be understood; ``field`` names the culprit (a JSON path without ``$.``)."""

    code = "invalid"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class UnknownHandler(InvalidInput):
    """No handler of that name here; ``known`` lists the names that there are."""

    code = "unknown_handler"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        names = ", ".join(known) if known else "none (start the server with --app or [commands])"
        super().__init__(f"no handler named {name!r}; this server knows: {names}", field="name")
        self.known = tuple(known)


class InvalidCursor(InvalidInput):
    """A page cursor that this list did not hand out."""

    code = "invalid_cursor"

    def __init__(self) -> None:
        super().__init__("the cursor is not one of this list; start again without it", field="cursor")


class TooLarge(InvalidInput):
    """A limit on size or count is exceeded."""

    code = "too_large"


class Unauthorized(JobctlError):
    """No token or not a valid one. One message for every cause, so that it is no oracle."""

    code = "unauthorized"

    def __init__(self, message: str = "Invalid or expired token") -> None:
        super().__init__(message)


class KeysUnknown(Unauthorized):
    """The token's key is not here, but may be after the issuer was asked: fetch keys and try once more."""


class Forbidden(JobctlError):
    """Signed in, but the role or the origin does not allow this."""

    code = "forbidden"


class NotFound(JobctlError):
    """Absent, or somebody else's."""

    code = "not_found"


class Conflict(JobctlError):
    """The present state does not allow it."""

    code = "conflict"


class IllegalTransition(Conflict):
    """The job's status does not allow the action."""

    code = "illegal_transition"

    def __init__(self, action: str, status: str) -> None:
        super().__init__(f"cannot {action} a job that is {status}")
        self.action, self.status = action, status


class UniqueKeyLive(Conflict):
    """Another live job of the same owner holds the unique key."""

    code = "unique_key_live"


class IdempotencyMismatch(Conflict):
    """The ``Idempotency-Key`` was used for a different request within the last 24 h."""

    code = "idempotency_mismatch"


class RateLimited(JobctlError):
    """Too many requests; ``retry_after`` is in seconds."""

    code = "rate_limited"

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many requests; try again in {retry_after:.0f} s")
        self.retry_after = retry_after


class StoreUnavailable(JobctlError):
    """The database could not take the write; nothing of it was kept, and the caller may try again."""

    code = "store_unavailable"


class LeaseLost(JobctlError):
    """This process was not heard of in time, so that others have taken over what it ran; it must not go on with it."""

    code = "lease_lost"


class DatabaseDamaged(JobctlError):
    """The database's pages are broken: a copy of it would be as well."""

    code = "database_damaged"


class StartupError(JobctlError):
    """The server cannot start as it was asked to; the message says what to do."""

    code = "startup"


class ConfigError(StartupError):
    """A setting is unknown or has a wrong value."""

    code = "config"


class DatabaseInUse(StartupError):
    """Another server owns the database file."""

    code = "database_in_use"


class NotADatabase(StartupError):
    """The file is not a jobctl database, or one of a newer version."""

    code = "not_a_database"


class HandlersFailed(StartupError):
    """The module named by ``--app`` cannot be imported."""

    code = "handlers_failed"


class ClientError(JobctlError):
    """Base of what a client sees."""

    code = "client"


class Unreachable(ClientError):
    """The server cannot be reached."""

    code = "unreachable"


class Unanswered(Unreachable):
    """Somebody takes connections there, but no answer came in time."""


class SignInFailed(ClientError):
    """The server refuses the token."""

    code = "sign_in_failed"


class WaitTimeout(ClientError):
    """Waited as long as was asked, and it was not over."""

    code = "wait_timeout"


class ApiError(ClientError):
    """The server answered with a problem document; ``problem`` is all of it."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or f"HTTP {status}"))
        self.status = status
        self.problem = problem
        self.problem_code = str(problem.get("code", "unknown"))


class NoRetry(Exception):
    """Raised by a handler: this job has failed for good, however many attempts are left."""


class RetryAfter(Exception):
    """Raised by a handler: try again in ``seconds``; counts as an attempt.

    Args:
        seconds: How long to wait, >= 0.
        reason: What to show as the job's error meanwhile.
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        super().__init__(reason or f"retry after {seconds:g} s")
        self.seconds = max(0.0, float(seconds))
