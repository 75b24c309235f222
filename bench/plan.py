"""From a profile and options to the blocks of a run, in the order in which they are run. Pure.

Blocks are interleaved: a repeat has every one once, in an order of its own, so that what drifts on the machine (heat,
neighbours, a disk that fills) falls on all scenarios alike. The order follows from the seed.
"""

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
        _suits_a_foreign_server(given.get("scenarios") or ())
        usual = [name for name in known[profile]["scenarios"] if not _needs_our_server(find(name))]
        known = {profile: {**known[profile], "scenarios": usual}}
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


def _suits_a_foreign_server(names: Iterable[str]) -> None:
    for name in names:
        if _needs_our_server(find(name)):
            raise InvalidInput(f"{name} needs a server that the bench starts itself, so leave out --url", field="url")


def _check(plan: Plan) -> None:
    names = [find(name).name for name in plan.scenarios]
    if len({*names}) != len(names):
        raise InvalidInput("two of the scenarios have one name", field="scenario")
    positive = {"interval": plan.interval, "duration": plan.duration, "time-scale": plan.time_scale}
    for name, value in positive.items():
        if value <= 0:
            raise InvalidInput(f"--{name} must be more than 0", field=name)
    if min(plan.clients) < 1 or min(plan.updates) < 0 or plan.repeats < 1:
        raise InvalidInput("--clients and --repeats are at least 1, --updates at least 0", field="clients")
    polls = plan.duration / plan.interval
    if polls < MIN_POLLS or abs(polls - round(polls)) > 1e-9:
        raise InvalidInput(
            f"--duration must be a multiple of --interval, and at least {MIN_POLLS} of them "
            f"({plan.duration:g} s is {polls:.3g} times {plan.interval:g} s)",
            field="duration",
        )
    scaled = plan.interval / plan.time_scale
    if scaled < 0.05:
        raise InvalidInput(
            f"--time-scale {plan.time_scale:g} makes an interval of {plan.interval:g} s as short as "
            f"{scaled * 1000:.0f} ms; requests themselves take some milliseconds, so keep it at 50 ms or more",
            field="time-scale",
        )


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
    rate = cell.updates / cell.scale
    who = f"{cell.clients} clients" if cell.clients else "nobody"
    return f"{cell.scenario.name}, {who}, {rate:g} updates/s"
