"""What a run says, in sentences with figures: the same ones in the terminal, in Markdown and in HTML.

Where polling is cheaper, that is said in the same breath and the same size.
"""

import math
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, get_args

from bench import cost
from bench.metrics import METRICS, POLLING, PUSHING, WINDOW_S, Cell, cells, common_cell, scaled_back, shown_cell
from bench.report.figures import amount, between, duration, number, ratios, saving
from bench.result import BreakEven, Comparison, Estimate, Fit, Outcome, Run
from bench.statistics import Interval, mean
from bench.verdict import baseline, pairs, rivals_of_push

Tone = Literal["push", "poll", "even", "note"]
PUSH: Final = "ws"
DEAREST: Final = {"poll", "poll-limited"}
THRIFTIER: Final = (
    "Polling over a connection that is kept, or with ETags, is cheaper in connections and bytes than poll; "
    "--profile ci measures that."
)
WORKLOAD: Final = "updates: whatever that server does"
THINGS: Final = {
    "cpu_s_attributable": "server CPU", "wire_bytes_per_client": "bytes on the wire", "db_queries": "database reads",
    "connections_per_client": "connections", "rss_per_client": "server memory a client",
}  # fmt: skip
"""What push may save, or cost."""


class Claim(NamedTuple):
    """A sentence, and whom it speaks for."""

    text: str
    tone: Tone


def estimate(run: Run, metric: str, scenario: str) -> Estimate | None:
    """The figure, where there is one."""
    return next((each for each in run.estimates if (each.metric, each.scenario) == (metric, scenario)), None)


def comparison(run: Run, metric: str, scenario: str, vs: str) -> Comparison | None:
    """The two compared, where they were."""
    wanted = (metric, scenario, vs)
    return next((each for each in run.comparisons if (each.metric, each.scenario, each.vs) == wanted), None)


def differ(found: Comparison) -> bool:
    """Whether the two are different: beyond the noise, or in a count, which has none, also where it has no interval."""
    if found.ratio is None:
        return False
    exact = METRICS[found.metric].kind == "count" and found.low is None
    return found.resolvable or (exact and not math.isclose(found.ratio, 1, rel_tol=1e-9))


def compared(run: Run, metric: str, vs: str) -> tuple[Interval, Interval] | None:
    """What the stream and ``vs`` took, at what both were measured at; the figures that their comparison is of."""
    ours, theirs = pairs(run, METRICS[metric], PUSH, vs)
    return (mean(ours), mean(theirs)) if ours else None


def headline(run: Run) -> str:
    """The verdict in one sentence."""
    failed = [each for each in run.thresholds if each.outcome in ("fail", "no_data") and each.severity == "fail"]
    open_ = [each for each in run.thresholds if each.outcome == "inconclusive" and each.severity == "fail"]
    match run.conclusion:
        case "invalid":
            wrong = [each.detail for each in run.checks if not each.passed]
            return f"This run is not to be believed: {wrong[0] if wrong else 'it was not judged'}."
        case "fail":
            return (
                f"{len(failed)} of {len(run.thresholds)} thresholds failed: {', '.join(e.id for e in failed[:3])}"
                + (", and more." if len(failed) > 3 else ".")
            )
        case "inconclusive" if not run.thresholds:
            return "No threshold was asked for, so nothing is shown."
        case "inconclusive":
            return f"{len(open_)} of {len(run.thresholds)} thresholds cannot be told from noise: try more repeats."
        case "pass":
            return _saved(run)


def _saved(run: Run) -> str:
    poll = baseline(run)
    found = comparison(run, "requests_per_client", PUSH, poll) if poll else None
    held = _held(run)
    if found is None or found.ratio is None or found.ratio >= 1:
        return f"{held[0].upper()}{held[1:]}."
    return f"Push took {saving(found.ratio, counted=True)} requests than polling; {held}."


def _held(run: Run) -> str:
    """How many thresholds hold. Those that only warn fail nothing; still they do not hold."""
    total = len(run.thresholds)
    count = {outcome: sum(each.outcome == outcome for each in run.thresholds) for outcome in get_args(Outcome)}
    if count["pass"] == total:
        return f"all {total} thresholds hold" if total > 1 else "the threshold holds"
    parts = [f"{count['pass']} of {total} threshold{'' if total == 1 else 's'} {_verb(count['pass'], 'hold')}"]
    warned = count["warn"] + count["fail"]
    parts += [f"{warned} {_verb(warned, 'warn')}"] if warned else []
    parts += [f"{count['no_data']} without data"] if count["no_data"] else []
    parts += [f"{count['inconclusive']} undecided"] if count["inconclusive"] else []
    return ", ".join(parts)


