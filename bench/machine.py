"""The machine that a run is made on: what it is, and which of its cores do what."""

import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil

from bench.result import Environment
from jobctl import __version__

_LIBRARIES: Final = (
    "apsw", "gevent", "h11", "hdrhistogram", "hypercorn", "locust", "msgspec", "psutil", "quart", "quart-trio", "trio",
    "wsproto",
)  # fmt: skip


def split_cores() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Cores for the server (one, as it is one process whose event loop is one thread) and for the load.

    Both empty where the system does not bind processes to cores, or has but one for us.
    """
    if not hasattr(os, "sched_getaffinity"):
        return (), ()
    cores = sorted(os.sched_getaffinity(0))
    return ((), ()) if len(cores) < 2 else ((cores[0],), tuple(cores[1:]))


def environment(server_cpus: Sequence[int], load_cpus: Sequence[int]) -> Environment:
    """What a reader needs to compare."""
    return Environment(
        jobctl=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor(),
        cpus=os.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        versions={name: found for name in _LIBRARIES if (found := _version(name))},
        server_cpus=tuple(server_cpus),
        load_cpus=tuple(load_cpus),
        durability="full",
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
