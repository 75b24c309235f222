"""``python -m bench.cluster``: many processes on one PostgreSQL, beside PgQueuer and Procrastinate on the same.

The PostgreSQL is started for the run, with its defaults: every commit is synced before it is answered, for everybody.
Each turn has an empty database, and processes of its own: of jobctl one ``serve``, with one who watches its stream, and
``work`` beside it, with the event log on; of the others as many workers. Handlers note that they were started, the same
for all; jobs a second are from the first to the last of these, once every process stands by. Driver, database and
contestants share the machine's cores.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final

from bench.processes import Failed
from bench.queues import contestants
from bench.queues.contestants import PEERS
from bench.queues.crossing import Crossing, crossing
from bench.queues.database import Postgres, postgres
from bench.queues.fleet import Ran, fleet
from bench.queues.peer import Measured
from bench.queues.places import ON_POSTGRES, POSTGRES, PROMISE
from bench.side_by_side import ROUNDS, Asked, Report, Run, progress, ratio, show, spread, take_turns

OURS: Final = "jobctl"
PROCESSES: Final = (1, 2, 4)
JOBS: Final = 20_000
SHARE: Final = {"pgqueuer": 1.0, "procrastinate": 0.05}
"""Of the jobs of a turn; the slower need fewer for as long a turn."""
CONCURRENCY: Final = 100
"""Of each of our processes."""
PER_SECOND: Final = 1000
EVENTS: Final = 5000
CANCELS: Final = 10
_CROSSING: Final = "crossing"
_CANCEL: Final = "cancel"
Turn = Ran | Measured | Crossing | tuple[float, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was found."""
    options = _parser().parse_args(argv)
    settings = {name: getattr(options, name) for name in ("rounds", "jobs", "processes", "concurrency", "events")}
    run = Run("cluster", settings, packages=("pgqueuer", "procrastinate", "psycopg", "asyncpg"))
    try:
        report = measure(run, options)
    except Failed as error:
        print(f"bench.cluster: {error}", file=sys.stderr)
        return 1
    show(report, as_json=options.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description="Many processes on one PostgreSQL.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"[{ROUNDS}]")
    parser.add_argument("--jobs", type=int, default=JOBS, metavar="N", help=f"of one turn [{JOBS}]")
    default = ",".join(map(str, PROCESSES))
    parser.add_argument("--processes", default=default, metavar="LIST", help=f"[{default}]")
    about = f"jobs at once in each of ours [{CONCURRENCY}]"
    parser.add_argument("--concurrency", type=int, default=CONCURRENCY, metavar="N", help=about)
    parser.add_argument("--events", type=int, default=EVENTS, metavar="N", help=f"whose age is told [{EVENTS}]")
    default = ",".join(ON_POSTGRES)
    parser.add_argument("--peers", default="all", metavar="LIST", help=f"none, all, or some of {default} [all]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def measure(run: Run, options: argparse.Namespace) -> Report:
    """All turns of all who can take part.

    Raises:
        Failed: a contestant did not do what it should have: there are no figures then.
    """
    processes = [int(each) for each in options.processes.split(",")]
    wanted = {"all": list(ON_POSTGRES), "none": []}.get(options.peers, options.peers.split(","))
    peers = contestants.present(run, wanted, ON_POSTGRES, "cluster")
    run.notes.append(f"{OURS}: {PROMISE[POSTGRES]}")
    with postgres() as database:
        measured: dict[str, Callable[[], Turn]] = {}
        for n in processes:
            measured[_at(OURS, n)] = lambda n=n: _work(database, n, options)  # type: ignore[misc]
            for name in peers:
                measured[_at(name, n)] = lambda name=name, n=n: contestants.measure_on(  # type: ignore[misc]
                    PEERS[name], database, jobs=max(500, round(options.jobs * SHARE[name])), workers=n
                )
        if options.events:
            measured[_CROSSING] = lambda: _cross(database, options.events)
            measured[_CANCEL] = lambda: _cancels(database)
        found = take_turns(options.rounds, measured, told=progress)
        progress("")
    _tell(run, found, processes, peers)
    _judge(run, found, processes)
    return run.report()


def _at(name: str, processes: int) -> str:
    return f"{name}, {processes} process{'es' if processes > 1 else ''}"


def _work(database: Postgres, processes: int, options: argparse.Namespace) -> Ran:
    with database.empty() as url, fleet(url, processes, options.concurrency) as ours:
        return ours.run(options.jobs, database)


def _cross(database: Postgres, events: int) -> Crossing:
    with database.empty() as url:
        return crossing(url, per_second=PER_SECOND, events=events)


def _cancels(database: Postgres) -> tuple[float, ...]:
    with database.empty() as url, fleet(url, 2, 1) as ours:
        return tuple(ours.cancel_elsewhere() for _ in range(CANCELS))


def _rates(found: dict[str, list[Turn]], name: str) -> list[float]:
    return [each.rate for each in found.get(name, ()) if isinstance(each, Ran | Measured)]


def _tell(run: Run, found: dict[str, list[Turn]], processes: Sequence[int], peers: Sequence[str]) -> None:
    for n in processes:
        names = [_at(name, n) for name in (OURS, *peers)]
        run.add(f"jobs run, {n} at work", "1/s", {name: _rates(found, name) for name in names}, versus=names[0])
    turns = {name: [each for each in got if isinstance(each, Ran | Measured)] for name, got in found.items()}
    turns = {name: got for name, got in turns.items() if got}
    run.add(
        "CPU of the database for each job", "us",
        {name: [each.database_us for each in got] for name, got in turns.items()},
    )  # fmt: skip
    run.add("CPU of our processes for each job", "us",
            {name: [each.cpu_us for each in got if isinstance(each, Ran)] for name, got in turns.items()
             if isinstance(got[0], Ran)})  # fmt: skip
    run.add("resident memory of all processes", "MB", {n: [each.rss / 1e6 for each in g] for n, g in turns.items()})
    crossings = [each for each in found.get(_CROSSING, ()) if isinstance(each, Crossing)]
    if crossings:
        run.add(
            f"age of an update where it is read, at {PER_SECOND:,} a second", "ms",
            {
                "on the server that wrote it, p50": [each.here_p50 for each in crossings],
                "on the server that wrote it, p99": [each.here_p99 for each in crossings],
                "on another, p50": [each.elsewhere_p50 for each in crossings],
                "on another, p99": [each.elsewhere_p99 for each in crossings],
            },
        )  # fmt: skip
        run.add("updates written", "1/s", {OURS: [int(run.settings["events"]) / each.took_s for each in crossings]})
    if cancels := _cancelled(found):
        run.add("a cancel, until a handler in another process is told", "ms", {"slowest of a round": cancels})


def _cancelled(found: dict[str, list[Turn]]) -> list[float]:
    return [max(each) for each in found.get(_CANCEL, ()) if not isinstance(each, Ran | Measured | Crossing)]


def _judge(run: Run, found: dict[str, list[Turn]], processes: Sequence[int]) -> None:
    for n in processes:
        ours = _rates(found, _at(OURS, n))
        for name, limit in (("pgqueuer", 1.0), ("procrastinate", 10.0)):
            theirs = _rates(found, _at(name, n))
            asked = Asked(f"jobs run, {n} at work, against {name}", limit, f"x {name}", at_most=False)
            run.ask(asked, ratio(ours, theirs) if theirs else None)
    best = [max(values) for values in zip(*(_rates(found, _at(OURS, n)) for n in processes), strict=True)]
    run.ask(Asked("jobs run, best of these", 19_000, "1/s", at_most=False), spread(best))
    crossings = [each.elsewhere_p99 for each in found.get(_CROSSING, ()) if isinstance(each, Crossing)]
    run.ask(Asked(f"age of an update on another server, p99 at {PER_SECOND:,} a second", 100.0, "ms"),
            spread(crossings) if crossings else None)  # fmt: skip
    cancels = _cancelled(found)
    run.ask(Asked("a cancel that reaches another process", 1000.0, "ms"), spread(cancels) if cancels else None)


if __name__ == "__main__":
    sys.exit(main())
