"""Handlers that no server deserves."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import trio

from jobctl import job


@job("noop")
async def noop(ctx):
    """The one that is as it should be."""
    return "done"


@job("exits")
def exits(ctx):
    """End the whole process, as a crash in a C extension does."""
    os._exit(3)


@job("blocks")
async def blocks(ctx, seconds=1.0):
    """Hold the event loop."""
    time.sleep(seconds)  # noqa: ASYNC251 - this is the point


@job("eats")
def eats(ctx, mebibytes=4096):
    """Ask for more memory than there is."""
    return len(bytearray(mebibytes * 1024**2))


@job("hoards")
def hoards(ctx, mebibytes=8192):
    """Take it piece by piece, so that others, too, ask when there is none left."""
    return len([bytearray(1024**2) for _ in range(mebibytes)])


@job("recurses")
async def recurses(ctx):
    """Never come back."""
    return await recurses(ctx)


@job("sinks")
def sinks(ctx):
    """The same, in a thread."""
    return sinks(ctx)


@job("nests")
def nests(ctx, depth=100_000):
    """Return what is too deep to be written."""
    found = []
    for _ in range(depth):
        found = [found]
    return found


@job("huge")
def huge(ctx):
    """Return 100 MB."""
    return "x" * 100_000_000


@job("chats")
async def chats(ctx):
    """Print 12 MB."""
    for n in range(1200):
        for _ in range(10):
            ctx.log("x" * 1000)
        if n % 20 == 0:
            await trio.lowlevel.checkpoint()


@job("chats-in-a-thread")
def chats_in_a_thread(ctx):
    """Print 12 MB, and wait where the database cannot keep up."""
    for _ in range(12_000):
        ctx.log("x" * 1000)


@job("pool")
def pool(ctx):
    """Wait for a thread that the interpreter waits for at its end."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(time.sleep, 3600).result()


@job("leaks")
def leaks(ctx, threads=20):
    """Leave threads behind."""
    for _ in range(threads):
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()


@job("forks")
def forks(ctx, seconds=60.0):
    """Leave a copy of the server behind."""
    child = os.fork()
    if not child:
        time.sleep(seconds)
        os._exit(0)
    return child