def _verb(count: int, word: str) -> str:
    return f"{word}s" if count == 1 else word


def claims(run: Run) -> list[Claim]:
    """All sentences, the most telling first. Of an invalid run too: it says why above."""
    poll = baseline(run)
    found = [*(_against(run, poll) if PUSH in run.plan.scenarios else ()), *_storm(run), *_limits(run)]
    return [*found, *_break_even(run), *_at_scale(run)]


def believed(run: Run) -> bool:
    """Whether figures may be shown as findings."""
    return run.conclusion != "invalid"


NOT_BELIEVED: Final = "what was measured, and is not to be believed"
"""Over the findings of an invalid run."""
NOT_JUDGED: Final = "of no account: the run is invalid"
"""Beside its thresholds."""


def beside_polling(run: Run) -> list[Claim]:
    """The sentences that do not speak for polling."""
    return [each for each in claims(run) if each.tone != "poll"]


def compared_at(run: Run) -> str:
    """What the blocks were asked that push and polling are compared by, where the plan has several of it."""
    poll = baseline(run)
    cell = common_cell(run, PUSH, poll) if poll and len(cells(run, PUSH)) > 1 else None
    return f"{PUSH} and {poll} compared at {at(run, cell)}" if cell else ""


def shown_at(run: Run) -> str:
    """The same of the figures of all scenarios beside each other."""
    cell = shown_cell(run, PUSH)
    return f"At {at(run, cell)}." if cell and len(cells(run, PUSH)) > 1 else ""


def at(run: Run, cell: Cell) -> str:
    """A cell in words, on a clock of 1."""
    rate = "" if run.plan.url else f" and {number(cell.updates_per_s / run.plan.time_scale)} updates/s"
    return f"{number(cell.clients)} clients{rate}"


def updates(run: Run) -> str:
    """How many updates there were; nobody drives any at a server that was there already."""
    return WORKLOAD if run.plan.url else f"{' / '.join(number(each) for each in run.plan.updates)} updates/s"


def extrapolated(run: Run) -> str:
    """That counts are of less than the 15 minutes they are said of, and what that does to them; empty where not."""
    measured = run.plan.duration
    if measured >= WINDOW_S:
        return ""
    weight = number(WINDOW_S / measured)
    return f"counts extrapolated from {duration(measured)}: what a client does once weighs {weight}-fold"


def where_polling_wins(run: Run) -> list[Claim]:
    """The sentences that speak for polling; one that says so where there is none, or none to be had."""
    rivals = {each.vs for each in run.comparisons if each.scenario == PUSH and each.vs in POLLING}
    if not rivals:
        return [*_for_polling(run), Claim("Push and polling were not compared here.", "note")]
    found = _for_polling(run) or [Claim("In nothing that this run measured was polling cheaper than push.", "note")]
    if rivals <= DEAREST:
        found.append(Claim(THRIFTIER, "note"))
    return found


def _for_polling(run: Run) -> list[Claim]:
    return [each for each in claims(run) if each.tone == "poll"]


def _against(run: Run, poll: str | None) -> Iterator[Claim]:
    if poll is not None:
        yield from _requests(run, poll)
        yield from _staleness(run, poll)
        for metric, thing in THINGS.items():
            yield from _versus(run, metric, thing, poll)
    for other in (each for each in rivals_of_push(run) if each not in (poll, "poll-limited")):
        yield from _in_short(run, other)
    yield from _missed(run, poll)


