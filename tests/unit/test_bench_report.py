"""The report, in all its forms, of runs that nobody ran."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import bench_kit as kit
import msgspec
import pytest
from bench_reports import HOSTILE, hostile, page, shown, smoke, whole
from junitparser import Error, Failure, JUnitXml, Skipped

from bench.report import claims, html, junit, markdown
from bench.report.charts import svg
from bench.report.write import write
from bench.result import decode
from bench.thresholds import Threshold
from jobctl.cli.output import safe


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
    assert safe(HOSTILE) in Outline(text).text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)


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
    assert re.search(r"refused: beyond a core, which is full at [0-9,]+, extrapolated from up to 200", outline.text)
    assert outline.text.count("Bands are optimistic: the blocks of a repeat share its idle control") >= 1
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
    assert "\x1b" not in svg.legend([HOSTILE]) + svg.text(1.0, 2.0, HOSTILE)


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
