"""The report, in all its forms, of runs that nobody ran. Hostile names are what a user's own scenario may be called."""

import functools
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import bench_kit as kit
import msgspec
import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from rich.console import Console

from bench import thresholds, verdict
from bench.report import claims, figures, html, junit, markdown, terminal
from bench.report.charts import svg
from bench.report.look import GLYPHS, OUTCOMES
from bench.report.write import write
from bench.result import Check, Run, decode
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


class Outline(HTMLParser):
    """Tags and attributes, as a browser would find them."""

    VOID = ("meta", "link", "br", "img", "input")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


# --- words


def test_the_claims_have_the_figures():
    told = [each.text for each in claims.claims(whole())]
    assert "ws needed 3 requests a client in 15 minutes where poll needed 90: 97% fewer." in told
    assert "Of those of poll, 45 found nothing new; of ws, 0." in told
    assert (
        "Push took 87% less server CPU: 0.254% of a core against 1.89% of a core of poll (ratio 0.134, 0.127 to 0.141)."
    ) in told
    assert any(" by ws, within 1.49 s (29.8 s unscaled) by poll." in each for each in told)
    assert any("1,000,000 clients are beyond one core" in each for each in told)
    assert any("an extrapolation" in each for each in told)
    assert "poll-limited was refused 20 times by the rate limit (429)." in told


def test_where_polling_is_cheaper_is_said_as_plainly():
    told = [each.text for each in claims.where_polling_wins(whole())]
    assert any(each.startswith("Polling is cheaper in server memory a client: push took 4") for each in told)
    assert any("Polling is cheaper in bytes on the wire" in each and "longpoll" in each for each in told)
    assert any(
        re.search(r"In CPU, against a poll each 30 s, polling is cheaper above 1\.\d+ updates/s", e) for e in told
    )
    for form in (shown(whole()), markdown.render(whole()), page()):
        assert "Where polling is cheaper" in form
        assert "Polling is cheaper in server memory" in form
    assert claims.where_polling_wins(smoke())[0].tone == "poll"


def test_if_polling_costs_less_cpu_that_is_said():
    blocks = [
        msgspec.structs.replace(each, server=msgspec.structs.replace(each.server, cpu_s=each.server.cpu_s * 50))
        if each.scenario == "ws"
        else each
        for each in kit.noisy(kit.run(repeats=3).blocks)
    ]
    (told,) = [each for each in claims.claims(smoke(blocks=tuple(blocks))) if "server CPU" in each.text]
    assert told.tone == "poll"
    assert told.text.startswith("Polling is cheaper in server CPU: push took")


def test_a_delay_lost_in_noise_is_no_finding():
    def seen(each):
        if each.scenario == "idle":
            return each
        slow = 1.0 if each.scenario == "poll" else (0.001, 1.0, 3.0)[each.repeat]
        return msgspec.structs.replace(each, staleness=kit.staleness([slow] * 100))

    run = smoke(blocks=tuple(seen(each) for each in kit.run(repeats=3).blocks))
    (told,) = [each for each in claims.claims(run) if "99 of 100" in each.text]
    assert told.tone == "even"
    assert told.text.endswith("this run resolves no difference.")


