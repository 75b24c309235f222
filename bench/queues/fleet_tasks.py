"""What the processes of ``fleet`` can run: ``jobctl serve --app bench.queues.fleet_tasks``."""

import trio

from bench.queues import peer
from bench.queues.order import HOLD, MARK
from jobctl import job
from jobctl.engine.context import Context


@job(MARK)
async def mark(ctx: Context, n: int) -> None:
    """Note that it was started, as the peers' handlers do."""
    peer.mark(n)


@job(HOLD)
async def hold(ctx: Context, n: int) -> None:
    """Run until it is told to stop, and note when that was."""
    while not ctx.cancelled:  # noqa: ASYNC110 - that is how a handler looks
        await trio.sleep(0.002)
    peer.mark(n)
