"""What the server says about itself, on stderr: lines for people on a terminal, JSON for machines otherwise.

Modules use the standard ``logging``; structlog renders it, so that libraries speak the same way, and handlers that log
by ``structlog.get_logger()``. What is said while a request is answered or a job runs carries its id (``request``,
``running``). Whatever a line is made of, a secret that was named to ``hide``, or anything that looks like a token, does
not leave here.
"""

import json
import logging
import os
import re
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Final, TextIO

import structlog

request: Final[ContextVar[str | None]] = ContextVar("jobctl_request", default=None)
"""The id of the request that is being answered."""
running: Final[ContextVar[tuple[str, str] | None]] = ContextVar("jobctl_running", default=None)
"""Name and id of the job that is being run; tasks and threads that a handler starts inherit it."""

_HIDDEN: Final = "[hidden]"
_TOKEN: Final = re.compile(
    r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}|(?i:\bbearer )\s*[^\s\"'\\]{8,}"
)
"""A JWT, or what an ``Authorization`` header holds."""
_MIN_SECRET: Final = 8
"""What is shorter cannot be told from ordinary text."""
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
"""What could move the cursor of a terminal or turn its text around; line breaks and tabs are for tracebacks."""

_secrets: list[str] = []
"""The longest first: one may begin like another."""
_Event = MutableMapping[str, Any]


def hide(*secrets: str) -> None:
    """Never let any of ``secrets`` be logged, in whatever line it turns up."""
    found = set(_secrets)
    for secret in secrets:
        if len(secret) >= _MIN_SECRET:
            for form in (secret, repr(secret)[1:-1], repr(secret.encode())[2:-1]):
                found.update((form, json.dumps(form)[1:-1]))
    _secrets[:] = sorted(found, key=len, reverse=True)


def configure(level: str, form: str, *, stream: TextIO | None = None) -> None:
    """Set up the root logger; may be called again.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        form: ``console``, ``json``, or ``auto`` (console on a terminal).
        stream: Where to; stderr by default.
    """
    out = stream or sys.stderr
    colours = out.isatty() and not os.environ.get("NO_COLOR")
    people = form == "console" or (form == "auto" and out.isatty())
    last: list[structlog.typing.Processor]
    if people:
        # structlog's default shows, where rich is installed, the local variables of every frame.
        traces = structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0, exception_formatter=traces)
        last = [structlog.processors.format_exc_info, _escape, console]
    else:
        last = [structlog.processors.format_exc_info, _json]
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        (structlog.stdlib.ProcessorFormatter if people else _Lines)(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *_COMMON],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last, _scrub],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if not structlog.is_configured():  # else by us already, or by the handlers' program for itself
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.PositionalArgumentsFormatter(),
                *_COMMON,
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )


class _Lines(structlog.stdlib.ProcessorFormatter):
    """JSON. A plain line of ``logging``, as there is one a request, does without structlog's detours: half the time."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info or record.stack_info or not isinstance(record.msg, str):
            return super().format(record)
        event: _Event = {"event": record.getMessage()}
        event.update((name, value) for name, value in record.__dict__.items() if name not in _STANDARD)
        for processor in _COMMON:
            processor(record, record.levelname.lower(), event)
        return str(_scrub(None, "", _json(None, "", event)))


_json: Final = structlog.processors.JSONRenderer()
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__)
"""What every record has; the rest is ``extra``."""


def _bind(_: Any, __: str, event: _Event) -> _Event:
    if (asked := request.get()) is not None:
        event.setdefault("request_id", asked)
    if (job := running.get()) is not None:
        event.setdefault("job_name", job[0])
        event.setdefault("job_id", job[1])
    return event


_COMMON: Final[tuple[structlog.typing.Processor, ...]] = (
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _bind,
)
"""For lines of ``logging`` and of ``structlog.get_logger()`` alike."""


def _escape(_: Any, __: str, event: _Event) -> _Event:
    for key, value in event.items():
        if isinstance(value, str) and _UNSAFE.search(value):
            event[key] = _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], value)
    return event


def _scrub(_: Any, __: str, line: Any) -> Any:
    text = str(line)
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, _HIDDEN)
    return _TOKEN.sub(_HIDDEN, text)
