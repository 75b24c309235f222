"""Spans of time, written and read."""

import pytest

from jobctl.durations import parse_span, span_as_written, span_in_words
from jobctl.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("45s", 45), ("90m", 5400), ("12h", 43200), ("30d", 2_592_000), ("2w", 1_209_600), (" 1.5h ", 5400)],
)
def test_a_span_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["0s", "45s", "1.5s", "0.000001s", "90m", "13h", "7d", "400d"])
def test_a_span_is_written_as_it_is_read(text: str) -> None:
    assert span_as_written(parse_span(text)) == text


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1y", "7 d", "1e3s", "nan", "99999w", "٣d", "1d2h"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="write it like 30d") as caught:
        parse_span(text, field="olderThan")
    assert caught.value.field == "olderThan"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (7500, "2 h 5 min"),
        (86399, "23 h 59 min"), (86400, "1 d"), (3 * 86400 + 4 * 3600, "3 d 4 h"), (12 * 86400 + 5 * 3600, "12 d"),
    ],
)  # fmt: skip
def test_a_person_reads_the_two_largest_units(seconds: float, words: str) -> None:
    assert span_in_words(seconds) == words
