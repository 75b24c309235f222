"""Runs that nobody ran: blocks with figures that are known, so that what follows from them is too."""

import functools
import random
from collections.abc import Iterable, Sequence

import msgspec

from bench import histograms
from bench.result import (
    Block,
    Check,
    Environment,
    Generator,
    Plan,
    Run,
    Series,
    Server,
    Staleness,
    Traffic,
    Updates,
)  # fmt: skip

ROUTES = ("GET /api/jobs", "GET /api/jobs/stats", "GET /api/jobs/schedules")
COSTS = {
    "idle": (0.0, 0.0, 0.0), "ws-idle": (0.0005, 2e-6, 0.0), "ws": (0.0005, 2e-6, 4e-6),
    "ws-churn": (0.002, 4e-6, 4e-6),
    "poll": (0.001, 9e-5, 1e-6), "poll-keepalive": (0.001, 6e-5, 1e-6), "poll-etag": (0.001, 4e-5, 1e-6),
    "longpoll": (0.001, 1e-5, 3e-5), "poll-limited": (0.001, 9e-5, 1e-6),
}  # fmt: skip
"""a, b, c of the CPU beyond the control, on the clock of the run."""
RSS = {"ws": 14_000, "ws-idle": 13_000, "ws-churn": 14_500, "longpoll": 22_000, "poll-keepalive": 24_000}
PUSH = ("ws", "ws-churn")
SWEPT = ("idle", "ws-idle", "poll", "poll-keepalive", "poll-etag", "ws")
"""Measured at every number of clients and rate; the others at the first of each."""


def plan(**changed: object) -> Plan:
    usual = Plan(
        profile="ci", scenarios=("idle", "poll", "ws"), clients=(100,), interval=30.0, duration=900.0, updates=(0.1,),
        repeats=5, time_scale=20.0, seed=7,
    )  # fmt: skip
    return msgspec.structs.replace(usual, **changed)


ENVIRONMENT = Environment(
    jobctl="0.1.0", python="3.11.7", platform="Linux 6.1 x86_64", processor="A processor", cpus=2, memory=8 << 30,
    versions={"trio": "0.30.0", "apsw": "3.54.1.0", "locust": "2.47.0"}, server_cpus=(0,), load_cpus=(1,),
    durability="full",
)  # fmt: skip


def block(
    scenario: str, repeat: int = 0, order: int = 0, clients: int = 100, rate: float = 2.0, **changed: object
) -> Block:
    """45 s that stand for 15 minutes: 30 polls of three routes a client, or three requests and a stream."""
    seconds, interval = 45.0, 1.5
    polls = scenario.startswith("poll")
    n = 0 if scenario == "idle" else clients
    each = 30 if polls else 0 if scenario in ("idle", "ws-idle") else 1
    requests = {route: {"200": each * n} for route in ROUTES} if each else {}
    if scenario == "poll-limited":
        requests[ROUTES[0]] = {"200": each * n - 20, "429": 20}
    streams = n if scenario.startswith("ws") else 0
    committed = round(rate * seconds)
    a, b, c = COSTS.get(scenario, COSTS["poll"])
    due = committed * n
    superseded = due // 5 if polls else 0
    usual = Block(
        scenario=scenario, repeat=repeat, order=order, clients=clients, updates_per_s=rate,
        interval=interval if polls else 0.0,
        seconds=seconds,
        client=Traffic(
            requests, connections=30 * n if scenario == "poll" else n * 2 if streams else n, streams=streams,
            sent=each * n * 900, received=each * n * 30_000 + streams * committed * 320,
            wire_sent=each * n * 950, wire_received=each * n * 31_000 + streams * committed * 340,
        ),
        updates=Updates(committed=committed, due=due, seen=due, superseded=superseded, lost=0),
        empty=each * n * 3 // 2 if polls else 0,
        server=Server(
            cpu_s=(0.01 + a * bool(n) + n * (b + c * rate)) * seconds, rss=60_000_000 + n * RSS.get(scenario, 300),
            db_queries=40 + each * n * 4, db_writes=committed, traffic=Traffic(requests, n),
        ),
        generator=Generator(cpu_share=0.2, late_p99=0.004),
    )  # fmt: skip
    return msgspec.structs.replace(usual, **changed)


