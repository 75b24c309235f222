"""``python -m bench.fanout``: what it costs to push an update to many watchers, beside others who push.

Every contestant is a server process of its own on one core, fresh for each turn, and speaks the same conversation;
one crowd on the other core joins it, takes what it sends, and counts every frame. They take turns, and each is
compared with the floor, a bare loop of ``socket.send`` with the same bytes, of the same round.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from bench import npm
from bench.fan import contestants, turns
from bench.fan.contestants import FLOOR, OURS, PEERS, STORE
from bench.fan.turns import Cost, Filtered, Scale, Stored
from bench.fan.update import payload
from bench.processes import Failed
from bench.side_by_side import (
    ROUNDS,
    Absent,
    Asked,
    Report,
    Run,
    Spread,
    pin,
    progress,
    ratio,
    show,
    spread,
    take_turns,
)

DELIVERIES: Final = 100_000
"""A second, at most: 100 updates to 1,000 watchers."""
RATE: Final = 100.0
BATCH: Final = 10
SECONDS: Final = 1.0
MINUTES: Final = 8
PACKAGES: Final = ("pyjwt",)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was found."""
    options = _parser().parse_args(argv)
    run = Run(
        "fanout",
        {
            "connections": options.connections, "rounds": options.rounds, "batch": options.batch,
            "rate": options.rate or _rate(options.connections), "seconds": options.seconds,
            "update_bytes": len(payload()),
        },
        packages=PACKAGES,
    )  # fmt: skip
    most = contestants.raise_descriptor_limit(options.connections)
    if most < options.connections:
        print(f"bench.fanout: the system lets a process have {most} connections: ulimit -n", file=sys.stderr)
        return 2
    try:
        report = measure(run, options)
    except Failed as error:
        print(f"bench.fanout: {error}", file=sys.stderr)
        return 1
    show(report, as_json=options.json)
    return 0


def measure(run: Run, options: argparse.Namespace) -> Report:
    """All turns of all who can take part.

    Raises:
        Failed: a contestant did not do what it should have: there are no figures then.
    """
    pin(run.load_cpus)
    scale = Scale(
        connections=options.connections, rate=options.rate or _rate(options.connections), batch=options.batch,
        seconds=options.seconds, secret=contestants.new_secret(), server_cpus=run.server_cpus,
    )  # fmt: skip
    present = _present(run, options)
    measured: dict[str, Callable[[], Cost | Stored | Filtered | None]] = {}
    for name in present:
        measured[name] = partial(_cost, run, name, scale)
    if not options.cost_only:
        measured[STORE] = lambda: turns.stored(scale)
        measured[_FILTERS] = lambda: turns.filtered(scale)
    found = take_turns(options.rounds, measured, told=progress, late=lambda: run.late(options.minutes))
    progress("")
    if (made := len(found[OURS])) < options.rounds:
        run.notes.append(f"{made} of {options.rounds} rounds were made: there was no time for more")
    failed = {each.name for each in run.absent}
    costs = {name: [each for each in found[name] if isinstance(each, Cost)] for name in present if name not in failed}
    _costs(run, costs, scale)
    _judge_costs(run, costs, scale)
    _judge_stored(run, costs, [each for each in found.get(STORE, ()) if isinstance(each, Stored)], scale)
    _judge_filtered(run, costs, [each for each in found.get(_FILTERS, ()) if isinstance(each, Filtered)], scale)
    return run.report()


_FILTERS: Final = "filters"


def _cost(run: Run, name: str, scale: Scale) -> Cost | None:
    """A turn; a peer that fails once is out of it, and is named."""
    if any(each.name == name for each in run.absent):
        return None
    try:
        return turns.cost(name, scale)
    except Failed as error:
        if name not in PEERS:
            raise
        run.absent.append(Absent(name, f"it failed: {error}"))
        return None


def _parser() -> argparse.ArgumentParser:
    about = "What it costs to push an update to many watchers."
    parser = argparse.ArgumentParser(prog="python -m bench.fanout", description=about)
    parser.add_argument("--connections", type=int, default=1000, metavar="N", help="watchers [1000]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"[{ROUNDS}]")
    parser.add_argument("--rate", type=float, metavar="R", help="flushes a second [100, less with more than 1,000]")
    parser.add_argument("--batch", type=int, default=BATCH, metavar="N", help="updates of a large flush [10]")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help="of each measurement [1]")
    parser.add_argument(
        "--peers", default="all", metavar="LIST", help=f"none, all, or some of {','.join(PEERS)} [all that are here]"
    )
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, metavar="M", help=f"no round begins after so long [{MINUTES}]"
    )
    parser.add_argument("--npm", action="store_true", help="have npm install ws into the user's cache folder first")
    parser.add_argument("--cost-only", action="store_true", help="leave out the store, latencies, and filters")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _rate(connections: int) -> float:
    return min(RATE, DELIVERIES / connections)


def _present(run: Run, options: argparse.Namespace) -> list[str]:
    """Who takes part; who cannot is named in the report."""
    wanted = {"all": list(PEERS), "none": []}.get(options.peers, options.peers.split(","))
    for name in wanted:
        if name not in PEERS:
            raise SystemExit(f"bench.fanout: there is no peer {name!r}; there are {', '.join(PEERS)}")
    if options.npm and "node-ws" in wanted and contestants.why_absent("node-ws"):
        progress("npm installs ws")
        failed = npm.install("ws@8")
        if failed:
            run.notes.append(f"npm: {failed}")
    present = [FLOOR, OURS]
    for name in wanted:
        why = contestants.why_absent(name)
        if why is not None:
            run.absent.append(Absent(name, why))
            continue
        present.append(name)
        run.versions[name] = contestants.version_of(name) or ""
    return present


