"""``python -m bench.queue``: how fast the queue is, beside others, every commit of it on disk.

Contestants take turns, each in processes of its own and with a fresh database; jobctl has one who watches the stream.
A job notes its number and the time in a file, everybody's alike. "Run" is from a full queue until the last job has
ended and been told of, after some that do not count; of peers from when a fifth has started, in which they warm up, to
the last start. Enqueueing is not counted. A machine on which a message between two processes is dear, as virtual ones
are, favours those that need none: jobctl and Huey. Not all promise the same; what each does is in the notes. With
``--store postgres`` it is jobctl on PostgreSQL beside the peers that use it, all on one server with its defaults.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final

from bench import npm
from bench.processes import Failed
from bench.queues import contestants, places, turns
from bench.queues.contestants import PEERS
from bench.queues.peer import Measured
from bench.queues.places import ON_POSTGRES, POSTGRES, PROMISE, SQLITE, Place, Statements
from bench.queues.turns import Calls, Latency, Rate, Served
from bench.side_by_side import (
    ROUNDS,
    Asked,
    Report,
    Run,
    progress,
    ratio,
    show,
    spread,
    take_turns,
)

OURS: Final = "jobctl"
QUART: Final = "quart on hypercorn, empty JSON POST"
CONCURRENCY: Final = (1, 20, 100, 500)
MAIN: Final = 100
"""The concurrency that is compared with peers."""
SIZES: Final = {SQLITE: "1000,100000,1000000", POSTGRES: "1000,100000,10000000"}
WAITING: Final = "with 500,000 delayed and 500,000 paused"
HALF: Final = 500_000
AGAINST: Final = {
    SQLITE: (("huey", 4.5), ("pgqueuer", 1.0), ("bullmq", 1.0)),
    POSTGRES: (("pgqueuer", 1.0), ("procrastinate", 10.0)),
}
"""How much faster than whom."""
JOBS: Final = 20_000
REQUESTS: Final = 3_000
PROBES: Final = 150
GROWN_PROBES: Final = 50
_LATENCY: Final = "latency"
_CALLS: Final = "calls"
Turn = Rate | Served | Calls | Latency | Measured | float | Statements


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was found."""
    options = _parser().parse_args(argv)
    options.sizes = SIZES[options.store] if options.sizes is None else options.sizes
    settings = {
        "store": options.store,
        "rounds": options.rounds,
        "jobs": options.jobs,
        "concurrency": options.concurrency,
        "sizes": options.sizes,
    }
    run = Run("queue", settings, packages=("redis", "psycopg"))
    try:
        report = measure(run, options)
    except Failed as error:
        print(f"bench.queue: {error}", file=sys.stderr)
        return 1
    show(report, as_json=options.json)
    return 0


