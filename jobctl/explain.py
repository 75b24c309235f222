"""What msgspec finds wrong with a value, in words that whoever sent it can act on."""

import re
from typing import Final, get_args

import msgspec

from jobctl.errors import InvalidInput
from jobctl.model import Key, Name, Tag

_SHOWN: Final = 100
"""Characters of a client's own text that are quoted back."""
_WHERE: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>(?:key in )?\$.*)`)?$", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>.*)`")
_PATTERN: Final = re.compile(r"Expected `str` matching regex (?P<pattern>.*)", re.DOTALL)
_DESCRIPTIONS: Final = {repr(meta.pattern): meta.description for _, meta in map(get_args, (Name, Tag, Key))}
_JSON_TYPES: Final = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_BOUNDS: Final = {"<=": "at most", ">=": "at least", "<": "below", ">": "above"}


def explain(error: msgspec.ValidationError, prefix: str = "") -> InvalidInput:
    """A ``msgspec`` error as ours: the path in wire names after ``prefix``, the types by their JSON names."""
    found = _WHERE.match(str(error))
    what, path = (found["what"], found["path"] or "$") if found else (str(error), "$")
    path = path.removeprefix("key in ")
    field = (prefix + path[1:].replace("[...]", "")).removeprefix(".")
    if unknown := _UNKNOWN.fullmatch(what):
        name = unknown["name"][:_SHOWN]
        return InvalidInput(f"there is no field {name!r}", field=_join(field, name))
    if missing := _MISSING.fullmatch(what):
        return InvalidInput(f"{missing['name']} is required", field=_join(field, missing["name"]))
    if pattern := _PATTERN.fullmatch(what):
        what = f"expected {_DESCRIPTIONS.get(pattern['pattern'], 'another form')}"
    else:
        what = re.sub(r"`([\w |]+)`", lambda each: _plain(each[1]), what)
        what = re.sub(r" ([<>]=?) ", lambda each: f" {_BOUNDS[each[1]]} ", what)
    what = what[:1].lower() + what[1:]
    return InvalidInput(f"{field}: {what}" if field else what, field=field or None)


def _join(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name


def _plain(types: str) -> str:
    return re.sub(r"\w+", lambda each: _JSON_TYPES.get(each[0], each[0]), types).replace(" | ", " or ")
