"""The typed fields of a handler: what is read from a signature, what is refused at enqueue, what the handler gets."""

import enum
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import msgspec
import pytest
from msgspec import Meta

from jobctl.engine.fields import shape_of
from jobctl.engine.registry import Registry
from jobctl.errors import InvalidInput


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Line(msgspec.Struct):
    sku: str
    count: Annotated[int, Meta(ge=1)] = 1


class Order(msgspec.Struct, rename="camel"):
    order_id: int
    lines: list[Line] = []
    note: str | None = None
    at: datetime | None = None


class Strict(msgspec.Struct):
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


class Odd(msgspec.Struct):
    x: int

    def __post_init__(self) -> None:
        raise KeyError("x")


class Plain:
    pass


def taking(annotation: Any) -> Callable[..., Any]:
    def handler(ctx: object, x: Any, **more: Any) -> None: ...

    handler.__annotations__["x"] = annotation
    return handler


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (str, "a", "a"),
        (bool, True, True),
        (list[int], [1, 2], [1, 2]),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[str], ["a", "a"], {"a"}),
        (dict[int, float], {"1": 2}, {1: 2.0}),
        (Literal["a", 1], 1, 1),
        (Colour, "red", Colour.RED),
        (Optional[int], None, None),  # noqa: UP045 - as people write it
        (int | str, "a", "a"),
        (datetime, "2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (Path, "a/b.png", Path("a/b.png")),
        (Path | None, None, None),
        (Line, {"sku": "a"}, Line("a")),
        (list[Line], [{"sku": "a", "count": 2}], [Line("a", 2)]),
        (Annotated[int, Meta(ge=1, le=5)], 5, 5),
        (Any, {"any": ["thing"]}, {"any": ["thing"]}),
        (object, 1.5, 1.5),
        ("int", 3, 3),
        ("list[Colour]", ["blue"], [Colour.BLUE]),
    ],
)
def test_a_value_becomes_what_its_annotation_says(annotation: Any, value: Any, expected: Any) -> None:
    got = shape_of(taking(annotation)).convert({"x": value, "free": "1"})
    assert got == {"x": expected, "free": "1"}
    assert type(got["x"]) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value", "field", "message"),
    [
        (int, "3", "data.x", "data.x: expected integer, got string"),
        (int, 3.5, "data.x", "data.x: expected integer, got number"),
        (int, True, "data.x", "data.x: expected integer, got boolean"),
        (int, None, "data.x", "data.x: expected integer, got null"),
        (float, "3", "data.x", "data.x: expected number, got string"),
        (str, 3, "data.x", "data.x: expected string, got integer"),
        (bool, 1, "data.x", "data.x: expected boolean, got integer"),
        (list[int], [1, "a"], "data.x[1]", "data.x[1]: expected integer, got string"),
        (Colour, "green", "data.x", "data.x: invalid enum value 'green'; it is one of 'red', 'blue'"),
        (Literal["a", "b"], "c", "data.x", "data.x: invalid enum value 'c'; it is one of 'a', 'b'"),
        (Colour | None, "green", "data.x", "data.x: invalid enum value 'green'; it is one of 'red', 'blue'"),
        (int | None, "3", "data.x", "data.x: expected integer or null, got string"),
        (datetime, "yesterday", "data.x", "data.x: invalid RFC3339 encoded datetime"),
        (Path, 3, "data.x", "data.x: expected string (a path), got int"),
        (Annotated[int, Meta(ge=1, le=5)], 6, "data.x", "data.x: expected integer at most 5"),
        (Line, {"count": 2}, "data.x.sku", "sku is required"),
        (Line, {"sku": "a", "count": 0}, "data.x.count", "data.x.count: expected integer at least 1"),
        (Strict, {"low": 2, "high": 1}, "data.x", "data.x: low is above high"),
        (Odd, {"x": 1}, "data.x", "data.x: KeyError: 'x'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_place(
    annotation: Any, value: Any, field: str, message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        shape_of(taking(annotation)).convert({"x": value})
    assert (caught.value.field, str(caught.value)) == (field, message)


class Node(msgspec.Struct):
    child: Optional["Node"] = None


def test_a_value_that_nests_too_deep_is_refused() -> None:
    value: Any = None
    for _ in range(10_000):
        value = {"child": value}
    with pytest.raises(InvalidInput, match=r"data\.x nests too deep"):
        shape_of(taking(Node)).convert({"x": value})


def test_absent_fields_keep_the_functions_own_defaults() -> None:
    assert shape_of(lambda ctx, a=1, b=Path("x"): None).convert({}) == {}


def test_a_struct_that_stands_alone_is_the_data_itself() -> None:
    def ship(ctx: object, order: Order) -> None: ...

    shape = shape_of(ship)
    assert [(field.name, field.required) for field in shape.fields] == [
        ("orderId", True), ("lines", False), ("note", False), ("at", False),
    ]  # fmt: skip
    got = shape.convert({"orderId": 7, "lines": [{"sku": "a"}]})
    assert got == {"order": Order(order_id=7, lines=[Line("a")])}
    with pytest.raises(InvalidInput) as caught:
        shape.convert({"orderId": 7, "lines": [{"sku": "a", "count": "2"}]})
    assert caught.value.field == "data.lines[0].count"


def test_a_handler_with_a_struct_alone_says_which_fields_are_missing_and_unknown() -> None:
    registry = Registry()

    @registry.job("ship")
    async def ship(ctx: object, order: Order) -> None: ...

    for data, field in (({}, "data.orderId"), ({"orderId": 1, "order": 2}, "data.order")):
        with pytest.raises(InvalidInput) as caught:
            registry.check("ship", data)
        assert caught.value.field == field
    with pytest.raises(InvalidInput, match=r"data\.orderId: expected integer, got string"):
        registry.check("ship", {"orderId": "7"})
    assert registry.check("ship", {"orderId": 7}) is not None


def test_a_struct_beside_other_fields_or_with_a_default_is_a_field_like_any_other() -> None:
    def both(ctx: object, order: Order, urgent: bool = False) -> None: ...
    def maybe(ctx: object, order: Order | None = None) -> None: ...

    assert shape_of(both).convert({"order": {"orderId": 1}, "urgent": True}) == {"order": Order(1), "urgent": True}
    assert shape_of(maybe).convert({"order": {"orderId": 1}}) == {"order": Order(1)}
    assert shape_of(maybe).convert({}) == {}


def test_names_of_a_future_import_are_those_of_the_module(tmp_path: Path) -> None:
    source = "from __future__ import annotations\nfrom pathlib import Path as P\n"
    source += "def f(ctx, x: P | None, y: list[int]): ...\n"
    names: dict[str, Any] = {}
    exec(compile(source, "m.py", "exec"), names)
    assert shape_of(names["f"]).convert({"x": "a", "y": [1]}) == {"x": Path("a"), "y": [1]}


def test_objects_and_partials_are_read_like_functions() -> None:
    class Handler:
        def __call__(self, ctx: object, x: "Colour") -> None: ...

    def f(prefix: str, ctx: object, x: "Colour") -> None: ...

    for fn in (Handler(), partial(f, "p")):
        assert shape_of(fn).convert({"x": "red"}) == {"x": Colour.RED}


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Plain, "x is annotated Plain, which cannot be checked: no JSON value becomes one"),
        (list[Plain], "cannot be checked"),
        (int | Plain, "cannot be checked"),
        (complex, "x is annotated complex"),
        (list[int] | set[int], "more than one array-like"),
        ("Nowhere", "the annotation of x cannot be read .*'Nowhere' is not defined"),
        (3, "the annotation of x cannot be read|cannot be checked"),
    ],
)
def test_an_annotation_that_cannot_be_checked_is_refused_when_the_handler_is_registered(
    annotation: Any, reason: str
) -> None:
    with pytest.raises(TypeError, match=reason):
        Registry().job("x")(taking(annotation))


