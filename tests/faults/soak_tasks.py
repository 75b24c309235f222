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
    """The names of all tasks but those that are chance.

    These are tasks that wait for their next job, of which each slot may have one, and the request of whoever asks
    whether this job has ended.
    """
    waiting, names = [trio.lowlevel.current_root_task()], []
    while waiting:
        task = waiting.pop()
        if not task.name.endswith("Hands._work"):
            names.append(task.name)
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    asked = next((name for name in names if name.endswith("HttpConnection._run_app")), None)
    if asked is not None:
        names.remove(asked)
    return sorted(names)
