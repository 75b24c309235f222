"""The report as one HTML file: no script, nothing from the network, all text from outside escaped by the template."""

import shlex
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench import cost
from bench.metrics import METRICS, WINDOW_S, scaled_back
from bench.report import claims
from bench.report.charts import bars, forest, growth, missed, staleness, surface, traffic
from bench.report.charts.svg import legend
from bench.report.figures import amount, between, duration, number, ratios, repeats, saving, scaled_note, size
from bench.report.look import GLYPHS, OUTCOMES, VERDICTS, measured, spread
from bench.result import Fit, Run
from bench.verdict import baseline, rivals_of_push
from jobctl.cli.output import safe

PUSH: Final = "ws"
OPTIMISTIC: Final = (
    "Bands are optimistic: the blocks of a repeat share its idle control, and are taken for independent of each other."
)


class Figure(NamedTuple):
    """A chart with what it shows."""

    title: str
    svg: Markup
    note: str = ""
    legend: Markup = Markup("")
    more: bool = False
    """Folded away: of a scenario that is not the one that all is shown against."""


class Headline(NamedTuple):
    """One figure, large."""

    words: str
    figure: str
    detail: str
    tone: str


def render(run: Run) -> str:
    """The whole page. Raises ``ValueError``: a histogram of the run is none."""
    return _environment().get_template("report.html.j2").render(**_context(run))


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("bench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.finalize = _visible
    found.filters |= {"number": number, "amount": amount, "duration": duration, "size": size}
    return found


def _visible(value: object) -> object:
    """Text from outside without what a terminal would obey, were the page shown on one, and what hides in a browser."""
    return safe(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _context(run: Run) -> dict[str, Any]:
    word, mood = VERDICTS[run.conclusion]
    return {
        "run": run, "word": word, "mood": mood, "glyph": GLYPHS[mood], "headline": claims.headline(run),
        "about": _about(run),
        "figures": _headlines(run), "claims": claims.beside_polling(run), "polling": claims.where_polling_wins(run),
        "thresholds": [
            {
                "is": each, "word": OUTCOMES[each.outcome][0], "mood": OUTCOMES[each.outcome][1],
                "glyph": GLYPHS[OUTCOMES[each.outcome][1]], "measured": measured(each), "spread": spread(each),
            }
            for each in run.thresholds
        ],
        "sections": [(title, found) for title, found in _sections(run) if found], "scale_table": _scale_table(run),
        "rate": claims.rate_shown(run), "table": _table(run), "table_scenarios": _shown_scenarios(run),
        "glyphs": GLYPHS,
        "command": shlex.join(run.command), "window": duration(WINDOW_S), "scaled": scaled_note(run.plan.time_scale),
        "environment": _surroundings(run), "shown_at": claims.shown_at(run),
        "found_words": "What was found" if claims.believed(run) else claims.NOT_BELIEVED.capitalize(),
        "limits_words": "Thresholds" if claims.believed(run) else f"Thresholds, {claims.NOT_JUDGED}",
    }  # fmt: skip


def _about(run: Run) -> list[str]:
    plan = run.plan
    found = [
        f"profile {plan.profile}", f"{' / '.join(str(each) for each in plan.clients)} clients",
        f"a poll each {duration(plan.interval)}", claims.updates(run),
        repeats(plan.repeats), scaled_note(plan.time_scale), claims.extrapolated(run),
        claims.compared_at(run),
        f"against {plan.url}, clients' figures only" if plan.url else "",
    ]  # fmt: skip
    return [each for each in found if each]


def _headlines(run: Run) -> list[Headline]:
    poll = baseline(run)
    if poll is None or PUSH not in run.plan.scenarios or not claims.believed(run):
        return []
    return [
        found for found in (
            _ratio(run, "Requests", "requests_per_client", poll, many=True), _delay(run, poll),
            _ratio(run, "Server CPU", "cpu_s_attributable", poll, many=False),
            _ratio(run, "Bytes on the wire", "wire_bytes_per_client", poll, many=True),
        ) if found
    ]  # fmt: skip


def _ratio(run: Run, words: str, metric: str, poll: str, *, many: bool) -> Headline | None:
    found, both = claims.comparison(run, metric, PUSH, poll), claims.compared(run, metric, poll)
    if found is None or both is None:
        return None
    ours, theirs = both
    detail = claims.against(ours, theirs, metric, poll) + claims.scaled_cpu(run, metric)
    exact = found.low is None or found.high is None or found.high - found.low < 1e-9
    if found.ratio is not None and not exact:
        detail += f"; paired ratio {number(found.ratio)}, {ratios(found.low, found.high)}"
    if found.ratio is None:  # nothing above the noise on the side of polling
        dearer = ours.low is not None and ours.low > 0
        return Headline(
            words, f"{poll} is cheaper" if dearer else "not above the noise", detail, "poll" if dearer else "even"
        )
    if not claims.differ(found):
        return Headline(words, "no difference", detail + " (none that this run resolves)", "even")
    figure = saving(found.ratio, counted=many).replace(" times as many", "×").replace(" times as much", "×")
    return Headline(words, figure, detail, "push" if found.ratio < 1 else "poll")


def _delay(run: Run, poll: str) -> Headline | None:
    both, found = claims.compared(run, "staleness_s.p99", poll), claims.comparison(run, "staleness_s.p99", PUSH, poll)
    if both is None or found is None:
        return None
    ours, theirs = both
    life = (
        f", about {duration(scaled_back(theirs.value, poll, run, 0.99))} unscaled" if run.plan.time_scale != 1 else ""
    )
    tone = "even" if not found.resolvable else "push" if ours.value < theirs.value else "poll"
    return Headline("Seen within (p99)", duration(ours.value), f"{poll}: {duration(theirs.value)}{life}", tone)


def _sections(run: Run) -> list[tuple[str, list[Figure]]]:
    poll = baseline(run)
    rivals = [each for each in rivals_of_push(run) if each not in (poll, "poll-limited")]
    return [
        ("Push over polling", _forests(run, [each for each in (poll, *rivals) if each])),
        ("How stale an update is", _staleness(run)),
        ("What it takes", _traffic(run)),
        ("What it costs the server", _costs(run)),
        ("Where polling gets cheaper", _surfaces(run)),
        ("What many clients cost", _growth(run, claims.shown_fits(run))),
        ("What clients missed", _missed(run)),
    ]


def _forests(run: Run, rivals: Sequence[str]) -> list[Figure]:
    note = (
        "Dots are ratios, the geometric mean of those of each repeat's pair; lines are their 95% intervals. One that "
        "crosses 1 is no difference that this run resolves."
    )
    scale = forest.scale_of([each for vs in rivals for each in forest.rows_of(run, PUSH, vs)])
    drawn = [(vs, forest.draw(run, PUSH, vs, scale)) for vs in rivals]
    return [Figure(f"{PUSH} over {vs}", svg, "" if k else note, more=k > 1) for k, (vs, svg) in enumerate(drawn) if svg]


def _staleness(run: Run) -> list[Figure]:
    shown = staleness.curves(run)
    key = staleness.legend_of(shown)
    notes = (
        "As one waits for it. A poll sees an update anywhere between at once and a whole interval later.",
        "The same, with milliseconds told apart. Commit to first seen, at every client, all repeats together.",
    )
    drawn = (staleness.draw(shown, log=False), staleness.draw(shown, log=True))
    titles = ("On a linear axis", "On a logarithmic axis")
    return [Figure(title, svg, note, key) for title, svg, note in zip(titles, drawn, notes, strict=True) if svg]


def _traffic(run: Run) -> list[Figure]:
    key = legend(traffic.scenarios(run))
    found = []
    for title, svg in (
        ("Requests a client, adding up", traffic.draw(run, "requests")),
        ("Bytes a client, adding up", traffic.draw(run, "transferred")),
    ):
        found += (
            [Figure(title, svg, f"The first repeat of each scenario. {claims.shown_at(run)}".strip(), key)]
            if svg
            else []
        )
    return [
        *found,
        *_bars(run, ("requests_per_client", "connections_per_client", "wire_bytes_per_client", "db_queries")),
    ]


def _costs(run: Run) -> list[Figure]:
    return _bars(run, ("cpu_s_attributable", "rss_per_client"))


def _bars(run: Run, names: Sequence[str]) -> list[Figure]:
    notes = {
        "cpu_s_attributable": "Process CPU less that of the idle control of the same repeat, scaled back to the real "
        "pace. Lines are 95% intervals.",
        "rss_per_client": "The slope of resident memory over the number of clients, the idle control being none.",
    }
    found = []
    for name in names:
        svg = bars.draw(run, name)
        title = f"{METRICS[name].words}, {METRICS[name].unit}".replace("bytes per", "per").replace(", bytes", "")
        note = f"{notes.get(name, '')} {claims.shown_at(run)}".strip()
        found += [Figure(title, svg, note)] if svg else []
    return found


def _surfaces(run: Run) -> list[Figure]:
    things = {"cpu": "Server CPU", "wire": "Bytes on the wire"}
    found = []
    for vs in cost.BY_INTERVAL:
        for resource, words in things.items():
            svg = surface.draw(run, vs, resource)
            if svg:
                title, more = f"{words}: {PUSH} over {vs}", vs != baseline(run)
                found.append(Figure(title, svg, _line_in_words(run, vs, resource), more=more))
    return found


def _line_in_words(run: Run, vs: str, resource: str) -> str:
    parts = []
    for point in run.break_even:
        if (point.vs, point.resource) != (vs, resource) or point.interval not in (2.0, 10.0, 30.0, 120.0, 900.0):
            continue
        if point.updates_per_s is None:
            parts.append(f"{duration(point.interval)}, {point.note}")
        else:
            parts.append(f"{duration(point.interval)}, at {claims.rate_in_words(point)}")
    lead = "Below 1 push is cheaper, above 1 polling; faint figures are beyond the rates measured. "
    return lead + ("Where both cost alike, with a poll each " + "; ".join(parts) + "." if parts else "")


def _growth(run: Run, fits: Sequence[Fit]) -> list[Figure]:
    note = (
        "Lines are the fitted a + N(b + c·r), bands their 95% intervals, dots what was measured. Dashed is "
        "extrapolation, a full core's too; nothing is drawn beyond it. " + OPTIMISTIC
    )
    key = legend(each.scenario for each in fits)
    found: list[Figure] = []
    for rate in dict.fromkeys((claims.rate_shown(run), max(run.plan.updates, default=0.0))):
        svg = growth.draw(run, fits, rate)
        found += [Figure(f"At {number(rate)} updates/s", svg, "" if found else note, key)] if svg else []
    return found


def _missed(run: Run) -> list[Figure]:
    svg = missed.draw(run)
    if svg is None:
        return []
    key = Markup(
        '<p class="legend"><span><i class="seen"></i>seen</span>'
        '<span><i class="superseded"></i>superseded unseen</span><span><i class="lost"></i>lost</span></p>'
    )
    note = (
        "Superseded: a later state of the same job came before anybody looked. Lost: never seen though there was time."
    )
    found = [Figure("Of all updates, at all clients", svg, note, key)]
    for scenario in missed.scenarios(run):
        each = missed.by_client(run, scenario)
        if each:
            title, more = f"{scenario}, client by client", scenario not in (PUSH, baseline(run))
            found.append(Figure(title, each, "A column a client, of the first repeat.", more=more))
    return found


def _scale_table(run: Run) -> list[dict[str, str]]:
    rate = claims.rate_shown(run)
    rows = []
    for fitted in claims.shown_fits(run):
        row = {"scenario": fitted.scenario} | {k: duration(getattr(fitted, k)) for k in ("a", "b", "c")}
        for clients in cost.EXTRAPOLATED:
            try:
                found = cost.cost(fitted, clients, rate)
                row[str(clients)] = f"{number(found.value)} ({between(found.low, found.high)})" + (
                    f", extrapolated from {number(fitted.max_clients)}" if found.extrapolated else ""
                )
            except cost.Saturated as full:
                row[str(clients)] = f"refused: beyond a core, {claims.filled(full, fitted)}"
        rows.append(row)
    return rows


def _shown_scenarios(run: Run) -> list[str]:
    there = {each.scenario for each in run.estimates}
    return [name for name in run.plan.scenarios if name in there and name != "idle"]


def _table(run: Run) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Rows of all estimates: words, unit, and of each scenario value and interval."""
    rows = []
    for name, metric in METRICS.items():
        cells = []
        for scenario in _shown_scenarios(run):
            found = claims.estimate(run, name, scenario)
            varies = found is not None and found.low is not None and found.high is not None and found.high > found.low
            varies = varies and found is not None and found.mean >= 0
            nothing = "not resolvable (one size)" if name == "rss_per_client" and _of_one_size(run, scenario) else ""
            cells.append(
                (
                    amount(found.mean, name) if found else nothing,
                    between(found.low, found.high, name) if found and varies else "",
                )
            )
        if any(value for value, _ in cells):
            rows.append((metric.words, metric.unit, cells))
    return rows


def _of_one_size(run: Run, scenario: str) -> bool:
    """Whether there are figures of memory, and no slope to be had of them."""
    return len({each.clients for each in run.blocks if each.scenario == scenario and each.server is not None}) == 1


def _surroundings(run: Run) -> list[tuple[str, str]]:
    where = run.environment
    return [
        ("started", run.started_at), ("took", duration(run.seconds)), ("jobctl", where.jobctl),
        ("Python", where.python),
        ("platform", where.platform), ("processor", f"{where.processor}, {where.cpus} cores"),
        ("memory", size(where.memory)),
        ("server on cores", ", ".join(map(str, where.server_cpus)) or "any"),
        ("load on cores", ", ".join(map(str, where.load_cpus)) or "any"), ("durability", where.durability),
        ("seed", str(run.plan.seed)), *sorted(where.versions.items()),
    ]  # fmt: skip