def test_a_struct_that_is_an_array_in_json_cannot_be_the_data() -> None:
    class Pair(msgspec.Struct, array_like=True):
        a: int

    def f(ctx: object, pair: Pair) -> None: ...

    with pytest.raises(TypeError, match="Pair is an array in JSON"):
        shape_of(f)


def test_fields_are_described_well_enough_to_build_a_form() -> None:
    registry = Registry()

    @registry.job("resize")
    def resize(
        ctx: object,
        path: Path,
        width: Annotated[int, Meta(ge=1, le=10_000, description="in pixels")] = 640,
        colour: Colour = Colour.RED,
        lines: list[Line] | None = None,
        anything=None,
        **more: int,
    ) -> None: ...

    [shown] = msgspec.json.decode(msgspec.json.encode(registry.describe()))
    fields = {field["name"]: field for field in shown["fields"]}
    assert fields["path"] == {"name": "path", "required": True, "schema": {"type": "string"}}
    assert fields["width"] == {
        "name": "width",
        "required": False,
        "default": 640,
        "schema": {"type": "integer", "minimum": 1, "maximum": 10_000, "description": "in pixels"},
    }
    assert fields["colour"]["default"] == "red"
    assert fields["colour"]["schema"]["$defs"]["Colour"]["enum"] == ["blue", "red"]
    assert fields["lines"]["schema"]["$defs"]["Line"]["required"] == ["sku"]
    assert fields["anything"] == {"name": "anything", "required": False, "default": None}
    assert "more" not in fields
