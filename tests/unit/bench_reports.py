"""Reports of runs that nobody ran. Hostile names are what a user's own scenario may be called."""

import functools
import io

import bench_kit as kit
import msgspec
from rich.console import Console

from bench import thresholds, verdict
from bench.report import html, terminal
from bench.result import Check, Run
from bench.thresholds import Threshold

HOSTILE = "<img src=x onerror=alert(1)>|`*_[x](http://e.vil)\x1b[2J\u202e&"


@functools.cache
def whole() -> Run:
    run = kit.full()
    return verdict.judge(run, thresholds.defaults(run.plan.scenarios))


@functools.cache
def page() -> str:
    return html.render(whole())


def smoke(asked=(), **changed) -> Run:
    bare = kit.run(repeats=3, profile="smoke")
    return verdict.judge(msgspec.structs.replace(bare, **changed), asked)


def hostile() -> Run:
    blocks = [kit.block(name, repeat) for repeat in range(2) for name in ("idle", "poll", "ws")]
    limited = [kit.block("poll-limited", repeat) for repeat in range(2)]
    blocks += [msgspec.structs.replace(each, scenario=HOSTILE) for each in limited]
    checks = [Check(HOSTILE, False, HOSTILE)]
    run = kit.run(blocks, checks, repeats=2, scenarios=("idle", "poll", "ws", HOSTILE), url=HOSTILE, profile=HOSTILE)
    where = msgspec.structs.replace(kit.ENVIRONMENT, processor=HOSTILE, versions={HOSTILE: HOSTILE})
    run = msgspec.structs.replace(run, environment=where, command=("jobctl", HOSTILE), started_at=HOSTILE)
    asked = [
        Threshold(HOSTILE, "updates_lost", HOSTILE, max=0),
        Threshold("b", "db_queries", HOSTILE, HOSTILE, max_ratio=0.1, severity="warn"),
        Threshold("c", "rate_limited", HOSTILE, min=1),
    ]
    return verdict.judge(run, asked)


def shown(run: Run, width: int = 100, **options) -> str:
    out = io.StringIO()
    terminal.render(run, Console(file=out, width=width, highlight=False, **options))
    return out.getvalue()
