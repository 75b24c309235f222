"""One block: a server and a load generator come, do their part at the same times, are asked, and go."""

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bench import folders, measure, processes
from bench.clock import seconds_until
from bench.load.order import Answered, Order, Place, write_whole
from bench.names import CLIENTS, COMMITS, GO, OBSERVATIONS, SAMPLES
from bench.plan import Cell, phases
from bench.processes import READY_S, SCENARIO_FILE
from bench.result import Block, Generator, Series, Traffic, Updates
from bench.scenarios import TABS
from bench.server import Ready, Report, ServerOrder, Told
from bench.validity import Evidence
from bench.workload import STEPS, looked_at, workload

LEAD_S: Final = 0.15
"""From the word to the start: time for every client to hear it."""
SPARE_S: Final = 30.0
"""Beyond the measured time, for clients that are behind and for what they write down."""
LOOPBACK: Final = "127.0.0.1"
_NOBODY: Final = Answered(Traffic({}, 0), 0, {"p50": 0.0, "p99": 0.0, "max": 0.0}, 0.0, 1.0, 0, ())
_NOTHING: Final = Updates(0, 0, 0, 0, 0)


def users_of(cell: Cell) -> int:
    """How many different users its clients are."""
    return -(-cell.clients // TABS) if cell.scenario.limited else cell.clients


class Target(NamedTuple):
    """A server that is there already. ``tokens`` gives one for each of so many users."""

    place: Place
    tokens: Callable[[int], Sequence[str]]


def run(
    cell: Cell, keep: Path, server_cpus: Sequence[int], load_cpus: Sequence[int], *, target: Target | None = None
) -> Evidence:
    """Run a block.

    Args:
        cell: Which.
        keep: The folder that its observations stay in.
        server_cpus: Cores of the server; empty: any.
        load_cpus: Cores of the load generator.
        target: Whom to ask, instead of a server of our own.

    Raises:
        processes.Failed: one of the two did not do its part.
    """
    with folders.held() as folder:
        (folder / "empty").mkdir()
        if target is None:
            report, answered = _play(cell, folder, server_cpus, load_cpus)
        else:
            report, answered = None, _play_away(cell, folder, load_cpus, target)
        for name in (COMMITS, OBSERVATIONS, CLIENTS):
            if (folder / name).exists():
                keep.mkdir(parents=True, exist_ok=True)
                shutil.move(folder / name, keep / name)
    return evidence(cell, report, answered, keep)


def _play(cell: Cell, folder: Path, server_cpus: Sequence[int], load_cpus: Sequence[int]) -> tuple[Report, Answered]:
    order = ServerOrder(
        folder=str(folder), seconds=cell.seconds, updates=cell.updates, scale=cell.scale, seed=cell.workload,
        limited=cell.scenario.limited, users=users_of(cell),
    )  # fmt: skip
    (folder / "server.json").write_bytes(msgspec.json.encode(order))
    with contextlib.ExitStack() as stack:
        server = _kept(stack, processes.start_server(folder / "server.json", folder, server_cpus))
        load = _start_load(stack, cell, folder, load_cpus)
        ready = msgspec.json.decode(server.hear(READY_S), type=Ready)
        if load is not None:
            load.await_file(processes.stands_by(folder), READY_S)
        start = time.monotonic_ns() + round(LEAD_S * 1e9)
        server.say(msgspec.json.encode(Told(start=start)))
        if load is not None:
            word = order_of(cell, start, Place(LOOPBACK, ready.port), ready.tokens)
            write_whole(folder / GO, msgspec.json.encode(word))
        time.sleep(seconds_until(start + round(cell.seconds * 1e9)))
        answered = _NOBODY
        if load is not None:
            load.await_file(processes.has_counted(folder), SPARE_S)
            answered = msgspec.json.decode((folder / CLIENTS).read_bytes(), type=Answered)
            load.end()
        server.say(msgspec.json.encode(Told(end=True)))
        return msgspec.json.decode(server.hear(SPARE_S), type=Report), answered


def _play_away(cell: Cell, folder: Path, load_cpus: Sequence[int], target: Target) -> Answered:
    """The clients' half alone."""
    with contextlib.ExitStack() as stack:
        load = _start_load(stack, cell, folder, load_cpus)
        if load is None:
            return _NOBODY
        load.await_file(processes.stands_by(folder), READY_S)
        start = time.monotonic_ns() + round(LEAD_S * 1e9)
        tokens = target.tokens(users_of(cell))
        write_whole(folder / GO, msgspec.json.encode(order_of(cell, start, target.place, tokens)))
        load.await_file(processes.has_counted(folder), cell.seconds + SPARE_S)
        return msgspec.json.decode((folder / CLIENTS).read_bytes(), type=Answered)


def _kept(stack: contextlib.ExitStack, process: processes.Process) -> processes.Process:
    """Whatever happens, it does not outlive the block."""
    stack.callback(process.end)
    return process


def _start_load(stack: contextlib.ExitStack, cell: Cell, folder: Path, cpus: Sequence[int]) -> processes.Process | None:
    if not cell.clients:
        return None
    file = Path(cell.scenario.locustfile) if cell.scenario.locustfile else SCENARIO_FILE
    return _kept(stack, processes.start_load(file, cell.clients, folder, cpus))


def order_of(cell: Cell, start: int, place: Place, tokens: Sequence[str]) -> Order:
    """What the clients are to do; ``tokens`` are shared out evenly, one after the other."""
    share = TABS if cell.scenario.limited else 1
    cuts = cell.scenario.cuts
    return Order(
        scenario=cell.scenario.name,
        kind=cell.scenario.kind,
        keep=cell.scenario.keep,
        etag=cell.scenario.etag,
        subscribe=cell.scenario.subscribe,
        # Between the first interval, in which clients arrive, and the end.
        cuts=tuple(
            start + round((cell.interval + (cell.seconds - cell.interval) * n / (cuts + 1)) * 1e9)
            for n in range(1, cuts + 1)
        ),
        place=place,
        tokens=tuple(tokens[n // share % len(tokens)] for n in range(cell.clients)),
        phases=tuple(round(each * 1e9) for each in phases(cell.clients, cell.interval, cell.phases)),
        start=start,
        seconds=cell.seconds,
        interval=cell.interval,
        scale=cell.scale,
        seed=cell.phases,
    )


def _series(cell: Cell, report: Report | None, answered: Answered) -> Series:
    planned = tuple(cell.seconds * step / SAMPLES for step in range(SAMPLES + 1))
    nothing = (0,) * len(planned)
    return Series(
        at=report.at if report is not None else planned,  # both sides look at the same times, give or take a little
        requests=answered.requests or nothing,
        transferred=answered.transferred or nothing,
        cpu_s=report.cpu_s if report is not None else (),
        rss=report.rss if report is not None else (),
    )


def evidence(cell: Cell, report: Report | None, answered: Answered, keep: Path) -> Evidence:
    """The block's figures, from what its processes said and wrote."""
    jobs = workload(cell.updates, cell.seconds, cell.scale, cell.workload)
    followed = set(looked_at(jobs, cell.interval, cell.seconds))
    seen = measure.Seen(_NOTHING, (), (), ())
    if report is not None:
        watching = cell.clients if cell.scenario.informs else 0
        observations = measure.Observations((), {})
        if watching:
            observations = measure.read_observations(keep / OBSERVATIONS)
        seen = measure.follow(measure.read_commits(keep / COMMITS), followed, observations, watching)
    block = Block(
        scenario=cell.scenario.name,
        repeat=cell.repeat,
        order=cell.order,
        clients=cell.clients,
        updates_per_s=cell.updates,
        interval=cell.interval if cell.scenario.polls else 0.0,
        seconds=cell.seconds,
        client=answered.traffic,
        updates=seen.updates,
        empty=answered.empty,
        staleness=measure.staleness(seen.delays),
        server=None if report is None else report.server,
        generator=Generator(answered.cpu_s / answered.seconds, answered.late["p99"]) if cell.clients else None,
        directory=f"{keep.parent.name}/{keep.name}",
        series=_series(cell, report, answered),
        per_client=seen.per_client,
    )
    return Evidence(
        cell=cell,
        block=block,
        planned=len(followed) * STEPS,
        finished=answered.finished,
        errors=answered.errors,
        server_late_p99=0.0 if report is None else report.late_p99,
        from_due=seen.from_due,
    )
