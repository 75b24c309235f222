"""Bodies and query strings, decoded strictly, and what is wrong with them in words a client can act on."""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from jobctl.errors import InvalidInput
from jobctl.explain import explain
from jobctl.web.problems import MalformedJson, UnsupportedMediaType
from jobctl.web.request import ApiRequest

T = TypeVar("T")

JSON: Final = "json"
NDJSON: Final = "ndjson"
_NDJSON_TYPES: Final = frozenset({"application/x-ndjson", "application/ndjson"})
MAX_PARAMETERS: Final = 1000
_SHOWN: Final = 100
"""Characters of a client's own text that are quoted back."""

_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def media_type(request: ApiRequest, *, lines: bool = False) -> str:
    """``JSON`` or, where ``lines`` are taken, ``NDJSON``. Without a Content-Type it is JSON.

    Raises:
        UnsupportedMediaType: anything else; ``text/plain`` and forms too, which a page elsewhere can send unasked.
    """
    if not request.headers.get("Content-Type"):
        return JSON
    kind = request.mimetype
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if charset in {"utf-8", "utf8"}:
        if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
            return JSON
        if lines and kind in _NDJSON_TYPES:
            return NDJSON
    taken = "application/json" + (" or application/x-ndjson" if lines else "")
    raise UnsupportedMediaType(f"send {taken}, in UTF-8")


def decode(decoder: msgspec.json.Decoder[T], raw: bytes, *, prefix: str = "") -> T:
    """``raw`` as the decoder's type. ``prefix`` stands before the JSON path of an error.

    Raises:
        MalformedJson: not JSON.
        InvalidInput: JSON of the wrong shape; ``field`` says where.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise explain(error, prefix) from None
    except msgspec.DecodeError as error:
        reason = "it ends too early" if "truncated" in str(error) else str(error).removeprefix("JSON is malformed: ")
        raise MalformedJson(f"the body is not JSON: {reason}", field=prefix or None) from None
    except UnicodeError:
        raise MalformedJson("the body is not JSON: it is not UTF-8", field=prefix or None) from None
    except RecursionError:
        raise MalformedJson("the body is not JSON that can be read: it nests too deep", field=prefix or None) from None


def query(request: ApiRequest, kind: type[T]) -> T:
    """The query string as ``kind``, a struct whose fields are the parameters.

    A tuple field takes a parameter that is repeated or separated by commas; any other stands once.

    Raises:
        InvalidInput: a parameter is unknown, repeated, of the wrong form or not UTF-8; ``field`` names it.
    """
    several = _tuple_fields(kind)
    values: dict[str, Any] = {}
    for name, value in _pairs(request.query_string):
        if name not in several:
            raise InvalidInput(f"there is no parameter {name[:_SHOWN]!r}", field=name[:_SHOWN])
        if several[name]:
            values.setdefault(name, []).extend(part for part in value.split(",") if part)
        elif name in values:
            raise InvalidInput(f"{name} is given more than once", field=name)
        else:
            values[name] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        problem = explain(error)
        problem.field = (problem.field or "").partition("[")[0] or None
        raise problem from None


_shapes: dict[type, Mapping[str, bool]] = {}


def _tuple_fields(kind: type) -> Mapping[str, bool]:
    """The parameters by their wire names, and whether each may have several values."""
    shape = _shapes.get(kind)
    if shape is None:
        info = msgspec.inspect.type_info(kind)
        fields = info.fields if isinstance(info, msgspec.inspect.StructType) else ()
        shape = {each.encode_name: _is_tuple(each.type) for each in fields}
        _shapes[kind] = shape
    return shape


def _is_tuple(kind: msgspec.inspect.Type) -> bool:
    bare = kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind
    return isinstance(bare, msgspec.inspect.VarTupleType)


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    parts = [part for part in raw.split(b"&") if part]
    if len(parts) > MAX_PARAMETERS:
        raise InvalidInput(f"more than {MAX_PARAMETERS} parameters")
    pairs = []
    for part in parts:
        name, _, value = part.partition(b"=")
        pairs.append((_text(name), _text(value)))
    return pairs


def _text(raw: bytes) -> str:
    if _BROKEN_ESCAPE.search(raw):
        raise InvalidInput("the query string has a % that two hexadecimal digits do not follow")
    try:
        text = unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput("the query string is not UTF-8") from None
    if "\0" in text:
        raise InvalidInput("the query string has a NUL")
    return text