def _in_short(run: Run, other: str) -> Iterator[Claim]:
    """What push saves over another way of polling, in one sentence; each thing that it does not, in one of its own."""
    # The built-in ways of polling send as many requests as the baseline does.
    things = THINGS if other in POLLING and baseline(run) != other else {"requests_per_client": "requests"} | THINGS
    found = {metric: list(_versus(run, metric, thing, other)) for metric, thing in things.items()}
    saved = []
    for metric, thing in things.items():
        if any(each.tone == "push" for each in found[metric]):
            ratio = comparison(run, metric, PUSH, other)
            if ratio is not None and ratio.ratio is not None:
                saved.append(f"{saving(ratio.ratio, counted=_many(metric))} {thing}")
    if saved:
        yield Claim(f"Against {other}, push took {_listed(saved)}.", "push")
    for each in found.values():
        yield from (claim for claim in each if claim.tone == "poll")


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _many(metric: str) -> bool:
    return METRICS[metric].kind == "count" or METRICS[metric].unit.startswith("bytes per")


def _requests(run: Run, poll: str) -> Iterator[Claim]:
    both, found = compared(run, "requests_per_client", poll), comparison(run, "requests_per_client", PUSH, poll)
    if both is None or found is None or found.ratio is None:
        return
    ours, theirs = both
    tone: Tone = "push" if found.ratio < 1 else "poll" if found.ratio > 1 else "even"
    yield Claim(
        f"{PUSH} needed {number(ours.value)} requests a client in 15 minutes where {poll} needed "
        f"{number(theirs.value)}: {saving(found.ratio, counted=True)}.", tone,
    )  # fmt: skip
    empty = compared(run, "empty_requests", poll)
    if run.plan.url is None and empty is not None and empty[1].value > 0:
        none, some = empty
        yield Claim(
            f"Of those of {poll}, {number(some.value)} found nothing new; of {PUSH}, {number(none.value)}.",
            "push" if none.value < some.value else "poll",
        )


def _staleness(run: Run, poll: str) -> Iterator[Claim]:
    both, found = compared(run, "staleness_s.p99", poll), comparison(run, "staleness_s.p99", PUSH, poll)
    if both is None or found is None:
        return
    ours, theirs = both
    real = scaled_back(theirs.value, poll, run, 0.99)
    life = f" (about {duration(real)} unscaled)" if run.plan.time_scale != 1 else ""
    told = f"{duration(ours.value)} by {PUSH}, within {duration(theirs.value)}{life} by {poll}"
    if not found.resolvable:
        yield Claim(f"99 of 100 updates were seen within {told}; this run resolves no difference.", "even")
    else:
        yield Claim(f"99 of 100 updates were seen within {told}.", "push" if (found.ratio or 0) < 1 else "poll")


def _versus(run: Run, metric: str, thing: str, poll: str) -> Iterator[Claim]:
    found, both = comparison(run, metric, PUSH, poll), compared(run, metric, poll)
    if found is None or both is None:
        return
    ours, theirs = both
    figures = against(ours, theirs, metric, poll) + scaled_cpu(run, metric)
    many = _many(metric)
    polling = "Polling" if poll in POLLING else poll
    if found.ratio is None:
        # Nothing, or nothing above the noise, on the side of polling: then what push costs is dearer, if it is a cost.
        costs = ours.low is not None and ours.low > 0
        yield Claim(
            f"{polling} is cheaper in {thing}: {figures}."
            if costs
            else f"In {thing} neither is above the noise: {figures}.",
            "poll" if costs else "even",
        )
    elif not differ(found):
        yield Claim(f"In {thing} this run resolves no difference: {figures}.", "even")
    else:
        exact = found.low is None or found.high is None or found.high - found.low < 1e-9
        interval = "" if exact else f" (paired ratio {number(found.ratio)}, {ratios(found.low, found.high)})"
        if found.ratio < 1:
            yield Claim(f"Push took {saving(found.ratio, counted=many)} {thing}: {figures}{interval}.", "push")
        else:
            yield Claim(
                f"{polling} is cheaper in {thing}: push took {saving(found.ratio, counted=many)}, {figures}{interval}.",
                "poll",
            )


def against(ours: Interval, theirs: Interval, metric: str, vs: str) -> str:
    """Both figures; where one is below the control, that it is lost in noise."""
    if theirs.value < 0:
        return f"{amount(ours.value, metric)}, that of {vs} {amount(theirs.value, metric)}"
    return f"{amount(ours.value, metric)} against {amount(theirs.value, metric)} of {vs}"


def scaled_cpu(run: Run, metric: str) -> str:
    """That a figure is not what the server's process showed; empty where it is."""
    return ", scaled back to the real pace" if metric == "cpu_s_attributable" and run.plan.time_scale != 1 else ""


