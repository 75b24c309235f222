"""The client for programs: ``from jobctl.client import Client``; without an event loop, ``enqueue``.

Names are loaded on first use, because the command line shares ``client.api`` and must start without trio.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobctl.client.blocking import enqueue
    from jobctl.client.client import Client
    from jobctl.client.live import Resynced, Watch
    from jobctl.client.logs import LogLines

__all__ = ["Client", "LogLines", "Resynced", "Watch", "enqueue"]

_HOMES = {
    "Client": "jobctl.client.client",
    "LogLines": "jobctl.client.logs",
    "Resynced": "jobctl.client.live",
    "Watch": "jobctl.client.live",
    "enqueue": "jobctl.client.blocking",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'jobctl.client' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(home), name)
