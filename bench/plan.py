"""From a profile and options to the blocks of a run, in the order in which they are run. Pure.

Blocks are interleaved: a repeat has every one once, in an order of its own, so that what drifts on the machine (heat,
neighbours, a disk that fills) falls on all scenarios alike. The order follows from the seed.
"""

import math
import random
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from bench.result import Plan
from bench.scenarios import AT_EVERY_RATE, AT_EVERY_SIZE, Scenario, find
from jobctl.errors import InvalidInput

OVERHEAD_S: Final = 3.5
"""What a block takes beside its measured time, before one has been seen: two processes come and go."""
MIN_POLLS: Final = 5
"""In a block: updates of the first interval and of the last are not looked at, and something must be left."""
MIN_INTERVAL_S: Final = 0.05
"""Scaled: requests themselves take some milliseconds."""
MAX_CLIENTS: Final = 5000
"""One load generator on one core; each client has a socket or two, and a port of the loopback."""
MAX_UPDATES: Final = 1000.0
"""A second, scaled: what one server commits with room to spare."""
MAX_RATE: Final = 200.0
"""A second, before scaling: a job is four updates and takes up to 20 s, and the server runs 1,000 at once."""
MAX_REPEATS: Final = 100
MAX_SCALE: Final = 1000.0
MAX_BLOCK_S: Final = 86_400.0
"""Scaled: a block that breaks off after a day has nothing to show for it."""
MAX_SEED: Final = 2**63 - 1
"""What every reader of ``run.json`` can hold."""
LONG_S: Final = 300.0
"""A run that takes longer says so before it begins."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One block to come. Times are seconds as they will pass, scaled; ``updates`` a second, scaled."""

    scenario: Scenario
    repeat: int
    order: int
    clients: int
    updates: float
    interval: float
    seconds: float
    scale: float
    phases: int
    """Seed of what the clients do; another one for each repeat."""
    workload: int
    """Seed of the updates: the same for every scenario of a repeat."""
    foreign: bool = False
    """The server was there already: no workload is driven, and what changes there is its own affair."""

    @property
    def polls(self) -> int:
        """Times that a client polls."""
        return round(self.seconds / self.interval)


def profiles() -> Mapping[str, Mapping[str, Any]]:
    """What ``profiles.toml`` says."""
    return tomllib.loads(files("bench").joinpath("profiles.toml").read_text("utf-8"))


def make(profile: str, *, seed: int, url: str | None = None, **given: Any) -> Plan:
    """The plan of a profile, with what is ``given`` (None: as in the profile) in place of its values.

    Raises:
        InvalidInput: there is no such profile or scenario, or the times cannot be.
    """
    known = profiles()
    if profile not in known:
        raise InvalidInput(f"there is no profile {profile!r}; there are {', '.join(known)}", field="profile")
    if url is not None:
        _suits_a_foreign_server(given.get("scenarios") or (), given.get("updates"))
        usual = [name for name in known[profile]["scenarios"] if not _needs_our_server(find(name))]
        known = {profile: {**known[profile], "scenarios": usual, "updates": [0.0]}}
    values = {**known[profile], **{name: value for name, value in given.items() if value is not None}}
    plan = Plan(
        profile=profile,
        scenarios=tuple(dict.fromkeys(values["scenarios"])),
        clients=tuple(dict.fromkeys(values["clients"])),
        interval=float(values["interval"]),
        duration=float(values["duration"]),
        updates=tuple(float(each) for each in dict.fromkeys(values["updates"])),
        repeats=values["repeats"],
        time_scale=float(values["time_scale"]),
        seed=seed,
        url=url,
    )
    _check(plan)
    return plan


def _needs_our_server(scenario: Scenario) -> bool:
    return scenario.kind == "none" or scenario.limited


def _suits_a_foreign_server(names: Iterable[str], updates: object) -> None:
    if updates is not None:
        raise InvalidInput(
            "--updates needs a server that the bench starts itself: with --url they are whatever that server does, "
            "so leave out one of the two",
            field="updates",
        )
    for name in names:
        if _needs_our_server(find(name)):
            raise InvalidInput(f"{name} needs a server that the bench starts itself, so leave out --url", field="url")


