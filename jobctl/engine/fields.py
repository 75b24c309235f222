"""The fields of a Python handler: read from its signature, checked at enqueue, converted before the call.

An annotated parameter is a typed field: any type that msgspec converts JSON to (``int``, ``list[str]``, ``Literal``,
``Enum``, ``datetime``, ``X | None``, a ``Struct``, bounds by ``Annotated[int, Meta(ge=1)]``), and ``pathlib.Path``.
Without an annotation, or with ``Any`` or ``object``, a field takes any JSON value; so does ``**kwargs``. Where a
``Struct`` is the only parameter besides the context, the job's data *is* that struct: its fields are the job's.

An annotation that cannot be checked is refused when the handler is registered: a handler that is called with a plain
dict where it says ``order: Order`` would fail in the middle of its work.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from msgspec import inspect as shapes

from jobctl.errors import InvalidInput
from jobctl.explain import explain
from jobctl.model import Wire

_MAX_DEFAULT: Final = 1024
"""A default of more JSON bytes than this is not shown: the list of handlers is for a person's eye."""
_MAX_CHOICES: Final = 20
"""Values of an enum that an error lists."""
_FREE: Final = (Any, object, inspect.Parameter.empty)


class Field(Wire, frozen=True):
    """One field of a handler's ``data``; ``default`` is absent where there is none, or none that JSON can show.

    ``schema`` is the JSON Schema (2020-12) of its type, complete in itself (``$defs`` and all); absent where any value
    is taken.
    """

    name: str
    required: bool
    default: Any = UNSET
    schema: dict[str, Any] | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Shape:
    """What a function takes.

    ``kinds`` are the types of its typed fields; ``whole`` names the one parameter that is a struct of all the data.
    """

    fields: tuple[Field, ...]
    reserved: str | None
    """The name of the context, where that could be confused with a field's."""
    allowed: frozenset[str] | None
    """Names that ``data`` may have; None: any, the function takes ``**kwargs``."""
    kinds: Mapping[str, Any]
    whole: str | None = None

    def convert(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments that ``data`` makes. Names have been checked.

        Raises:
            InvalidInput: a value does not fit its type; ``field`` names it.
        """
        if self.whole is not None:
            return {self.whole: _convert(dict(data), self.kinds[self.whole], "data")}
        if not self.kinds:
            return data
        typed = {name: _convert(data[name], kind, f"data.{name}") for name, kind in self.kinds.items() if name in data}
        return {**data, **typed}


def shape_of(fn: Callable[..., Any]) -> Shape:
    """Read the signature of a handler: the context first, then the fields.

    Raises:
        TypeError: it cannot be called with a context and fields by name, or an annotation cannot be checked.
    """
    where = getattr(fn, "__qualname__", repr(fn))
    parameters = list(inspect.signature(fn).parameters.values())
    if not parameters or parameters[0].kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
        raise TypeError(f"{where}: a handler takes the context first: def {where}(ctx, ...)")
    first, *rest = parameters
    reserved = first.name if first.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD else None
    named = list(_by_name(rest, where))
    anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in rest)
    kinds = {p.name: kind for p in named if (kind := _kind(p, fn, where)) not in _FREE}
    if len(named) == 1 and not anything and _is_whole(named[0], kinds):
        [(name, struct)] = kinds.items()
        fields = tuple(_struct_fields(struct, where))
        tag = struct.__struct_config__.tag_field
        return Shape(fields, None, frozenset([*(field.name for field in fields), *([tag] if tag else [])]), kinds, name)
    shown = tuple(_field(parameter, kinds, where) for parameter in named)
    return Shape(shown, reserved, None if anything else frozenset(field.name for field in shown), kinds)


def _by_name(parameters: list[inspect.Parameter], where: str) -> Iterator[inspect.Parameter]:
    """Those that data can be passed to; one that is positional only keeps its default."""
    for parameter in parameters:
        if parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            yield parameter
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY and parameter.default is inspect.Parameter.empty:
            raise TypeError(f"{where}: {parameter.name} cannot be positional-only; data is passed by name")


def _field(parameter: inspect.Parameter, kinds: Mapping[str, Any], where: str) -> Field:
    name, required = parameter.name, parameter.default is inspect.Parameter.empty
    return Field(
        name=name,
        required=required,
        default=UNSET if required else _showable(parameter.default),
        schema=_schema(kinds[name], name, where) if name in kinds else UNSET,
    )


# --- types ---------------------------------------------------------------------------------------------------------


def _kind(parameter: inspect.Parameter, fn: Callable[..., Any], where: str) -> Any:
    """The type that an annotation means, also one that is written as text."""
    if parameter.annotation is inspect.Parameter.empty:
        return parameter.annotation
    holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return typing.get_type_hints(holder, globalns=_globals(fn), include_extras=True)[parameter.name]
    except Exception as error:  # noqa: BLE001 - it is the user's expression
        what = f"{type(error).__name__}: {error}"
        raise TypeError(
            f"{where}: the annotation of {parameter.name} cannot be read ({what}); import what it names also at run "
            "time, or leave it out"
        ) from None


def _globals(fn: Callable[..., Any]) -> dict[str, Any]:
    """The names that an annotation of ``fn`` may use."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn)
    if not hasattr(fn, "__globals__"):
        fn = getattr(type(fn), "__call__", fn)  # noqa: B004 - an object's own
    found: dict[str, Any] = getattr(fn, "__globals__", {})
    return found


def _is_whole(parameter: inspect.Parameter, kinds: Mapping[str, Any]) -> bool:
    kind = kinds.get(parameter.name)
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct) and parameter.default is parameter.empty