def test_no_difference_is_called_none():
    blocks = []
    for each in kit.noisy(kit.run(repeats=3).blocks, spread=0.4):
        cpu_s = kit.block("poll").server.cpu_s * (1 + each.repeat) if each.scenario == "ws" else each.server.cpu_s
        blocks.append(msgspec.structs.replace(each, server=msgspec.structs.replace(each.server, cpu_s=cpu_s)))
    (told,) = [each for each in claims.claims(smoke(blocks=tuple(blocks))) if "server CPU" in each.text]
    assert told.tone == "even"
    assert "resolves no difference" in told.text


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (smoke([Threshold("few", "requests_per_client", "ws", "poll", max_ratio=0.1)]), "Push took 97% fewer requests"),
        (smoke([Threshold("low", "requests_per_client", "ws", max=1)]), "1 of 1 thresholds failed: low."),
        (smoke([Threshold("cpu", "staleness_s.p50", "ws", max=1)]), "1 of 1 thresholds failed: cpu."),
        (smoke(complete=False), "not to be believed: the run was interrupted"),
        (smoke(), "nothing is shown"),
    ],
)
def test_the_headline_is_the_verdict(run, said):
    assert said in claims.headline(run)
    assert said in shown(run, width=200).splitlines()[0]
    assert said in html.render(run)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (90, "90"), (1 / 30, "0.0333"), (1.5, "1.5"), (12_345, "12,345"), (1_234_567, "1,230,000"), (100, "100"),
     (999.6, "1000"), (0.000123456, "0.000123"), (-2.5, "-2.5"), (float("inf"), "∞")],
)  # fmt: skip
def test_numbers_have_the_digits_that_count(value, text):
    assert figures.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.00084, "840 µs"), (0.0042, "4.2 ms"), (0.9999, "1 s"), (29.7, "29.7 s"), (900, "15 min")],
)
def test_times_have_their_unit(seconds, text):
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0, "none at all"),
        (1 / 30, "97% fewer"),
        (0.99999, "0% fewer"),
        (0.0004, "99.9% fewer"),
        (2.4, "2.4 times as many"),
    ],
)
def test_nothing_is_rounded_up_to_all(ratio, text):
    assert figures.saving(ratio, counted=True) == text


def test_of_an_invalid_run_nothing_is_shown_as_found():
    run = smoke([Threshold("few", "requests_per_client", "ws", "poll", max_ratio=0.1)], complete=False)
    for form in (shown(run), markdown.render(run), html.render(run)):
        assert claims.NOT_BELIEVED.capitalize() in form
        assert f"Thresholds, {claims.NOT_JUDGED}" in form
    lines = shown(run)
    assert lines.index("Validity") < lines.index("97% fewer")
    assert 'class="headline push"' not in html.render(run)
    assert 'class="headline push"' in page()


def test_what_only_warns_does_not_hold():
    few = Threshold("few", "requests_per_client", "ws", "poll", max_ratio=0.1)
    low = Threshold("low", "requests_per_client", "ws", max=1, severity="warn")
    none = Threshold("none", "staleness_s.p50", "ws", max=1, severity="warn")
    run = smoke([few, low])
    assert run.conclusion == "pass"
    assert claims.headline(run).endswith("; 1 of 2 thresholds holds, 1 warns.")
    assert claims.headline(smoke([few, low, none])).endswith("; 1 of 3 thresholds holds, 1 warns, 1 without data.")
    assert claims.headline(smoke([few, few])).endswith("; all 2 thresholds hold.")
    assert len({*GLYPHS.values()}) == len(GLYPHS)
    assert GLYPHS[OUTCOMES["warn"][1]] not in {GLYPHS[OUTCOMES[e][1]] for e in ("pass", "fail", "inconclusive")}
    for form in (shown(run), markdown.render(run), html.render(run)):
        assert GLYPHS["warn"] in form


def test_what_was_not_measured_is_said_once():
    run = smoke([Threshold("storm", "updates_lost", "ws-churn", max=0)])
    assert "no data: updates_lost of ws-churn, not measured\n" in re.sub(" +\n", "\n", shown(run))


def test_an_interval_says_its_unit_once():
    assert figures.between(0.219, 0.269, "cpu_s_attributable") == "21.9% to 26.9% of a core"
    assert figures.between(None, 0.2) == ""


# --- terminal


def test_the_terminal_leads_with_the_verdict_and_fits():
    text = shown(whole(), width=80)
    assert text.splitlines()[0].startswith(" ✔ PASS  Push took 97% fewer requests than polling")
    assert max(len(each.rstrip()) for each in text.splitlines()) <= 80
    for heading in ("Where polling is cheaper", "Thresholds", "Validity"):
        assert heading in text
    for each in whole().thresholds:
        assert each.id in text