def _missed(run: Run, poll: str | None) -> Iterator[Claim]:
    for scenario in (each for each in run.plan.scenarios if each == poll or each in PUSHING):
        lost, superseded = (estimate(run, f"updates_{each}", scenario) for each in ("lost", "superseded"))
        due = sum(each.updates.due for each in run.blocks if each.scenario == scenario)
        if lost is None or superseded is None or not due:
            continue
        total = sum(superseded.values)
        if sum(lost.values) > 0:
            yield Claim(f"{scenario} lost {number(sum(lost.values))} of {number(due)} updates.", "note")
        if total > 0:
            yield Claim(
                f"{scenario} never showed {number(total)} of {number(due)} updates: a later one came first.",
                "push" if scenario == poll else "note",
            )


def _storm(run: Run) -> Iterator[Claim]:
    if "ws-churn" not in run.plan.scenarios:
        return
    lost = estimate(run, "updates_lost", "ws-churn")
    if lost is not None and any(each.updates.due for each in run.blocks if each.scenario == "ws-churn"):
        what = "none was lost" if sum(lost.values) == 0 else f"{number(sum(lost.values))} were lost"
        yield Claim(f"When every client was cut off and came back, of the updates meanwhile {what}.", "note")


def _limits(run: Run) -> Iterator[Claim]:
    for scenario in run.plan.scenarios:
        found = estimate(run, "rate_limited", scenario)
        if found is not None and found.mean > 0:
            yield Claim(f"{scenario} was refused {number(found.mean)} times by the rate limit (429).", "push")


def _break_even(run: Run) -> Iterator[Claim]:
    for point in run.break_even:
        poll_interval = cost.interval_of(run, point.vs)
        if point.vs != (baseline(run) or "") or abs(point.interval - poll_interval) > 1e-6:
            continue
        thing = {"cpu": "CPU", "wire": "bytes on the wire"}.get(point.resource, point.resource)
        lead = f"In {thing}, against a poll each {duration(point.interval)}, "
        if point.updates_per_s is None:
            yield Claim(lead + point.note + ".", "poll" if point.note == cost.CHEAPER_POLL else "push")
        else:
            side, _, rest = point.note.partition(" is cheaper above")
            yield Claim(f"{lead}{side} is cheaper above {rate_in_words(point)}{rest}.", "poll")


def rate_in_words(point: BreakEven) -> str:
    """Where both cost alike, with its band if that has a width: ``1.49 updates/s (1.42 to 1.56)``."""
    rate, low, high = point.updates_per_s or 0.0, point.low, point.high
    wide = low is not None and high is not None and number(low) != number(high)
    return f"{number(rate)} updates/s" + (f" ({between(low, high)})" if wide else "")


def _at_scale(run: Run) -> Iterator[Claim]:
    rate = rate_shown(run)
    for fitted in (each for each in shown_fits(run) if each.scenario in (PUSH, baseline(run))):
        parts = []
        for clients in cost.EXTRAPOLATED:
            try:
                found = cost.cost(fitted, clients, rate)
            except cost.Saturated as full:
                parts.append(f"{clients:,} clients are beyond one core, {filled(full, fitted)}")
                break
            mark = f", an extrapolation from up to {number(fitted.max_clients)}" if found.extrapolated else ""
            parts.append(
                f"{clients:,} clients take {number(found.value)} cores ({between(found.low, found.high)}{mark})"
            )
        yield Claim(f"{fitted.scenario} at {number(rate)} updates/s: {'; '.join(parts)}.", "note")


def filled(full: cost.Saturated, fitted: Fit) -> str:
    """Where a core is full, and what that is known from."""
    basis = f", extrapolated from up to {number(fitted.max_clients)}" if full.clients > fitted.max_clients else ""
    return f"which is full at {number(full.clients)}{basis}"


def shown_fits(run: Run) -> list[Fit]:
    """The CPU fits on a clock of 1, of those who are served."""
    mine = [each for each in run.fits if each.resource == "cpu" and each.scenario != "poll-limited"]
    return [cost.scaled_back(each, run.plan.time_scale) for each in mine]


def rate_shown(run: Run) -> float:
    """Updates/s that costs are shown at, on a clock of 1: what was asked for first."""
    return run.plan.updates[0] if run.plan.updates else 0.0