def _check(plan: Plan) -> None:
    names = [find(name).name for name in plan.scenarios]
    if len({*names}) != len(names):
        raise InvalidInput("two of the scenarios have one name", field="scenario")
    positive = {"interval": plan.interval, "duration": plan.duration, "time-scale": plan.time_scale}
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise InvalidInput(f"--{name} must be more than 0, and finite", field=name)
    if min(plan.clients) < 1 or not min(plan.updates) >= 0 or plan.repeats < 1:
        raise InvalidInput("--clients and --repeats are at least 1, --updates at least 0", field="clients")
    scaled = plan.interval / plan.time_scale
    if scaled < MIN_INTERVAL_S:
        raise InvalidInput(
            f"--time-scale {plan.time_scale:g} makes an interval of {plan.interval:g} s as short as "
            f"{scaled * 1000:.0f} ms; requests themselves take some milliseconds, so keep it at 50 ms or more",
            field="time-scale",
        )
    _check_sizes(plan)
    polls = plan.duration / plan.interval
    if polls < MIN_POLLS or abs(polls - round(polls)) > 1e-9:
        raise InvalidInput(
            f"--duration must be a multiple of --interval, and at least {MIN_POLLS} of them "
            f"({plan.duration:g} s is {polls:.3g} times {plan.interval:g} s)",
            field="duration",
        )


def _check_sizes(plan: Plan) -> None:
    """What no machine of one core for each side can do is said before anything runs, not found out in the middle."""
    rate = max(plan.updates)
    for name, value, most, what in (
        ("clients", max(plan.clients), MAX_CLIENTS, ""),
        ("repeats", plan.repeats, MAX_REPEATS, ""),
        ("seed", plan.seed, MAX_SEED, ""),
        ("time-scale", plan.time_scale, MAX_SCALE, ""),
        ("duration", plan.duration / plan.time_scale, MAX_BLOCK_S, " s after scaling"),
        ("updates", rate, MAX_RATE, " a second"),
        ("updates", rate * plan.time_scale, MAX_UPDATES, f" a second after scaling by {plan.time_scale:g}"),
    ):
        if not value <= most:
            told = f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
            raise InvalidInput(f"--{name} is at most {most:,.16g}{what} (it is {told})", field=name)


def cells(plan: Plan) -> tuple[Cell, ...]:
    """Every block, in order."""
    draw = random.Random(plan.seed)  # noqa: S311 - a plan is to be repeatable, not secret
    out: list[Cell] = []
    for repeat in range(plan.repeats):
        phases, workload = draw.getrandbits(32), draw.getrandbits(32)
        kinds = [each for name in plan.scenarios for each in _sizes(plan, find(name))]
        draw.shuffle(kinds)
        for scenario, clients, updates in kinds:
            out.append(
                Cell(
                    scenario=scenario,
                    repeat=repeat,
                    order=len(out),
                    clients=clients,
                    updates=updates * plan.time_scale,
                    interval=plan.interval / plan.time_scale,
                    seconds=plan.duration / plan.time_scale,
                    scale=plan.time_scale,
                    phases=phases,
                    workload=workload,
                    foreign=plan.url is not None,
                )
            )
    return tuple(out)


def _sizes(plan: Plan, scenario: Scenario) -> Iterator[tuple[Scenario, int, float]]:
    """For each number of clients and rate of updates that the scenario is measured at."""
    for updates in plan.updates if scenario.name in AT_EVERY_RATE else plan.updates[:1]:
        if scenario.kind == "none":
            yield scenario, 0, updates
            continue
        for clients in plan.clients if scenario.name in AT_EVERY_SIZE else plan.clients[:1]:
            yield scenario, clients, updates


def phases(clients: int, interval: float, seed: int) -> list[float]:
    """When each client arrives, seconds after the start: one in each of as many equal parts of the interval.

    So all moments of an interval are covered alike, and an update that comes at any time waits, at one client or
    another, for every part of it.
    """
    draw = random.Random(seed)  # noqa: S311 - see above
    places = list(range(clients))
    draw.shuffle(places)
    return [(place + draw.random()) / clients * interval for place in places]


def seconds_left(plan: Plan, done: int, passed: float, total: int) -> float:
    """How much longer a run takes: by what blocks have taken so far, at first by what they should.

    Args:
        plan: The run's.
        done: Blocks that are over.
        passed: Seconds that they took.
        total: Blocks in all.
    """
    guess = plan.duration / plan.time_scale + OVERHEAD_S
    each = (guess + passed) / (done + 1)
    return each * (total - done)


def describe(cell: Cell) -> str:
    """A block for a person: ``poll, 10 clients``."""
    who = f"{cell.clients} clients" if cell.clients else "nobody"
    updates = "updates: whatever that server does" if cell.foreign else f"{cell.updates / cell.scale:g} updates/s"
    return f"{cell.scenario.name}, {who}, {updates}"


def length(seconds: float) -> str:
    """So long, for a person: ``40 s``, ``28 minutes``, ``3.5 hours``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
