"""What the bench's jobs do in the server: wait for their times, report once, and end. ``--app bench.handlers``."""

import trio

from bench.clock import seconds_until
from bench.names import JOB, SEED
from jobctl import NoRetry, job
from jobctl.engine.context import Context


@job(JOB, timeout=3600, max_attempts=1)
async def bench(ctx: Context, n: int, report_at: int, end_at: int, fails: bool, note: str) -> dict[str, int]:
    """One job of the workload. ``report_at`` and ``end_at`` are CLOCK_MONOTONIC, ns."""
    await trio.sleep(seconds_until(report_at))
    ctx.progress(0.5, "half way")
    await trio.sleep(seconds_until(end_at))
    if fails:
        raise NoRetry("this one was to fail")
    return {"n": n}


@job(SEED, max_attempts=1)
async def seed(ctx: Context, n: int, note: str) -> dict[str, int]:
    """One of the jobs that are there before anybody looks."""
    return {"n": n}