def measure(run: Run, options: argparse.Namespace) -> Report:
    """All turns of all who can take part.

    Raises:
        Failed: a contestant did not do what it should have: there are no figures then.
    """
    concurrency, sizes = _numbers(options.concurrency), _numbers(options.sizes)
    peers = _present(run, options)
    with places.place(options.store) as here:
        found = take_turns(options.rounds, _turns(here, options, concurrency, peers), told=progress)
        # Only now: beside a database of gigabytes that has just been written, everybody's commits wait for the disk.
        found |= take_turns(options.rounds, _growth(here, sizes, options.jobs // 4), told=progress)
        progress("")
        _tell_growth(run, found, sizes, here.unit)
    _tell(run, found, concurrency, peers)
    _judge(run, found, sizes)
    return run.report()


def _turns(
    here: Place, options: argparse.Namespace, concurrency: Sequence[int], peers: Sequence[str]
) -> dict[str, Callable[[], Turn]]:
    def fresh(turn: Callable[[str], Turn]) -> Callable[[], Turn]:
        def take() -> Turn:
            with here.fresh() as db:
                return turn(db)

        return take

    measured: dict[str, Callable[[], Turn]] = {
        _at(n): fresh(lambda db, n=n: turns.work(n, options.jobs if n > 1 else options.jobs // 10, db))  # type: ignore[misc]
        for n in concurrency
    }
    measured |= {
        _CALLS: fresh(lambda db: turns.calls(options.jobs, REQUESTS, db)),
        QUART: lambda: turns.quart(REQUESTS),
        _LATENCY: fresh(lambda db: turns.latency(PROBES, db)),
    }
    return measured | {name: lambda name=name: here.peer(name) for name in peers}


def _parser() -> argparse.ArgumentParser:
    about = "How fast the queue is, beside others."
    parser = argparse.ArgumentParser(prog="python -m bench.queue", description=about)
    parser.add_argument(
        "--store", choices=(SQLITE, POSTGRES), default=SQLITE, help=f"where jobctl keeps its jobs [{SQLITE}]"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"[{ROUNDS}]")
    parser.add_argument("--jobs", type=int, default=JOBS, metavar="N", help=f"of one turn [{JOBS}]")
    default = ",".join(map(str, CONCURRENCY))
    parser.add_argument("--concurrency", default=default, metavar="LIST", help=f"jobs at once [{default}]")
    default = SIZES[SQLITE]
    parser.add_argument("--sizes", metavar="LIST", help=f"finished jobs in the table [{default}; postgres: 10 million]")
    parser.add_argument(
        "--peers", default="all", metavar="LIST", help=f"none, all, or some of {','.join(PEERS)} [all that are here]"
    )
    parser.add_argument("--npm", action="store_true", help="have npm install bullmq into the user's cache folder first")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",") if each]


def _present(run: Run, options: argparse.Namespace) -> list[str]:
    """Which peers take part; who cannot is named in the report, and what each promises."""
    there = ON_POSTGRES if options.store == POSTGRES else tuple(PEERS)
    wanted = {"all": list(there), "none": []}.get(options.peers, options.peers.split(","))
    if options.npm and "bullmq" in wanted and contestants.why_absent(PEERS["bullmq"]):
        progress("npm installs bullmq")
        if failed := npm.install("bullmq@6", "ioredis@6"):
            run.notes.append(f"npm: {failed}")
    run.notes.append(f"{OURS}: {PROMISE[options.store]}")
    return contestants.present(run, wanted, there, "queue")


def _at(concurrency: int) -> str:
    return f"{OURS}, concurrency {concurrency}"


# --- growth --------------------------------------------------------------------------------------------------------


def _finished(size: int) -> str:
    return f"{size:,} finished"


def _growth(here: Place, sizes: Sequence[int], jobs: int) -> dict[str, Callable[[], Turn]]:
    """The turns on databases that are full already."""
    found: dict[str, Callable[[], Turn]] = {}

    def served(kept: str) -> Served:
        with here.grown(kept) as db:
            return turns.served(MAIN, jobs, GROWN_PROBES, db)

    for size in sizes:
        name, kept = _finished(size), f"grown_{size}"
        progress(f"a database with {name}")
        here.build(kept, finished=size)
        found[name] = lambda kept=kept: here.statements(kept)  # type: ignore[misc]
        found[f"{name}: server"] = lambda kept=kept: served(kept)  # type: ignore[misc]
    if sizes:
        progress(f"a database {WAITING}")
        here.build("waiting", finished=min(sizes), delayed=HALF, paused=HALF)
        found[WAITING] = lambda: here.statements("waiting")
    return found


# --- what was found ------------------------------------------------------------------------------------------------


def _tell(run: Run, found: dict[str, list[Turn]], concurrency: Sequence[int], peers: Sequence[str]) -> None:
    rates = {_at(n): [each for each in found[_at(n)] if isinstance(each, Rate)] for n in concurrency}
    theirs = {name: [each for each in found[name] if isinstance(each, Measured)] for name in peers}
    calls = [each for each in found[_CALLS] if isinstance(each, Calls)]
    waits = [each for each in found[_LATENCY] if isinstance(each, Latency)]
    base = _at(MAIN) if _at(MAIN) in rates else None
    run.add(
        "jobs run", "1/s",
        {name: [each.per_second for each in got] for name, got in rates.items()}
        | {name: [each.rate for each in got] for name, got in theirs.items()},
        versus=base,
    )  # fmt: skip
    run.add("CPU a job, claim to end", "us", {name: [each.cpu_us for each in got] for name, got in rates.items()})
    run.add(
        "jobs enqueued", "1/s",
        {
            f"{OURS}, one by one": [each.single for each in calls],
            f"{OURS}, 64 at once": [each.concurrent for each in calls],
            f"{OURS}, batches of 1,000": [each.batch for each in calls],
            f"{OURS}, 64 at once through the API": [each.api_concurrent for each in calls],
            f"{OURS}, batches of 1,000 through the API": [each.api_batch for each in calls],
            QUART: [each for each in found[QUART] if isinstance(each, float)],
        }
        | {f"{name}, one by one": [each.single for each in got] for name, got in theirs.items()}
        | {f"{name}, batches of 500": [each.batch for each in got] for name, got in theirs.items() if got[0].batch},
    )  # fmt: skip
    for share in ("p50", "p99"):
        ours = {
            f"{OURS}, in process": [getattr(each, share) for each in waits],
            f"{OURS}, through the API": [getattr(each, f"api_{share}") for each in waits],
        }
        others = {name: [getattr(each, share) for each in got] for name, got in theirs.items()}
        run.add(f"from enqueue to start, idle, {share}", "ms", ours | others)
    run.add(
        "resident memory", "MB",
        {f"{OURS}, nothing done yet": [each.rss / 1e6 for each in calls]}
        | {f"{name}, after": [each.rss / 1e6 for each in got] for name, got in rates.items()}
        | {f"{name}, its worker's processes": [each.rss / 1e6 for each in got] for name, got in theirs.items()},
    )  # fmt: skip


def _tell_growth(run: Run, found: dict[str, list[Turn]], sizes: Sequence[int], unit: str) -> None:
    if not sizes:
        return
    names = [*map(_finished, sizes), WAITING]
    for place, what in enumerate(("claim", "page of 50", "stats")):
        values = {name: _of(found, name, place) for name in names}
        run.add(f"growth: {what}", unit, values, versus=_finished(min(sizes)))
    served = {
        _finished(size): [e for e in found[f"{_finished(size)}: server"] if isinstance(e, Served)] for size in sizes
    }
    base = _finished(min(sizes))

    def add(what: str, unit: str, pick: Callable[[Served], float]) -> None:
        run.add(f"growth: {what}", unit, {n: [pick(each) for each in got] for n, got in served.items()}, versus=base)

    add(f"jobs run at concurrency {MAIN}", "1/s", lambda each: each.rate.per_second)
    add("jobs enqueued one by one", "1/s", lambda each: each.single)
    add("jobs enqueued 64 at once", "1/s", lambda each: each.concurrent)
    add("jobs enqueued in batches", "1/s", lambda each: each.rate.enqueued)
    add("from enqueue to start, idle, p50", "ms", lambda each: each.p50)
    add("from enqueue to start, idle, p99", "ms", lambda each: each.p99)
    add("resident memory after", "MB", lambda each: each.rate.rss / 1e6)


def _of(found: dict[str, list[Turn]], name: str, place: int) -> list[float]:
    return [float(each[place]) for each in found[name] if isinstance(each, tuple) and len(each) == 3]


def _judge(run: Run, found: dict[str, list[Turn]], sizes: Sequence[int]) -> None:
    rates = [each.per_second for each in found.get(_at(MAIN), ()) if isinstance(each, Rate)]
    asked = Asked(f"jobs run at concurrency {MAIN}", 20_000, "1/s", at_most=False)
    run.ask(asked, spread(rates) if rates else None)
    for name, limit in AGAINST[str(run.settings["store"])]:
        theirs = [each.rate for each in found.get(name, ()) if isinstance(each, Measured)]
        asked = Asked(f"the same against {name}", limit, f"x {name}", at_most=False)
        run.ask(asked, ratio(rates, theirs) if rates and theirs else None)
    calls = [each for each in found[_CALLS] if isinstance(each, Calls)]
    waits = [each for each in found[_LATENCY] if isinstance(each, Latency)]
    run.ask(Asked("batches of 1,000 through the API", 20_000, "jobs/s", at_most=False),
            spread(each.api_batch for each in calls))  # fmt: skip
    posts = [each for each in found[QUART] if isinstance(each, float)]
    run.ask(Asked("one job a request, 64 at once, against an empty POST of Quart", 0.8, "x", at_most=False),
            ratio([each.api_concurrent for each in calls], posts))  # fmt: skip
    for what, limit, pick in (
        ("through the API, p50", 3.0, lambda each: each.api_p50),
        ("through the API, p99", 10.0, lambda each: each.api_p99),
        ("in process, p50", 1.0, lambda each: each.p50),
    ):
        run.ask(Asked(f"from enqueue to start, idle, {what}", limit, "ms"), spread(map(pick, waits)))
    if len(sizes) > 1:
        small, large = _finished(min(sizes)), _finished(max(sizes))
        for place, what in enumerate(("claim", "page of 50", "stats")):
            run.ask(Asked(f"{what}, {large} against {small}", 1.5, "x"),
                    ratio(_of(found, large, place), _of(found, small, place)))  # fmt: skip
        run.ask(
            Asked(f"claim {WAITING} against {small}", 1.5, "x"), ratio(_of(found, WAITING, 0), _of(found, small, 0))
        )
    run.ask(Asked("resident memory of an idle server", 80.0, "MB"), spread(each.rss / 1e6 for each in calls))


if __name__ == "__main__":
    sys.exit(main())