def _struct_fields(struct: type[msgspec.Struct], where: str) -> Iterator[Field]:
    if struct.__struct_config__.array_like:
        raise TypeError(f"{where}: {struct.__name__} is an array in JSON, and a job's data is an object")
    _schema(struct, struct.__name__, where)
    for field in msgspec.structs.fields(struct):
        default: Any = UNSET
        if field.default is not msgspec.NODEFAULT:
            default = _showable(field.default)
        elif field.default_factory in (list, dict, set, tuple, frozenset):
            default = _showable(field.default_factory())
        kind = UNSET if field.type in _FREE else _schema(field.type, field.name, where)
        yield Field(name=field.encode_name, required=field.required, default=default, schema=kind)


def _schema(kind: Any, name: str, where: str) -> dict[str, Any]:
    """The JSON Schema of a type.

    Raises:
        TypeError: msgspec cannot convert to it.
    """
    try:
        msgspec.json.Decoder(kind, dec_hook=_from_json)
        schema = msgspec.json.schema(kind, schema_hook=_schema_of)
        msgspec.json.encode(schema)
    except Exception as error:  # noqa: BLE001 - whatever msgspec or a type's own hooks raise
        reason = " ".join(str(error).split()) if "custom type" not in str(error) else "no JSON value becomes one"
        raise TypeError(
            f"{where}: {name} is annotated {getattr(kind, '__name__', kind)}, which cannot be checked: {reason}; use a "
            "type that msgspec converts to, or leave the annotation out"
        ) from None
    return schema


def _convert(value: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(value, kind, str_keys=True, dec_hook=_from_json)
    except msgspec.ValidationError as error:
        problem = explain(error, where)
        if "enum value" in str(error) and problem.field == where and (choices := _choices(kind)):
            problem.args = (f"{problem}; it is one of {', '.join(map(repr, choices[:_MAX_CHOICES]))}",)
        raise problem from None
    except RecursionError:
        raise InvalidInput(f"{where} nests too deep", field=where) from None
    except Exception as error:  # noqa: BLE001 - a struct's own hooks may raise anything
        raise InvalidInput(f"{where}: {type(error).__name__}: {error}", field=where) from None


def _choices(kind: Any) -> list[Any]:
    info = shapes.type_info(kind)
    for each in info.types if isinstance(info, shapes.UnionType) else (info,):
        if isinstance(each, shapes.EnumType):
            return [member.value for member in each.cls]
        if isinstance(each, shapes.LiteralType):
            return list(each.values)
    return []


def _from_json(kind: type, value: Any) -> Any:
    """What msgspec does not convert by itself."""
    if not (isinstance(kind, type) and issubclass(kind, PurePath)):
        raise NotImplementedError
    if not isinstance(value, str):
        raise ValueError(f"expected string (a path), got {type(value).__name__}")  # noqa: TRY004 - msgspec's protocol
    return kind(value)


def _schema_of(kind: type) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, PurePath):
        return {"type": "string"}
    raise NotImplementedError


def _showable(value: object) -> object:
    try:
        text = msgspec.json.encode(value, enc_hook=_shown_path)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return UNSET
    return msgspec.json.decode(text) if len(text) <= _MAX_DEFAULT else UNSET


def _shown_path(value: object) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError
