"""Handlers for the dashboard's tests and pictures: quick ones, ones that take their time, and ones that go wrong."""

import datetime as dt
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import trio

from jobctl import NoRetry, job

HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script> "
    "\u202egnp.exe\u202c \u200b\x1b[31mred\x1b[0m \x00 </pre></textarea> {{7*7}} ${7*7} &lt;b&gt; " + "long" * 2500
)


@job("noop")
async def noop(ctx: Any, **data: Any) -> None: ...


@job("thumbnail")
async def thumbnail(ctx: Any, path: str, width: int = 320, steps: int = 6, pause: float = 0.2) -> dict[str, Any]:
    ctx.log(f"reading {path}")
    for step in range(steps):
        ctx.progress(step / steps, f"resizing {path}")
        await trio.sleep(pause)
        ctx.log(f"pass {step + 1} of {steps}: {width} px")
    ctx.progress(1.0, "done")
    return {"path": path, "width": width, "bytes": 18_332}


@job("import-orders", max_attempts=3)
async def import_orders(ctx: Any, shop: str, pause: float = 0.2) -> dict[str, int]:
    ctx.progress(0.2, "connecting")
    ctx.log(f"GET https://{shop}.example/orders")
    await trio.sleep(pause)
    if ctx.attempt < 2:
        raise ConnectionError(f"{shop}.example: connection reset by peer")
    ctx.log("412 orders")
    return {"orders": 412}


@job("send-invoice")
async def send_invoice(ctx: Any, order: int, to: str) -> None:
    await trio.sleep(0.05)
    raise NoRetry(f"550 5.1.1 <{to}>: recipient address rejected: user unknown")


@job("report")
async def report(
    ctx: Any,
    day: dt.date,
    pages: Annotated[int, msgspec.Meta(ge=1, le=50)] = 10,
    layout: Literal["wide", "tall"] = "wide",
    to: list[str] | None = None,
    draft: bool = False,
) -> dict[str, Any]:
    return {"pages": pages, "layout": layout}


@job("hold")
async def hold(ctx: Any, gate: str) -> str:
    """Runs until the file ``gate`` is there."""
    ctx.log("waiting")
    while not Path(gate).exists():
        await trio.sleep(0.02)
    return "let go"


@job("large")
async def large(ctx: Any, gate: str, size: int, more: str = "") -> str:
    """A result of that many characters, as soon as the file ``gate`` is there."""
    while not Path(gate).exists():
        await trio.sleep(0.02)
    return "r" * size


@job("chatter")
async def chatter(ctx: Any, updates: int, seconds: float) -> int:
    """So many progress updates as evenly as can be, by jobs that run at the same time."""
    for n in range(updates):
        ctx.progress(n / updates, f"{n} of {updates}")
        await trio.sleep(seconds / updates)
    return updates


@job("hostile")
async def hostile(ctx: Any, **data: Any) -> None:
    ctx.progress(0.5, HOSTILE[:1000])
    ctx.log(HOSTILE)
    raise NoRetry(HOSTILE)


