"""Run a command's async part: a signal detaches, something may be drawn meanwhile, errors come out as themselves."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import trio

from jobctl.cli.interrupts import Interrupted, heeded

TICK_S: Final = 0.1


def run(main: Callable[[], Awaitable[int]], *, tick: Callable[[], None] | None = None, every: float = TICK_S) -> int:
    """The result of ``main``; ``tick`` is called every so many seconds meanwhile.

    Raises:
        Interrupted: Ctrl-C, SIGTERM or SIGHUP.
    """
    try:
        return trio.run(_run, main, tick, every)
    except BaseExceptionGroup as group:
        raise _first(group) from None


async def _run(main: Callable[[], Awaitable[int]], tick: Callable[[], None] | None, every: float) -> int:
    results: list[int] = []
    stopped_by: list[int] = []
    with _receiver() as signals:
        async with trio.open_nursery() as nursery:

            async def work() -> None:
                results.append(await main())
                nursery.cancel_scope.cancel()

            async def listen() -> None:
                if signals is not None:
                    stopped_by.append(await anext(signals))
                    nursery.cancel_scope.cancel()

            async def draw() -> None:
                while tick is not None:
                    tick()
                    await trio.sleep(every)

            nursery.start_soon(work)
            nursery.start_soon(listen)
            nursery.start_soon(draw)
    if not results:
        raise Interrupted(*stopped_by[:1])
    return results[0]


def _receiver() -> AbstractContextManager[AsyncIterator[int] | None]:
    numbers = heeded()
    return trio.open_signal_receiver(*numbers) if numbers else nullcontext()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
