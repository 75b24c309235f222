"""A durable background-job queue with a live event stream.

Handlers use ``from jobctl import job, NoRetry, RetryAfter``; programs use ``from jobctl.client import Client``.
Names are loaded on first use, so that ``import jobctl`` alone stays cheap.
"""

TYPE_CHECKING = False  # as ``typing`` has it, which takes longer to import than all else here

__version__ = "0.1.0"
__all__ = ["Context", "NoRetry", "RetryAfter", "__version__", "job"]

if TYPE_CHECKING:
    from typing import Any

    from jobctl.engine.context import Context
    from jobctl.engine.registry import job
    from jobctl.errors import NoRetry, RetryAfter

_HOMES = {
    "Context": "jobctl.engine.context",
    "NoRetry": "jobctl.errors",
    "RetryAfter": "jobctl.errors",
    "job": "jobctl.engine.registry",
}


def __getattr__(name: str) -> "Any":
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'jobctl' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(home), name)
