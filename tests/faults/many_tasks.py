"""Handlers of servers that share a database; what they do is written to one file, in the order in which it happens."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import trio

from jobctl import job

MARKS = os.environ.get("MANY_MARKS", os.devnull)


def mark(what: str, ctx: Any) -> None:
    """One line, written whole: what, when (the machine's monotonic clock), job, attempt, process."""
    with open(MARKS, "a", buffering=1) as file:  # noqa: PTH123
        file.write(f"{what} {time.monotonic():.3f} {ctx.job_id} {ctx.attempt} {os.getpid()}\n")


def step(ctx: Any, gate: str) -> None:
    """Take a step twenty times a second, until the file ``gate`` is there; nobody can stop it."""
    while not Path(gate).exists():
        time.sleep(0.05)
        mark("step", ctx)


@job("quick")
async def quick(ctx: Any) -> int:
    return os.getpid()


@job("hold", max_attempts=5)
async def hold(ctx: Any, gate: str) -> int:
    """Take a step twenty times a second, until the file ``gate`` is there."""
    mark("begin", ctx)
    try:
        while not Path(gate).exists():
            await trio.sleep(0.05)
            mark("step", ctx)
    except trio.Cancelled:
        mark("told", ctx)
        raise
    mark("end", ctx)
    return os.getpid()


@job("polite", max_attempts=5)
def polite(ctx: Any) -> None:
    """A function that looks whether it is to stop, and then takes a moment."""
    while not ctx.cancelled:
        time.sleep(0.05)
    time.sleep(0.5)
    mark("end", ctx)


@job("block", max_attempts=5)
async def block(ctx: Any, gate: str) -> int:
    """The same without giving the event loop a turn."""
    return deaf(ctx, gate)


@job("clings", max_attempts=5)
async def clings(ctx: Any, gate: str) -> int:
    """Its clean-up does not give the event loop a turn."""
    mark("begin", ctx)
    try:
        while not Path(gate).exists():
            await trio.sleep(0.05)
    finally:
        step(ctx, gate)
    return os.getpid()


@job("deaf", max_attempts=5)
def deaf(ctx: Any, gate: str) -> int:
    """The same in a thread, which nobody can stop."""
    mark("begin", ctx)
    step(ctx, gate)
    mark("end", ctx)
    return os.getpid()
