"""The report as JUnit XML: a case a threshold and a check, so that a CI service shows them where it shows tests.

A threshold that is inconclusive is skipped, not passed; one that only warns is passed, and says so in its output.
"""

import re
from typing import Final

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from bench.report import claims
from bench.report.figures import number
from bench.result import Judged, Run

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _xml(text: str) -> str:
    """``text`` without the characters that XML 1.0 cannot hold, escaped or not."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def render(run: Run) -> str:
    """The XML document."""
    validity = TestSuite("jobctl bench: validity")
    for each in run.checks:
        case = TestCase(_xml(each.id), "bench.validity")
        if not each.passed:
            case.result = [Error(_xml(each.detail), "invalid")]
        validity.add_testcase(case)
    thresholds = TestSuite("jobctl bench: thresholds")
    for judged in run.thresholds:
        thresholds.add_testcase(_case(run, judged))
    document = JUnitXml("jobctl bench")
    for suite in (validity, thresholds):
        suite.timestamp = _xml(run.started_at)
        suite.add_property("conclusion", run.conclusion)
        suite.add_property("headline", _xml(claims.headline(run)))
        document.add_testsuite(suite)
    document.time = run.seconds
    xml: bytes = document.tostring()  # type: ignore[no-untyped-call]
    return f'<?xml version="1.0" encoding="utf-8"?>\n{xml.decode()}\n'


def _case(run: Run, judged: Judged) -> TestCase:
    case = TestCase(_xml(judged.id), "bench.thresholds")
    over = f" over {judged.vs}" if judged.vs else ""
    value = "no data" if judged.value is None else number(judged.value)
    text = _xml(f"{judged.metric} of {judged.scenario}{over} is {value}, bound {judged.bound}: {judged.detail}")
    if run.conclusion == "invalid":
        case.result = [Skipped("the run is invalid", "invalid")]
    elif judged.outcome in ("fail", "no_data") and judged.severity == "fail":
        case.result = [Failure(text, judged.outcome)]
    elif judged.outcome == "inconclusive":
        case.result = [Skipped(text, "inconclusive")]
    warns = judged.severity == "warn" and judged.outcome in ("warn", "fail", "no_data")
    case.system_out = f"warning: {text}" if warns else text
    return case
