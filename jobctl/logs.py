"""What the server says about itself, on stderr: lines for people on a terminal, JSON for machines otherwise.

Modules use the standard ``logging``; structlog renders it, so that libraries speak the same way.
"""

import logging
import sys
from typing import TextIO

import structlog


def configure(level: str, form: str, *, stream: TextIO | None = None) -> None:
    """Set up the root logger.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        form: ``console``, ``json``, or ``auto`` (console on a terminal).
        stream: Where to; stderr by default.
    """
    out = stream or sys.stderr
    people = form == "console" or (form == "auto" and out.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor]
    if people:
        last = [structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=0)]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