def test_nothing_from_outside_reaches_a_terminal_raw():
    assert any(each.text.startswith(HOSTILE) for each in claims.claims(hostile()))
    text = shown(hostile(), width=200, force_terminal=False)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[2J\\u202e" in text
    assert "[x](http" in text  # no markup of rich either


# --- Markdown


def test_markdown_is_short_enough_for_a_step_summary_and_shows_the_rest_folded():
    text = markdown.render(whole())
    assert len(text.encode()) < 100_000
    assert text.startswith("## ✔ jobctl bench: PASS\n\n**Push took 97% fewer requests")
    assert "| ✔ pass | ninety-percent-fewer-requests | requests\\_per\\_client of ws over poll |" in text
    assert "<details><summary>All figures</summary>" in text


def test_nothing_from_outside_is_markdown():
    text = markdown.render(hostile())
    for raw in ("<img", "[x]", "\x1b", "\u202e", "http://"):
        assert raw not in text, raw
    columns = 0
    for line in text.splitlines():
        found = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert found == columns or not found or not columns, line  # no cell of theirs opens another
        columns = found


# --- JUnit


def test_junit_has_a_case_a_threshold_and_a_check():
    document = JUnitXml.fromstring(junit.render(whole()).encode())
    validity, limits = list(document)
    assert [each.name for each in validity] == [each.id for each in whole().checks]
    assert [each.name for each in limits] == [each.id for each in whole().thresholds]
    assert (limits.failures, limits.errors, limits.skipped) == (0, 0, 0)


def test_junit_tells_what_failed_what_is_open_and_what_only_warns():
    asked = [
        Threshold("low", "requests_per_client", "ws", max=1),
        Threshold("warned", "requests_per_client", "ws", max=1, severity="warn"),
        Threshold("none", "staleness_s.p50", "ws", max=1),
        Threshold("none-warned", "staleness_s.p50", "ws", max=1, severity="warn"),
        Threshold("open", "requests_per_client", "ws", max=1, decide="ci"),
        Threshold("good", "requests_per_client", "ws", max=3),
    ]
    run = smoke(asked)
    run = msgspec.structs.replace(
        run,
        thresholds=tuple(
            msgspec.structs.replace(e, outcome="inconclusive") if e.id == "open" else e for e in run.thresholds
        ),
    )
    document = JUnitXml.fromstring(junit.render(run).encode())
    told = {each.name: each.system_out for each in list(document)[1]}
    assert {name for name, text in told.items() if text.startswith("warning: ")} == {"warned", "none-warned"}
    kinds = {each.name: [type(result) for result in each.result] for each in list(document)[1]}
    assert kinds == {
        "low": [Failure],
        "warned": [],
        "none": [Failure],
        "none-warned": [],
        "open": [Skipped],
        "good": [],
    }
    broken = JUnitXml.fromstring(junit.render(smoke(asked, complete=False)).encode())
    validity, limits = list(broken)
    assert {each.name: [type(e) for e in each.result] for each in validity}["complete"] == [Error]
    assert all([type(e) for e in each.result] == [Skipped] for each in limits)


def test_junit_holds_hostile_names():
    root = ET.fromstring(junit.render(hostile()))
    assert next(root.iter("testcase")).get("name") == HOSTILE.replace("\x1b", "\ufffd")


# --- HTML


def test_the_page_needs_nothing_but_itself():
    for text in (page(), html.render(smoke()), html.render(hostile())):
        outline = Outline(text)
        assert not outline.open
        names = {tag for tag, _ in outline.tags}
        assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "image", "use", "a"}
        for _, attributes in outline.tags:
            assert not {"src", "href", "xlink:href", "srcset", "action", "style"} & attributes.keys()
            assert not [each for each in attributes if each.startswith("on")]
        css = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
        assert not re.search(r"url\(|@import|expression", css)


def test_the_page_shows_hostile_names_as_text():
    text = html.render(hostile())
    assert "<img" not in text
    assert HOSTILE.replace("\x1b", "\ufffd") in Outline(text).text.replace("\x1b", "\ufffd")


def test_the_page_is_for_light_dark_and_phone():
    assert "prefers-color-scheme: dark" in page()
    assert 'name="viewport" content="width=device-width' in page()
    assert "max-width: 560px" in page()


