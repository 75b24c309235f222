"""Handlers of the soak: work of each kind, and one that counts what the server holds."""

import time

import trio

from jobctl import NoRetry, job


@job("work")
async def work(ctx, n=0):
    """A little of everything."""
    ctx.log(f"number {n}")
    ctx.progress(0.5, "half way")
    await trio.sleep(0.01)
    return {"n": n}


@job("thread")
def thread(ctx, n=0):
    """In a thread."""
    time.sleep(0.005)
    return n


@job("fail")
async def fail(ctx, n=0):
    """Fail for good."""
    raise NoRetry("on purpose")


@job("tasks")
async def tasks(ctx):
    """How many tasks there are."""
    return trio.lowlevel.current_statistics().tasks_living
