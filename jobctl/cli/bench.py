"""``jobctl bench``: measure what push saves over polling, on this machine."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from jobctl.cli import bench_read
from jobctl.cli.connect import Target, TokenFile
from jobctl.cli.output import ExitCode, say
from jobctl.cli.quick import QuickCommand, QuickGroup
from jobctl.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench import block, driver
    from bench.result import Plan
    from bench.thresholds import Threshold

NEEDS: Final = ("locust", "psutil", "hdrh", "jinja2", "junitparser")
"""What the extra installs."""


class BenchGroup(QuickGroup):
    """``jobctl bench`` and ``jobctl bench --profile ci`` are ``jobctl bench run ...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``run`` where no sub-command is named."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app: Final = typer.Typer(
    cls=BenchGroup,
    help="Measure what push saves over polling, on this machine. Without a command: run.",
    rich_markup_mode=None,
)


@app.command("run", cls=QuickCommand)
def run(
    profile: Annotated[
        str, typer.Option("--profile", metavar="smoke|ci|full", help="At most 90 s, 5 min, 30 min.")
    ] = "smoke",
    scenario: Annotated[
        list[str] | None,
        typer.Option("--scenario", metavar="NAME|FILE", help="Instead of the profile's; a locustfile.py too. Several."),
    ] = None,
    clients: Annotated[
        list[int] | None, typer.Option("--clients", metavar="N", min=1, help="How many; several: slopes are fitted.")
    ] = None,
    interval: Annotated[
        float | None, typer.Option("--interval", metavar="S", help="Between two polls, before scaling [30].")
    ] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", metavar="S", help="Measured time of a block, before scaling [900].")
    ] = None,
    updates: Annotated[
        list[float] | None, typer.Option("--updates", metavar="R", min=0, help="State changes a second; several.")
    ] = None,
    repeats: Annotated[int | None, typer.Option("--repeats", metavar="N", min=1, help="Rounds of all blocks.")] = None,
    time_scale: Annotated[
        float | None, typer.Option("--time-scale", metavar="K", help="Divide every time by it; 1 is the real pace.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", min=0, help="Repeat a run's order and times.")
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option("--thresholds", metavar="F", help="What must hold (TOML); else jobctl's own claims.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="For run.json, reports and raw observations.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="A server that is there: the clients' figures; drives no updates."),
    ] = None,
    token_file: TokenFile = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 7 where a threshold cannot be decided.")] = False,
) -> int:
    """Run a profile: servers and load are started here, and gone at the end.

    Exit codes: 0 passed, 1 a threshold failed, 2 usage or a wrong file, 6 the run cannot be believed, 7 undecided
    (--strict), 130 Ctrl-C.
    """
    require_extra()
    import secrets

    from bench import plan

    given = {
        "scenarios": scenario, "clients": clients, "interval": interval, "duration": duration, "updates": updates,
        "repeats": repeats, "time_scale": time_scale,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value not in (None, [])}
    if token_file is not None and url is None:
        raise typer.BadParameter("is for a server that is there already: give --url", param_hint="--token-file")
    chosen = plan.make(profile, seed=secrets.randbelow(2**31) if seed is None else seed, url=url, **given)
    target = None if url is None else Target(url, token_file)
    command = _command(chosen, given, thresholds, token_file, strict=strict)
    return _run(chosen, thresholds, out, command, target, strict=strict)


bench_read.attach(app)


def require_extra() -> None:
    """Raise ``ConfigError`` where the extra is not installed."""
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise ConfigError(f"this needs {', '.join(missing)}, which come with: pip install 'jobctl[bench]'")


def _run(
    chosen: "Plan",
    thresholds: Path | None,
    given: Path | None,
    command: tuple[str, ...],
    target: Target | None,
    *,
    strict: bool,
) -> int:
    from functools import partial

    from bench import block, conclusion, driver, plan, verdict
    from bench.interrupts import Attended
    from bench.progress import Shown

    asked = conclusion.load(thresholds, chosen)
    if thresholds is not None:
        _can_be_judged(asked, chosen, thresholds)
    play = block.run if target is None else partial(block.run, target=_there(target))
    out = _folder(given)
    takes = plan.seconds_left(chosen, 0, 0.0, len(plan.cells(chosen)))
    if takes > plan.LONG_S:
        say(f"this takes about {plan.length(takes)}; Ctrl-C keeps what was measured until then")
    with Attended() as signals:
        with Shown() as shown:
            ended = driver.run(chosen, out, shown, command=command, play=play, signals=signals)
        judged = conclusion.conclude(ended.run, asked, out)
        say(f"{_came_to(ended)} is in {out}")
        return ExitCode.INTERRUPTED if signals.interrupted else verdict.exit_code(judged, strict=strict)


def _came_to(ended: "driver.Ended") -> str:
    if ended.failure is not None:
        return f"it broke off: {ended.failure}; what was measured"
    return "stopped; what was measured" if ended.interrupted else "all of it"


def _can_be_judged(asked: "Iterable[Threshold]", chosen: "Plan", path: Path) -> None:
    """Raise ``ConfigError`` where a threshold is about what this run does not measure: it could but fail."""
    from bench.metrics import SERVER_SIDE
    from bench.scenarios import find

    planned = [find(name).name for name in chosen.scenarios]
    for each in asked:
        for name in (each.scenario, each.vs):
            if name is not None and name not in planned:
                raise ConfigError(
                    f"{path}: threshold {each.id!r} is about {name}, and this run measures {', '.join(planned)}; "
                    f"add --scenario {name}, another --profile, or take the threshold out"
                )
        if chosen.url is not None and each.metric in SERVER_SIDE:
            raise ConfigError(
                f"{path}: threshold {each.id!r} is about {each.metric}, and of a server that was there already only "
                "the clients' figures are known; leave out --url, or take the threshold out"
            )


def _there(target: Target) -> "block.Target":
    """The server that is there already, once it has answered; and a token for each simulated user.

    Where the local secret is the server's they are different people; else all have the one token that was given.
    """
    from bench import block
    from bench.load.order import Place
    from jobctl.cli import credentials

    target.reach()
    address = target.address()
    token = target.token()

    def tokens(users: int) -> list[str]:
        if token is credentials.sign_local:
            return [credentials.sign_local(subject=f"bench-{n:05d}") for n in range(users)]
        return [token if isinstance(token, str) else token()] * users

    say("a server that was there already: the figures are the clients' alone, without its CPU, memory and database")
    return block.Target(Place(address.host, address.port, address.secure, address.prefix), tokens)


def _folder(out: Path | None) -> Path:
    if out is None:
        from datetime import datetime

        out = Path(f"jobctl-bench-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already; choose another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {out}: {error.strerror}; choose another folder with --out") from None
    return out


def _command(
    chosen: "Plan", given: dict[str, Any], thresholds: Path | None, token_file: Path | None, *, strict: bool
) -> tuple[str, ...]:
    """What repeats this run."""
    words = ["jobctl", "bench", "run", "--profile", chosen.profile]
    options = {"scenarios": "--scenario"}
    for name, value in given.items():
        option = options.get(name, "--" + name.replace("_", "-"))
        for each in value if isinstance(value, list) else [value]:
            words += [option, f"{each:g}" if isinstance(each, float) else str(each)]
    words += ["--seed", str(chosen.seed)]
    if thresholds is not None:
        words += ["--thresholds", str(thresholds)]
    if chosen.url is not None:
        words += ["--url", chosen.url]
    if token_file is not None:
        words += ["--token-file", str(token_file)]
    if strict:
        words.append("--strict")
    return tuple(words)