# --- what follows ------------------------------------------------------------------------------------------------


def _costs(run: Run, costs: dict[str, list[Cost]], scale: Scale) -> None:
    def of(pick: Callable[[Cost], float]) -> dict[str, list[float]]:
        return {name: [pick(each) for each in found] for name, found in costs.items()}

    run.add("CPU per delivery, one update a flush", "us", of(lambda each: each.one), versus=FLOOR)
    run.add(f"CPU per delivery, {scale.batch} updates a flush", "us", of(lambda each: each.many), versus=FLOOR)
    run.add("deliveries a second of CPU, one update a flush", "1/s", of(lambda each: each.per_second), versus=FLOOR)
    run.add("resident memory a connection", "KB", of(lambda each: each.memory))
    run.add(f"connect, authenticate, subscribe: {scale.at_once:,} at once", "us of CPU each",
            of(lambda each: each.connect))  # fmt: skip


def _judge_costs(run: Run, costs: dict[str, list[Cost]], scale: Scale) -> None:
    ours, floor = costs[OURS], costs[FLOOR]
    ones = [each.one for each in ours]
    run.ask(Asked("CPU per delivery, hub and socket, one update a flush", 1.3, "x the floor"),
            ratio(ones, [each.one for each in floor]))  # fmt: skip
    for name, theirs in costs.items():
        if name not in (OURS, FLOOR):
            run.ask(Asked(f"the same against {name}", 1.0, f"x {name}"), ratio(ones, [each.one for each in theirs]))
    run.ask(Asked(f"the same, {scale.batch} updates a flush", 1.5, "x the floor"),
            ratio([each.many for each in ours], [each.many for each in floor]))  # fmt: skip
    run.ask(Asked("resident memory a connection", 12.0, "KB"), spread(each.memory for each in ours))
    joining = f"connect, authenticate, subscribe: {scale.at_once:,} at once, none refused"
    run.ask(Asked(joining, 1.0, "ms of CPU each"), spread(each.connect / 1e3 for each in ours))


def _judge_stored(run: Run, costs: dict[str, list[Cost]], found: list[Stored], scale: Scale) -> None:
    if not found:
        return
    floor = [each.one for each in costs[FLOOR]]
    ones = [each.one for each in found]
    slower = f"{STORE}, {turns.latency_deliveries(scale) / scale.connections:g} updates/s"
    run.add("CPU per delivery, store included", "us",
            {FLOOR: floor, STORE: ones, slower: [each.slower for each in found]}, versus=FLOOR)  # fmt: skip
    run.add("one flush has, store included", "updates",
            {STORE: [each.gathered for each in found], slower: [each.gathered_slower for each in found]})  # fmt: skip
    for place, what in enumerate(("p50", "p99", "max")):
        run.add(
            f"from commit to client, {what}", "ms",
            {
                "all read": [turns.percentiles(each.latencies)[place] for each in found],
                "all read, after a burst": [turns.percentiles(each.settled)[place] for each in found],
                f"{scale.stalled} of {scale.connections:,} never read": [
                    turns.percentiles(each.beside)[place] for each in found
                ],
            },
        )  # fmt: skip
    run.ask(Asked(f"CPU per delivery, store included, {scale.rate:g} updates/s to {scale.connections:,} watchers",
                  1.6, "x the floor"), ratio(ones, floor))  # fmt: skip
    run.ask(Asked(f"from commit to client, p99 at {turns.latency_deliveries(scale):,.0f} deliveries/s", 25.0, "ms"),
            spread(turns.percentiles(each.latencies)[1] for each in found))  # fmt: skip
    run.ask(Asked(f"p99 of those who read, while {scale.stalled} never do", 1.5, "x without them"),
            ratio(_p99s(each.beside for each in found), _p99s(each.settled for each in found)))  # fmt: skip
    run.ask(Asked("growth of the process for one who never reads", 300.0, "KiB"), spread(each.growth for each in found))
    run.ask(Asked("kept by the kernel for one who never reads, at most", 256.0, "KiB"),
            spread(each.unsent for each in found))  # fmt: skip


def _judge_filtered(run: Run, costs: dict[str, list[Cost]], found: list[Filtered], scale: Scale) -> None:
    if not found:
        return
    plain = [each.one for each in costs[OURS]]
    narrow, wide = [each.narrow for each in found], [each.wide for each in found]
    few = f"{scale.filters} filters, each update for {scale.connections / scale.filters:g}"
    every = f"{scale.filters} filters, each update for all"
    run.add("CPU per delivery with filters", "us", {"no filter": plain, few: narrow, every: wide}, versus="no filter")
    worse: Spread = max(ratio(narrow, plain), ratio(wide, plain), key=lambda each: each.median)
    run.ask(Asked(f"CPU per delivery, {scale.filters} different filters", 2.0, "x unfiltered"), worse)


def _p99s(latencies: Iterable[list[float]]) -> list[float]:
    return [turns.percentiles(each)[1] for each in latencies]


if __name__ == "__main__":
    sys.exit(main())