def noisy(blocks: Iterable[Block], seed: int = 1, spread: float = 0.05) -> list[Block]:
    """Blocks whose server was a bit slower or faster in each repeat, and in each block."""
    random_ = random.Random(seed)
    weather: dict[int, float] = {}
    found = []
    for each in blocks:
        assert each.server is not None
        shared = weather.setdefault(each.repeat, random_.lognormvariate(0, spread))
        idle = 0.01 * each.seconds
        cpu_s = idle + (each.server.cpu_s - idle) * shared * random_.lognormvariate(0, spread / 2)
        rss = each.server.rss + random_.randint(-30_000, 30_000)
        found.append(msgspec.structs.replace(each, server=msgspec.structs.replace(each.server, cpu_s=cpu_s, rss=rss)))
    return found


def staleness(values: Sequence[float]) -> Staleness:
    ordered = sorted(values)
    at = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))]
    return Staleness(
        count=len(ordered), mean=sum(ordered) / len(ordered), p50=at(0.5), p95=at(0.95), p99=at(0.99), max=ordered[-1],
        histogram=histograms.record(ordered),
    )  # fmt: skip


def with_detail(each: Block, seed: int = 3) -> Block:
    """The same block with stalenesses, a series and what each client missed, if it is of those that are shown."""
    if each.clients not in (50, 200) or each.updates_per_s != 2.0 or each.scenario in ("idle", "ws-idle"):
        return each
    random_ = random.Random(f"{seed} {each.repeat} {each.scenario}")
    if each.scenario in PUSH:
        seen = [random_.lognormvariate(-5.6, 0.5) for _ in range(400)]
    elif each.interval:
        seen = [random_.uniform(0, each.interval) + 0.003 for _ in range(400)]
    else:
        seen = [random_.lognormvariate(-4.5, 0.5) for _ in range(400)]
    at = tuple(each.seconds * k / 30 for k in range(31))
    bytes_ = each.client.sent + each.client.received
    first = 3 * each.clients if each.scenario in PUSH else 0
    total = each.client.total
    series = Series(
        at=at, requests=tuple(first + round((total - first) * t / each.seconds) for t in at),
        transferred=tuple(round(bytes_ * t / each.seconds) for t in at),
        cpu_s=tuple(each.server.cpu_s * t / each.seconds for t in at) if each.server else (),
        rss=tuple(each.server.rss for _ in at) if each.server else (),
    )  # fmt: skip
    share = each.updates.superseded / each.updates.due if each.updates.due else 0
    rows = []
    for _ in range(each.clients):
        missed = sum(random_.random() < share for _ in range(each.updates.committed))
        rows.append((each.updates.committed - missed, missed, 0))
    return msgspec.structs.replace(each, staleness=staleness(seen), series=series, per_client=tuple(rows))


def run(blocks: Iterable[Block] | None = None, checks: Sequence[Check] | None = None, **planned: object) -> Run:
    """A whole run of a plan; its blocks are as the plan says, unless given."""
    asked = plan(**planned)
    if blocks is None:
        blocks = [
            block(scenario, repeat, 0, clients, rate * asked.time_scale)
            for repeat in range(asked.repeats)
            for scenario in asked.scenarios
            for rate in (asked.updates if scenario in SWEPT else asked.updates[:1])
            for clients in (asked.clients if scenario in SWEPT else asked.clients[:1])
        ]
    ordered = tuple(msgspec.structs.replace(each, order=k) for k, each in enumerate(blocks))
    good = (
        Check("counts-agree", True, "the server and the clients counted the same 27,900 requests"),
        Check("generator", True, "the load generator used 20% of its core at most, below 70%"),
    )
    return Run(
        schema=1, started_at="2026-01-05T10:00:00.000Z", seconds=200.0, complete=True,
        command=("jobctl", "bench", "run", "--profile", asked.profile, "--seed", str(asked.seed)), plan=asked,
        environment=ENVIRONMENT, blocks=ordered, checks=tuple(checks) if checks is not None else good,
    )  # fmt: skip


@functools.cache
def full() -> Run:
    """A run with several N and rates, stalenesses, series: everything that a report can show."""
    asked = {
        "profile": "full", "clients": (50, 100, 200), "updates": (0.1, 0.5, 2.0),
        "scenarios": (
            "idle", "ws-idle", "poll", "poll-keepalive", "poll-etag", "longpoll", "ws", "ws-churn", "poll-limited",
        ),
    }  # fmt: skip
    bare = run(**asked)
    return msgspec.structs.replace(bare, blocks=tuple(with_detail(each) for each in noisy(bare.blocks)))
