"""A gate at which a run waits. Import the fixture by name."""

import threading

import pytest
from engine_kit import Engine

from jobctl import Context


class Gate:
    """Holds threads until a test lets them go; opened at the end whatever happens."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = 0

    def __call__(self, ctx: Context) -> str:
        self.entered += 1
        self.opened.wait(20)
        return "through"


@pytest.fixture
def gate() -> Gate:
    gate = Gate()
    yield gate
    gate.opened.set()


async def begin(e: Engine, name: str, **more: object) -> str:
    job_id = await e.enqueue(name, **more)
    await e.until(job_id, "running")
    return job_id