def test_a_whole_run_has_every_section_and_chart():
    outline = Outline(page())
    for heading in (
        "What was found", "Where polling is cheaper", "Thresholds", "Push over polling", "How stale an update is",
        "What it takes", "What it costs the server", "Where polling gets cheaper", "What many clients cost",
        "What clients missed", "All figures", "May it be believed", "Where, and how to repeat it",
    ):  # fmt: skip
        assert heading in outline.text
    titles = re.findall(r"<title>(.*?)</title>", page())[1:]
    for start in (
        "Ratios of ws to poll", "Staleness, linear", "Staleness, logarithmic", "Cumulative requests",
        "Cumulative application",
        "Server CPU beyond the idle control by scenario", "Server memory a client by scenario",
        "Cost of ws over cost of poll",
        "Server CPU by number of clients", "Updates seen", "What each client of poll missed",
    ):  # fmt: skip
        assert any(each.startswith(start) for each in titles), start
    assert "jobctl bench run --profile full --seed 7" in outline.text
    assert "refused: a core is full at" in outline.text
    assert "nan" not in "".join(re.findall(r'(?:points|cx|cy|x1|y1|width)="[^"]*"', page()))


def test_every_drawing_stays_within_its_frame():
    drawings = list(re.finditer(r'<svg viewBox="0 0 (\d+) ([\d.]+)" role="img"(.*?)</svg>', page(), re.DOTALL))
    assert len(drawings) > 15
    for drawing in drawings:
        width, height = float(drawing[1]), float(drawing[2])
        xs = [float(each) for each in re.findall(r'\b(?:x|cx|x1|x2)="(-?[\d.]+)"', drawing[3])]
        ys = [float(each) for each in re.findall(r'\b(?:y|cy|y1|y2)="(-?[\d.]+)"', drawing[3])]
        for points in re.findall(r'points="([^"]*)"', drawing[3]):
            pairs = [each.split(",") for each in points.split()]
            xs += [float(x) for x, _ in pairs]
            ys += [float(y) for _, y in pairs]
        assert -1 <= min(xs) <= max(xs) <= width + 1
        assert -1 <= min(ys) <= max(ys) <= height + 1


def test_a_run_without_details_or_fits_is_drawn_with_what_it_has():
    text = html.render(smoke())
    for absent in ("How stale an update is", "What many clients cost", "Where polling gets cheaper"):
        assert absent not in text
    assert "Push over polling" in text
    assert html.render(smoke(blocks=())).count("<section") < 8


def test_lost_updates_are_seen_however_few():
    blocks = []
    for each in kit.run(repeats=3).blocks:
        if each.scenario == "ws":
            each = msgspec.structs.replace(  # noqa: PLW2901
                each, updates=msgspec.structs.replace(each.updates, lost=1), per_client=((89, 0, 1), (90, 0, 0))
            )
        blocks.append(each)
    text = html.render(smoke(blocks=tuple(blocks)))
    (wide,) = re.findall(r'<rect[^>]* width="([\d.]+)"[^>]* class="part lost"', text)
    assert float(wide) >= 1.5  # one of 9,000 would be a 40th of that
    assert "What each client of ws missed" in text
    assert "ws lost 3 of 27,000 updates." in text


def test_elements_are_escaped_whatever_is_in_them():
    assert svg.text(1.0, 2.0, HOSTILE, '"><b>').count("<") == 2
    assert "&lt;img" in svg.legend([HOSTILE])


@pytest.mark.parametrize("log", [False, True])
def test_ticks_are_round_and_within(log):
    for low, high in ((0.001, 900.0), (0.4, 2.6), (1.0, 1e6), (0.9, 1.4)):
        ticks = svg.Scale(low, high, 0.0, 100.0, log).ticks()
        assert 1 <= len(ticks) <= 9
        assert all(low * (1 - 1e-9) <= each <= high * (1 + 1e-9) for each in ticks)
        assert ticks == sorted(set(ticks))


def test_all_files_are_written(tmp_path):
    folder = tmp_path / "a" / "b"
    written = write(smoke(), folder)
    assert sorted(each.name for each in written) == ["junit.xml", "report.html", "report.md", "run.json"]
    assert decode((folder / "run.json").read_bytes()) == smoke()
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
