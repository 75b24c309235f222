"""Numbers that JSON does not have are found wherever they stand."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobctl.errors import InvalidInput
from jobctl.finite import encode, not_finite

NAN, INF = float("nan"), float("inf")


class Point(msgspec.Struct, rename="camel"):
    at_x: float
    more: Any = None


@dataclasses.dataclass
class Row:
    mean: float


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (NAN, "result is NaN"),
        (INF, "result is Infinity"),
        (-INF, "result is -Infinity"),
        ({"rows": [1.0, {"mean": NAN}]}, "result.rows[1].mean is NaN"),
        ((None, (INF,)), "result[1][0] is Infinity"),
        ({1.5: NAN}, "result.1.5 is NaN"),
        ({NAN}, "result[0] is NaN"),
        (Point(0.0, Point(NAN)), "result.more.atX is NaN"),
        ([Row(INF)], "result[0].mean is Infinity"),
        ([msgspec.Raw(b"[null]"), Point(1.0, msgspec.Raw(b"1")), NAN], "result[2] is NaN"),
    ],
)
def test_it_is_refused_with_its_place(value: Any, told: str) -> None:
    with pytest.raises(InvalidInput, match="a number that JSON does not have") as caught:
        encode(value, "result")
    assert str(caught.value).startswith(told)
    assert caught.value.field == "result"


@pytest.mark.parametrize(
    "value",
    [
        None, [None, 1.5], "null", {"null": 1e308}, Point(1.0), Decimal("NaN"), b"\x00", {"a", None},
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC), [[[]], {}], 10**4000, [msgspec.Raw(b"[null]")],
    ],
)  # fmt: skip
def test_everything_else_is_as_msgspec_writes_it(value: Any) -> None:
    try:
        expected = msgspec.json.encode(value)
    except (TypeError, OverflowError, ValueError) as error:
        with pytest.raises(type(error)):
            encode(value, "result")
    else:
        assert encode(value, "result") == expected


def test_without_a_name_the_place_begins_with_the_field() -> None:
    assert (not_finite({"data": {"x": NAN}}, b"null", "") or "").startswith("data.x is NaN")


def test_a_long_place_is_cut() -> None:
    found = not_finite({"k" * 1000: NAN}, b"null", "result")
    assert found is not None
    assert len(found) < 300


json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(0, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(json)
def test_what_passes_comes_back_as_it_was(value: Any) -> None:
    try:
        text = encode(value, "x")
    except InvalidInput:
        assert "nan" in repr(value) or "inf" in repr(value)
    else:
        assert msgspec.json.decode(text) == value
